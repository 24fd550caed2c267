"""Split K: a contraction of few tiles, its reduced axis divided among more programs.

The part becomes two kernels: the first has the number of a chunk as one more batch axis and stores the sums
of each chunk; the second adds these in order, so that results do not depend on chance, and does the rest.
The lengths of chunks are numbers of the generated code: a row's result does not depend on how many others
there are.

before: s[i, j] = contract over k of x[i, k], w[k, j]; y[i, j] = f(s[i, j])
after:  s[t, i, j] = contract over k of x[i, 64*t + k], w[64*t + k, j]; p[t, i, j] = s[t, i, j]
        s[i, j] = p[0, i, j] + p[1, i, j]; y[i, j] = f(s[i, j])
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.parts import Workspace, workspace_name
from dlc.backends.triton.templates.contraction_form import Form
from dlc.ir.dims import Dim
from dlc.ir.types import TensorType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Access, Axis, Contract, Kernel, LocalTensor, Map, Param, Stage, Store


def divided_axis(form: Form) -> Axis | None:
    """The reduced axis of known extent that is divided: the longest; None if there is none."""
    known = {axis: axis.extent for axis in form.inner if isinstance(axis.extent, int)}
    return max(known, key=lambda axis: known[axis], default=None)


@dataclasses.dataclass(frozen=True)
class Split:
    """The two kernels, and the memory between them."""

    sums: Kernel
    rest: Kernel
    workspace: Workspace


def split(part: Kernel, form: Form, chunks: int) -> Split:
    """The part in two; `chunks` divides the extent of the divided axis."""
    axis = divided_axis(form)
    assert axis is not None and isinstance(axis.extent, int) and axis.extent % chunks == 0
    chunk = Axis(_free_name(part), chunks)
    short = Axis(axis.name, axis.extent // chunks, axis.kind)
    contract = form.contract
    points = _in_memory(part, form)
    shape = (chunks, *(point.extent for point in points))
    space = Workspace(
        workspace_name(f"{contract.out.name}_chunks"), TensorType(contract.out.dtype, shape)
    )
    at = {axis.name: chunk.symbol * short.extent + short.symbol}
    out = LocalTensor(contract.out.name, contract.out.dtype, (chunk.name, *contract.out.axes))
    first = Contract(
        out,
        dataclasses.replace(contract.spec, batch=(chunk.name, *contract.spec.batch)),
        e.substitute(contract.left, at),
        e.substitute(contract.right, at),
    )
    index = tuple(part.axis(name).symbol for name in contract.out.axes)
    value = e.Read(out.dtype, out.name, (chunk.symbol, *index))
    names = tuple(point.name for point in points)
    symbols = tuple(point.symbol for point in points)
    store = Store(space.name, (chunk.name, *names), (chunk.symbol, *symbols), value)
    axes = tuple(short if each.name == axis.name else each for each in part.axes)
    sums = _kernel(part, (*axes, chunk), (first, store), Param(space.name, space.type, Access.WRITE))
    rest = [stage for stage in part.body if not isinstance(stage, Contract)]
    added = Map(contract.out, _sum(space, chunks, symbols))
    return Split(
        sums, _kernel(part, part.axes, (added, *rest), Param(space.name, space.type, Access.READ)), space
    )


def _sum(space: Workspace, chunks: int, index: tuple[Dim, ...]) -> e.Expr:
    """The sum of the chunks at one point, the first ones first."""
    dtype = space.type.dtype
    total: e.Expr = e.Load(dtype, space.name, (0, *index))
    for number in range(1, chunks):
        total = e.Binary(dtype, "add", total, e.Load(dtype, space.name, (number, *index)))
    return total


def _in_memory(part: Kernel, form: Form) -> list[Axis]:
    """The axes of the points in the order of the first store."""
    first = form.stores[0]
    return tiles.by_stride(part, first.param, first.index, form.contract.out.axes)


def _kernel(part: Kernel, axes: tuple[Axis, ...], body: tuple[Stage, ...], space: Param) -> Kernel:
    """A kernel of these stages; parameters and axes that it does not use do no harm."""
    return dataclasses.replace(part, params=(*part.params, space), axes=axes, body=body)


def _free_name(part: Kernel) -> str:
    names = {axis.name for axis in part.axes}
    return next(f"chunk{i}" for i in range(len(names) + 1) if f"chunk{i}" not in names)
