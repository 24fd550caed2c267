"""Recurrences that are computed point by point: cumulative sums and products, filters, simple scans.

Where no point of a state depends on others there is one launch: a program takes a block of points, and walks
the steps with the states in registers. Sums and products along the elements of few rows are taken a block of
steps at once: Triton's scan within the block, and what came before it carried on. Either way the order of the
operations depends on the sizes alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from dlc.backends.triton import tiles
from dlc.backends.triton.elements import register_type
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.offsets import Tile
from dlc.backends.triton.semantics import binary, constant
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dims import Dim
from dlc.lowering import expr as e
from dlc.lowering.inspect import loads, roots
from dlc.lowering.kernel import Axis, Duplicates, Kernel, Map, Recur, Stage, State, Store, StoreMode
from dlc.target import GpuTarget

#: Points of a program that walks step by step, and steps that are taken at once.
POINTS = 128
STEPS = 1024
#: With at least so many rows each of them is walked step by step.
_ROWS = 4096
#: The local that stands for the state after a step.
_AFTER = "after the step"
_MONOIDS = {"add": ("combine_sum", 0), "mul": ("combine_prod", 1)}


@dataclasses.dataclass(frozen=True)
class Form:
    """The recurrence, its stores and those after it; the axes of points in the order of memory.

    `maps` are by name those before the recurrence and of a step. `term` is what each step adds to the only
    state (or multiplies it by), if that is all.
    """

    recur: Recur
    stores: tuple[Store, ...]
    last: tuple[Store, ...]
    axes: tuple[Axis, ...]
    maps: dict[str, Map]
    term: e.Expr | None


def match(part: Kernel) -> Form | Declined:
    """Takes maps, one recurrence of maps and plain stores, and plain stores of its last states."""
    recurs = [stage for stage in part.body if isinstance(stage, Recur)]
    if len(recurs) != 1:
        return Declined(f"there are {len(recurs)} recurrences")
    recur = recurs[0]
    place = part.body.index(recur)
    stages = (*part.body[:place], *recur.body, *part.body[place + 1 :])
    maps: dict[str, Map] = {}
    for stage in stages:
        match stage:
            case Map(out, _):
                maps[out.name] = stage
            case Store(mode=StoreMode.SET, duplicates=Duplicates.FORBIDDEN):
                pass
            case _:
                return Declined(f"a {type(stage).__name__} is not computed point by point")
    if any(isinstance(stage, Store) for stage in part.body[:place]):
        return Declined("something is stored before the recurrence")
    names = recur.states[0].local.axes if recur.states else ()
    reason = _reason(part, recur, stages, set(names))
    if reason:
        return Declined(reason)
    inside, after = (
        tuple(stage for stage in body if isinstance(stage, Store))
        for body in (recur.body, part.body[place + 1 :])
    )
    if not inside and not after:
        return Declined("there is nothing to store")
    first = (inside or after)[0]
    axes = tuple(tiles.by_stride(part, first.param, first.index, names))
    return Form(recur, inside, after, axes, maps, _term(recur, maps))


def _reason(part: Kernel, recur: Recur, stages: Sequence[Stage], axes: set[str]) -> str | None:
    """Why points of the states are not independent of each other."""
    states = {state.local.name: state.local for state in recur.states}
    stored = {stage.param for stage in stages if isinstance(stage, Store)}
    for stage in stages:
        if isinstance(stage, Store) and set(stage.axes) != axes:
            return f"the store to {stage.param} walks other axes than the states"
    if any(set(local.axes) != axes for local in states.values()):
        return "states have different axes"
    if any(load.param in stored for load in loads(part.body)):
        return "what is stored is loaded, too"
    for node in e.walk(*(root for stage in (*stages, recur) for root in roots(stage))):
        if isinstance(node, e.Read) and node.local in states:
            index = tuple(part.axis(axis).symbol for axis in states[node.local].axes)
            if node.mask or node.index != index:
                return f"{node.local} is read at another point than where it is computed"
    return None


def _term(recur: Recur, maps: Mapping[str, Map]) -> e.Expr | None:
    """What is combined with the only state in each step."""
    match recur.states:
        case (State(local, _, e.Binary(_, fn, e.Read(local=name), term)) as state,):
            if fn in _MONOIDS and name == local.name and not _depends(term, state, maps):
                return term
    return None


def _depends(value: e.Expr, state: State, maps: Mapping[str, Map]) -> bool:
    """Whether a value depends on what the state was."""
    read = {node.local for node in e.walk(value) if isinstance(node, e.Read)}
    return state.local.name in read or any(
        _depends(maps[name].value, state, maps) for name in read if name in maps
    )


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call:
    """One program a block of points, or a point."""
    del target
    count = tiles.extent_of(form.axes)
    is_few = count < _ROWS if isinstance(count, int) else _lies_along(part, form)
    extent = part.extent(form.recur.axis)
    is_long = not isinstance(extent, int) or extent >= 32
    scan = _Scan(part, form, count)
    return scan.blocks_of_steps() if form.term is not None and is_few and is_long else scan.steps()


def _lies_along(part: Kernel, form: Form) -> bool:
    """Whether the elements of the steps lie side by side."""
    axis = part.axis(form.recur.axis)
    return any(tiles.stride(part.param(s.param), s.index, axis) == 1 for s in form.stores)


class _Scan:
    def __init__(self, part: Kernel, form: Form, count: Dim) -> None:
        self.form = form
        self.recur = form.recur
        self.builder = FunctionBuilder(part)
        self.count = count
        self.extent = part.extent(form.recur.axis)
        self.axis = part.axis(form.recur.axis)

    # --- step by step

    def steps(self) -> Call:
        builder, recur = self.builder, self.recur
        block = tiles.fitting(self.count, 1, POINTS)
        builder.line(f"point = {tiles.program_id(builder, 0)} * {block} + tl.arange(0, {block})")
        points = Points((tiles.tile(builder, "point", self.form.axes, block),))
        outer = Emitter(builder, points, maps=self.form.maps)
        states = [self._start(outer, state, (block,)) for state in recur.states]
        names = {state.local.name: name for state, name in zip(recur.states, states)}
        with builder.block(f"for step in range(0, {builder.dim(self.extent)}):"):
            builder.line(f"{recur.axis} = {self._step('step')}")
            inner = Emitter(builder, points, names, self.form.maps)
            following = [builder.assign("next", inner.value(state.next)) for state in recur.states]
            for store in self.form.stores:
                inner.store(store)
            for name, value in zip(states, following):
                builder.line(f"{name} = {value}")
        self._finish(Emitter(builder, points, names, self.form.maps))
        return builder.finish("scan", (tiles.blocks(self.count, block),), num_warps=max(1, block // 32))

    def _start(self, emitter: Emitter, state: State, shape: tuple[int, ...]) -> str:
        kind = register_type(state.local.dtype)
        value = f"tl.cast({emitter.value(state.start)}, {kind})"
        return self.builder.assign("state", f"tl.broadcast_to({value}, {shape})")

    def _step(self, number: str) -> str:
        return f"{self.builder.dim(self.extent - 1)} - {number}" if self.recur.reverse else number

    def _finish(self, emitter: Emitter) -> None:
        for store in self.form.last:
            emitter.store(store)

    # --- blocks of steps

    def blocks_of_steps(self) -> Call:
        builder, form = self.builder, self.form
        (state,) = self.recur.states
        block = tiles.fitting(self.extent, 1, STEPS)
        builder.line(f"point = {tiles.program_id(builder, 0)} + tl.arange(0, 1)")
        row = tiles.tile(builder, "point", form.axes, 1)
        rows = Points((row,))
        carried = self._start(Emitter(builder, rows, maps=form.maps), state, (1,))
        with builder.block(f"for start in range(0, {builder.dim(self.extent)}, {block}):"):
            builder.line(f"lane = tl.arange(0, {block})")
            builder.line("step = start + lane")
            bound = None
            if not isinstance(self.extent, int) or self.extent % block:
                bound = builder.assign("valid", f"step < {builder.dim(self.extent)}")
            points = Points((row, Tile("step", (self.axis.name,), (self.axis.name,), bound)))
            names = {_AFTER: self._scanned(points, bound, carried, block)}
            stores = [self._rewritten(store) for store in form.stores]
            if any(_depends(store.value, state, form.maps) for store in stores):
                names[state.local.name] = self._scanned(points, bound, carried, block, before=True)
            builder.line(f"{self.axis.name} = {self._step('step')}")
            emitter = Emitter(builder, points, names, form.maps)
            for store in stores:
                emitter.store(store)
            # Nothing is added beyond the last step.
            last = f"tl.sum(tl.where(lane == {block - 1}, {names[_AFTER]}, 0), 0, keep_dims=True)"
            builder.line(f"{carried} = {last}.to({register_type(state.local.dtype)})")
        self._finish(Emitter(builder, rows, {state.local.name: carried}, form.maps))
        return builder.finish("scan_blocks", (self.count,), num_warps=max(1, min(4, block // 128)))

    def _scanned(
        self, points: Points, bound: str | None, carried: str, block: int, before: bool = False
    ) -> str:
        """Write the state after each of the steps, or before it: that after the one before."""
        builder = self.builder
        (state,) = self.recur.states
        assert isinstance(state.next, e.Binary) and self.form.term is not None
        combine, start = _MONOIDS[state.next.fn]
        dtype = state.local.dtype
        builder.line(f"{self.axis.name} = {self._step('tl.maximum(step - 1, 0)' if before else 'step')}")
        text = Emitter(builder, points, maps=self.form.maps).value(self.form.term)
        term = builder.assign("term", f"tl.broadcast_to(tl.cast({text}, {register_type(dtype)}), ({block},))")
        where = [*([bound] if bound else []), *(["(lane > 0)"] if before else [])]
        if where:
            nothing = constant(start, dtype)
            term = builder.assign("term", f"tl.where({' & '.join(where)}, {term}, {nothing})")
        scanned = builder.assign("scanned", f"tl.associative_scan({term}, 0, {combine})")
        return builder.assign("state", binary(state.next.fn, dtype, carried, scanned))

    def _rewritten(self, store: Store) -> Store:
        """A store at the steps of a block, too, with the state after a step by its name."""
        (state,) = self.recur.states
        index = tuple(axis.symbol for axis in map(self.builder.kernel.axis, state.local.axes))
        after = e.Read(state.local.dtype, _AFTER, index)
        value = e.rewrite(store.value, lambda node: after if node == state.next else None)
        return dataclasses.replace(store, value=value, axes=(*store.axes, self.axis.name))
