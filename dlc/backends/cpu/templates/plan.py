"""Deciding how a nest runs: outer loops, the vector axis, chunks, scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.backends.cpu import access
from dlc.backends.cpu.access import storage_type
from dlc.backends.cpu.templates.normalize import normalize
from dlc.ir.dims import Dim, Symbol, ceildiv, free_symbols, linear, maximum, minimum, product
from dlc.lowering import expr as e
from dlc.lowering.inspect import roots, stages
from dlc.lowering.kernel import (
    Contract,
    Duplicates,
    Kernel,
    LocalTensor,
    Map,
    Recur,
    Reduce,
    Stage,
    Store,
    StoreMode,
)

LANES = 16
#: Length of the pieces into which a long vector axis is cut, so that it too can be spread over chunks.
BLOCK = 2048
#: Element operations that make a chunk: some 2 us of one core.
GRAIN = 16384
MAX_CHUNKS = 64
#: A symbolic extent counts as this many when alternatives are compared.
TYPICAL = 64
#: Cost of an access that is neither contiguous nor uniform along the vector axis, per 16 lanes.
GATHER_COST = 16.0


@dataclasses.dataclass(frozen=True)
class NestPlan:
    """The loops of a nest.

    `outer`: axes shared by all stages. Of them `linear` (with `block_axis`, pieces of the vector axis) make
    the space of points that chunks share out, `nested` are loops within a point, `vector_axis` (None: stages
    choose inner ones) is in lanes. `points` is the size of the linear space. `ordered` axes run one number
    after the other, within a point: stores at indices from data may hit one element at several of their
    numbers.
    """

    kernel: Kernel
    outer: tuple[str, ...]
    linear: tuple[tuple[str, Dim], ...]
    nested: tuple[str, ...]
    vector_axis: str | None
    block: int
    block_axis: str
    points: Dim
    ordered: frozenset[str]


def domain(stage: Stage) -> tuple[str, ...]:
    """The axes over which a stage has results (the axes that it reduces not included)."""
    match stage:
        case Map(out, _):
            return out.axes
        case Store():
            return stage.axes
        case Reduce(outs, _, _, _):
            return outs[0].axes
        case Contract():
            return stage.out.axes
        case Recur():
            axes = list(stage.states[0].local.axes)
            for inner in stage.body:
                axes = [axis for axis in axes if axis in domain(inner)]
            return tuple(axes)
    raise TypeError(f"a {type(stage).__name__} is no nest")


def all_axes(stage: Stage) -> tuple[str, ...]:
    """Every axis along which a stage works."""
    match stage:
        case Reduce(outs, axes, _, _):
            return (*outs[0].axes, *axes)
        case Contract():
            return (*stage.out.axes, *stage.spec.reduce)
        case Recur():
            return tuple(dict.fromkeys(a for s in stage.body for a in (*all_axes(s), stage.axis)))
    return domain(stage)


def locals_of(stage: Stage) -> tuple[LocalTensor, ...]:
    """The locals that a stage defines itself (not those of the stages inside it)."""
    match stage:
        case Map(out, _):
            return (out,)
        case Reduce(outs, _, _, _):
            return outs
        case Contract():
            return (stage.out,)
        case Recur():
            return tuple(state.local for state in stage.states)
    return ()


def crossed_axes(kernel: Kernel) -> set[str]:
    """Axes along which a point of some stage reads a local at another point than its own."""
    axes = {local.name: local.axes for stage in stages(kernel.body) for local in locals_of(stage)}
    crossed: set[str] = set()
    for stage in stages(kernel.body):
        for node in e.walk(*roots(stage)):
            if isinstance(node, e.Read):
                crossed.update(_crossed(axes[node.local], node.index))
    return crossed


def _crossed(axes: Sequence[str], index: Sequence[Dim]) -> set[str]:
    """The axes of a local that are not read at themselves."""
    if len(index) == len(axes):
        return {axis for axis, at in zip(axes, index) if not (isinstance(at, Symbol) and at.name == axis)}
    # An axis that was split into blocks: its index entry speaks of both parts.
    return set(axes) - {symbol.name for at in index for symbol in free_symbols(at)}


def plan_nest(kernel: Kernel) -> NestPlan:
    """The plan of a kernel whose stages share their outer axes."""
    kernel = normalize(kernel)
    shared = [set(domain(stage)) for stage in kernel.body]
    crossed = crossed_axes(kernel)
    outer = [
        axis.name
        for axis in kernel.axes
        if axis.name not in crossed and all(axis.name in axes for axes in shared)
    ]
    ordered = frozenset(
        axis
        for store in stages(kernel.body)
        if isinstance(store, Store)
        for axis in _colliding_axes(kernel, store)
    )
    vector = _choose_vector_axis(kernel, [axis for axis in outer if axis not in ordered])
    loops = [axis for axis in outer if axis != vector and axis not in ordered]
    block, block_axis = 0, ""
    nested: list[str] = []
    if vector is not None:
        extent = kernel.extent(vector)
        others = product([kernel.extent(axis) for axis in loops])
        if _size(others) < MAX_CHUNKS and (not isinstance(extent, int) or extent > BLOCK):
            block, block_axis = BLOCK, f"{vector}_block"
        elif loops and _size(extent) <= 4 * LANES and _size(others) > 4 * MAX_CHUNKS:
            nested = [loops.pop()]
    space: list[tuple[str, Dim]] = [(axis, kernel.extent(axis)) for axis in loops]
    if block and vector is not None:
        space.append((block_axis, ceildiv(kernel.extent(vector), block)))
    nested += [axis for axis in outer if axis in ordered]
    points = product([extent for _, extent in space])
    return NestPlan(
        kernel, tuple(outer), tuple(space), tuple(nested), vector, block, block_axis, points, ordered
    )


def _colliding_axes(kernel: Kernel, store: Store) -> set[str]:
    """The axes along which points of the store may hit one element, so that their order counts.

    Points that differ along an axis never do where entries of the index speak of this axis alone, each number
    of it giving them others: then the place that they make up is proportional to it.
    """
    if store.mode is StoreMode.SET and store.duplicates is Duplicates.FORBIDDEN:
        return set()
    dims: list[Dim] = [0 if isinstance(entry, e.Expr) else entry for entry in store.index]
    place = access.offset(kernel.param(store.param), dims)
    colliding = set(store.axes)
    for name in store.axes:
        axis = kernel.axis(name).symbol
        affine = linear(place, axis)
        alone = all(free_symbols(dim) <= {axis} for dim in dims if axis in free_symbols(dim))
        if alone and affine is not None and affine[0] != 0:
            colliding.discard(name)
    return colliding


def _size(dim: Dim) -> int:
    """A number to compare extents with: the extent, or a typical one."""
    if isinstance(dim, int):
        return dim
    from dlc.ir.dims import evaluate

    return evaluate(dim, {symbol.name: TYPICAL for symbol in free_symbols(dim)})


def _choose_vector_axis(kernel: Kernel, outer: Sequence[str]) -> str | None:
    """The outer axis along which the accesses are cheapest; None when inner axes are better."""
    best, best_cost = None, sum(_inner_cost(kernel, outer, stage) for stage in kernel.body)
    for axis in reversed(outer):
        cost = sum(_stage_cost(kernel, stage, axis) for stage in kernel.body)
        if cost < best_cost:
            best, best_cost = axis, cost
    return best


def _inner_cost(kernel: Kernel, outer: Sequence[str], stage: Stage) -> float:
    """The cost of a stage that vectorizes one of its own axes, or none."""
    if isinstance(stage, Recur):
        step = sum(_inner_cost(kernel, outer, inner) for inner in stage.body)
        return _size(kernel.extent(stage.axis)) * step
    inner = [axis for axis in all_axes(stage) if axis not in outer]
    costs = [_stage_cost(kernel, stage, axis) for axis in inner if not _sequential(stage, axis)]
    return min([*costs, _trips(kernel, stage) * max(1, len(_accesses(stage)))])


def _sequential(stage: Stage, axis: str) -> bool:
    return isinstance(stage, Recur) and (stage.axis == axis or axis not in domain(stage))


def _stage_cost(kernel: Kernel, stage: Stage, axis: str) -> float:
    """Vector instructions of a stage when `axis` is in lanes."""
    if _sequential(stage, axis):
        return float("inf")
    if isinstance(stage, Recur):
        step = sum(_stage_cost(kernel, inner, axis) for inner in stage.body)
        return _size(kernel.extent(stage.axis)) * step
    extent = max(_size(kernel.extent(axis)), 1)
    trips = _trips(kernel, stage) / extent * (-(-extent // LANES))
    cost = 0.5
    for param, place in _offsets(kernel, stage):
        del param
        affine = linear(place, kernel.axis(axis).symbol)
        stride = None if affine is None else affine[0]
        cost += 1.0 if stride in (0, 1) else GATHER_COST
    return trips * cost


def _trips(kernel: Kernel, stage: Stage) -> float:
    size = 1.0
    for axis in all_axes(stage):
        size *= max(_size(kernel.extent(axis)), 1)
    return size


def _accesses(stage: Stage) -> list[tuple[str, tuple[e.Index, ...]]]:
    found: dict[tuple[str, tuple[e.Index, ...]], None] = {}
    for inner in stages((stage,)):
        for node in e.walk(*roots(inner)):
            if isinstance(node, e.Load):
                found[(node.param, node.index)] = None
        if isinstance(inner, Store):
            found[(inner.param, inner.index)] = None
    return list(found)


def _offsets(kernel: Kernel, stage: Stage) -> list[tuple[str, Dim]]:
    """The offset of every access of a stage; data-dependent entries count as an unknown along their own axes.
    """
    result = []
    for param, index in _accesses(stage):
        dims: list[Dim] = [0 if isinstance(entry, e.Expr) else entry for entry in index]
        place = access.offset(kernel.param(param), dims)
        for entry in index:
            if isinstance(entry, e.Expr):
                for symbol in _axes_of(entry):
                    place = place + symbol * Symbol("data", 2)
        result.append((param, place))
    return result


def _axes_of(expr: e.Expr) -> set[Symbol]:
    from dlc.lowering.inspect import expr_dims

    return {symbol for dim in expr_dims(expr) for symbol in free_symbols(dim)}


def inner_vector_axis(plan: NestPlan, stage: Stage, axes: Sequence[str]) -> str | None:
    """Which of a stage's inner `axes` to put in lanes; None when a scalar loop is no worse."""
    best, best_cost = None, _trips(plan.kernel, stage) * max(1, len(_accesses(stage)))
    for axis in reversed(axes):
        if axis not in plan.ordered and not _sequential(stage, axis):
            cost = _stage_cost(plan.kernel, stage, axis)
            if cost < best_cost:
                best, best_cost = axis, cost
    return best


