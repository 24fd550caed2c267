"""How much a kernel computes and moves: operations of its contractions, bytes of its parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from dlc.ir.dims import Dim, free_symbols, minimum, product, total
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import node_dims, roots, stages
from dlc.lowering.kernel import Access, Contract, Kernel, Param, Recur, Routine, Stage, Store, StoreMode


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of one launch.

    `flops` counts a multiplication and an addition for each term of a contraction, whatever algorithm
    computes it, and nothing else. `reads` and `writes` are bytes of parameters, each element once; of a
    parameter of which a kernel uses some elements only, at most as many as it has points to use them at.
    `dtype` is that of the contractions, None without any.
    """

    flops: Dim
    reads: Dim
    writes: Dim
    dtype: DType | None


def kernel_work(kernel: Kernel) -> Work:
    """The work of a launch of `kernel`, over the symbols of its extents."""
    found = list(_contractions(kernel, kernel.body, 1))
    return Work(
        total(2 * terms for _, terms in found),
        total(_bytes(param, _read_points(kernel, param)) for param in kernel.reads),
        total(_bytes(param, _written_points(kernel, param)) for param in kernel.writes),
        found[0][0].out.dtype if found else None,
    )


def _contractions(kernel: Kernel, body: Iterable[Stage], times: Dim) -> Iterator[tuple[Contract, Dim]]:
    """Each contraction with the number of its terms, those in a recurrence for all of its steps."""
    for stage in body:
        if isinstance(stage, Contract):
            spec = stage.spec
            axes = (*spec.batch, *spec.rows, *spec.columns, *spec.reduce)
            yield stage, times * product(map(kernel.extent, axes))
        elif isinstance(stage, Recur):
            yield from _contractions(kernel, stage.body, times * kernel.extent(stage.axis))


def _bytes(param: Param, points: Dim | None) -> Dim:
    """Bytes of the elements of `param` that are used at so many points, None: of all."""
    elements = param.type.elements
    return param.type.dtype.itemsize * (elements if points is None else minimum(elements, points))


def _read_points(kernel: Kernel, param: Param) -> Dim | None:
    """A bound of the elements of a parameter that a kernel reads; None where that is its size."""
    points: list[Dim] = []
    for stage in stages(kernel.body):
        if isinstance(stage, Routine) and param.name in stage.params:
            return None
        if isinstance(stage, Store) and stage.param == param.name and stage.mode is not StoreMode.SET:
            points.append(product(map(kernel.extent, stage.axes)))
        for node in e.walk(*roots(stage)):
            if isinstance(node, e.Load) and node.param == param.name:
                points.append(_points(kernel, node.index))
    return _bound(param, points)


def _written_points(kernel: Kernel, param: Param) -> Dim | None:
    """A bound of the elements of a parameter that a kernel writes; None where that is its size."""
    points: list[Dim] = []
    for stage in stages(kernel.body):
        if isinstance(stage, Routine) and param.name in stage.params:
            return None
        if isinstance(stage, Store) and stage.param == param.name:
            points.append(_points(kernel, stage.index))
    return _bound(param, points)


def _bound(param: Param, points: list[Dim]) -> Dim | None:
    """The sum of `points`. Where sizes are symbolic, a parameter that is only read or only written is used as
    a whole as a rule, and a bound by its points would be a long expression that says nothing."""
    bound = total(points)
    if not points:
        return 0
    is_short = isinstance(bound, int) and isinstance(param.type.elements, int)
    return bound if is_short or len(points) == 1 or param.access is Access.UPDATE else None


def _points(kernel: Kernel, index: tuple[e.Index, ...]) -> Dim:
    """How many different points an index has at most: the product of the axes that it depends on."""
    dims: list[Dim] = []
    for entry in index:
        if isinstance(entry, e.Expr):
            dims += [dim for node in e.walk(entry) for dim in node_dims(node)]
        else:
            dims.append(entry)
    used = {symbol.name for dim in dims for symbol in free_symbols(dim)}
    return product(axis.extent for axis in kernel.axes if axis.name in used)