def chunk_count(plan: NestPlan) -> Dim:
    """Chunks of a launch: by work, at most one a point; the same whatever the number of threads."""
    work: Dim = 0
    for stage in plan.kernel.body:
        each = product([plan.kernel.extent(axis) for axis in all_axes(stage)])
        work = work + each * _weight(stage)
    return minimum(plan.points, MAX_CHUNKS, maximum(1, work // GRAIN))


def _weight(stage: Stage) -> int:
    """Rough cost of one point of a stage, in element operations."""
    nodes = sum(
        1
        for inner in stages((stage,))
        for node in e.walk(*roots(inner))
        if not isinstance(node, e.Const | e.Read)
    )
    return max(1, nodes // 2)


def scratch_layout(plan: NestPlan) -> tuple[dict[LocalTensor, tuple[Dim, tuple[str, ...]]], Dim]:
    """Where the locals with inner axes lie in scratch (byte offset, inner axes), and the bytes in all.

    A state of a recurrence has two copies, one after the other: before and after a step.
    """
    layout: dict[LocalTensor, tuple[Dim, tuple[str, ...]]] = {}
    total: Dim = 0
    for stage in stages(plan.kernel.body):
        for out in locals_of(stage):
            inner = tuple(axis for axis in out.axes if axis not in plan.outer)
            if inner:
                layout[out] = (total, inner)
                copies = 2 if isinstance(stage, Recur) else 1
                total = total + local_bytes(plan, out, inner) * copies
    return layout, total


def local_bytes(plan: NestPlan, local: LocalTensor, inner: Sequence[str]) -> Dim:
    """Bytes of one copy of a local in scratch, whole cache lines."""
    lanes = LANES if plan.vector_axis is not None else 1
    size = product([plan.kernel.extent(axis) for axis in inner]) * lanes
    return ceildiv(size * max(storage_type(local.dtype).bytes, 1), 64) * 64
