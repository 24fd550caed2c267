"""LSTM, GRU and the like: the whole recurrence of some sequences in one chunk.

In each step, the products of the state with the weights of all gates go to scratch memory, tile by tile; then
the cell's formulas are applied to 16 units at a time. Every other step walks the weights backwards, so that
those used last, still in the cache, come first. The input's product is not computed here but for all steps at
once, by another kernel.
"""
from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame, Packing
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.recurrent_form import recurrent_form
from dlc.backends.cpu.templates.recurrent_plan import PhasePlan, RecurrentPlan, pack, plan_recurrent
from dlc.backends.cpu.templates.row_product import LANES, VECTOR, RowProduct, call_row_product
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim
from dlc.lowering.kernel import Kernel, Store


def match(kernel: Kernel, module: Module) -> Match[RecurrentPlan] | Declined:
    """Whether `kernel` is a recurrent layer with constant weights, computed in f32."""
    form = recurrent_form(kernel)
    return form if isinstance(form, Declined) else Match(plan_recurrent(form, module.target))


def emit(module: Module, name: str, match: Match[RecurrentPlan]) -> CompiledKernel:
    """Write the function of a matched kernel."""
    return _Recurrent(module, name, match.form).emit()


class _Recurrent:
    """The emission of one kernel."""

    def __init__(self, module: Module, name: str, plan: RecurrentPlan) -> None:
        self.plan = plan
        self.form = plan.form
        self.frame = KernelFrame(module, name, plan.form.kernel, [plan.chunks, plan.batch_chunks])
        self.b, self.em = self.frame.b, self.frame.emitter
        self.products = self.frame.scratch
        self.buffers = {name: self.b.byte_offset(self.frame.scratch, at) for name, at in plan.buffers.items()}
        self.direction: t.Index = 0

    def emit(self) -> CompiledKernel:
        b, plan, form = self.b, self.plan, self.form
        chunks, batch = self._number(plan.batch_chunks), self._number(form.batch.extent)
        chunk: t.Index = self.frame.chunk
        if form.direction is not None:
            self.direction, chunk = b.udiv(chunk, chunks), b.urem(chunk, chunks)
            self.em.axes[form.direction.name] = b.value(self.direction)
        self.first = b.udiv(b.mul(chunk, batch), chunks)
        self.count = b.sub(b.udiv(b.mul(b.add(chunk, 1), batch), chunks), self.first)
        self._everywhere(self._start)
        self._steps()
        self._everywhere(self._finish)
        packing: dict[str, Packing] = {}
        for name in dict.fromkeys(phase.phase.weights.param.name for phase in plan.phases):
            phases = tuple(phase for phase in plan.phases if phase.phase.weights.param.name == name)
            packing[name] = functools.partial(pack, phases, form.directions, form.units)
        return self.frame.finish("recurrent", plan.chunks, plan.bytes, packing)

    def _number(self, dim: Dim) -> t.Index:
        return dim if isinstance(dim, int) else self.em.dim(dim)

    def _steps(self) -> None:
        b, recur = self.b, self.form.recur
        steps = self._number(self.form.step.extent)
        with b.loop(0, steps, name="step") as loop, self.em.scope():
            at = b.sub(b.sub(steps, 1), loop.iv) if recur.reverse else loop.iv
            self.em.axes[recur.axis] = b.value(at)
            backwards = b.icmp("ne", b.and_(loop.iv, 1), 0)
            for phase in self.plan.phases:
                self._multiply(phase, backwards)
                self._everywhere(functools.partial(self._cell, phase))

    # --- products

    def _multiply(self, plan: PhasePlan, backwards: t.Value) -> None:
        """The products of a phase for all sequences of the chunk, tile of weights by tile."""
        b = self.b
        size = self.form.units * plan.vectors * LANES
        tiles = b.ceil_div(self.count, self.plan.tile_rows)
        with b.loop(0, plan.tiles, name="tile") as loop:
            tile = b.select(backwards, b.sub(plan.tiles - 1, loop.iv), b.value(loop.iv))
            at = b.add(b.mul(b.add(b.mul(self.direction, plan.tiles), tile), size), plan.at)
            weights = b.offset(self.frame.pointers[plan.phase.weights.param.name], at, t.f32)
            with b.loop(0, tiles, name="rows") as rows:
                first = b.udiv(b.mul(rows.iv, self.count), tiles)
                count = b.sub(b.udiv(b.mul(b.add(rows.iv, 1), self.count), tiles), first)
                for each in b.switch(b.value(count), range(1, self.plan.tile_rows + 1), name="rows"):
                    self._tile(plan, each, weights, tile, first)

    def _tile(self, plan: PhasePlan, rows: int, weights: t.Value, tile: t.Index, first: t.Index) -> None:
        """The products of some sequences with a tile of weights."""
        b, units, width = self.b, self.form.units, plan.vectors * LANES
        product = RowProduct(rows, plan.vectors, self.plan.stride, LANES, width, plan.stride, depth=units)
        left = self._place(self.buffers[plan.phase.source], first, 0)
        target = b.offset(self.products, b.add(b.mul(first, plan.stride), b.mul(tile, width)), t.f32)
        call_row_product(b, product, left, weights, units, width, target)

    # --- formulas, 16 units of one sequence at a time

    def _everywhere(self, body: Callable[[t.Index, t.Index], None]) -> None:
        """`body` for each sequence of the chunk, by its number there, and each first of 16 units."""
        b = self.b
        rows, units = b.loop(0, self.count, name="row"), b.loop(0, self.plan.stride, LANES, name="unit")
        with rows as row, units as unit, self._point(row.iv, unit.iv):
            body(row.iv, unit.iv)

    @contextlib.contextmanager
    def _point(self, row: t.Index, unit: t.Index) -> Iterator[None]:
        """Axes and locals stand for 16 units, from `unit` on, of sequence `row` of the chunk."""
        b, em, form = self.b, self.em, self.form
        with em.scope():
            em.axes[form.batch.name] = b.value(b.add(self.first, row))
            em.axes[form.unit.name] = b.value(unit)
            em.vector_axis = form.unit.symbol
            em.mask = b.tail_mask(b.sub(form.units, unit)) if form.units % LANES else None
            for name, buffer in self.buffers.items():
                em.locals[name] = functools.partial(self._load, buffer, row, unit)
            yield
            em.vector_axis = em.mask = None

    def _place(self, buffer: t.Value, row: t.Index, unit: t.Index) -> t.Value:
        return self.b.offset(buffer, self.b.add(self.b.mul(row, self.plan.stride), unit), t.f32)

    def _load(self, buffer: t.Value, row: t.Index, unit: t.Index, index: tuple[Dim, ...]) -> t.Value:
        """A local in scratch memory at the current point; formulas read it nowhere else."""
        del index
        return self.b.load(self._place(buffer, row, unit), VECTOR)

    def _keep(self, name: str, row: t.Index, unit: t.Index, value: t.Value) -> None:
        self.b.store(value, self._place(self.buffers[name], row, unit))

    def _start(self, row: t.Index, unit: t.Index) -> None:
        """The states before the first step."""
        for state in self.form.recur.states:
            self._keep(state.local.name, row, unit, self.em.emit_lanes(state.start))

    def _finish(self, row: t.Index, unit: t.Index) -> None:
        """The stores of the states after the last step."""
        for stage in self.form.finals:
            self._store(stage)

    def _store(self, store: Store) -> None:
        em = self.em
        em.store(store.param, store.index, em.emit_lanes(store.value), store.value.dtype, store.mask)

    def _cell(self, plan: PhasePlan, row: t.Index, unit: t.Index) -> None:
        """The formulas of a phase and, in the last one, the states' next values."""
        em, phase = self.em, plan.phase
        em.locals[phase.product] = functools.partial(self._product, plan, row, unit)
        for stage in phase.stages:
            if isinstance(stage, Store):
                self._store(stage)
                continue
            value = em.emit_lanes(stage.value)
            em.locals[stage.out.name] = functools.partial(_same, value)
            if stage.out.name in self.form.kept:
                self._keep(stage.out.name, row, unit, value)
        if plan is self.plan.phases[-1]:
            states = self.form.recur.states
            following = [em.emit_lanes(state.next) for state in states]
            for state, value in zip(states, following):
                self._keep(state.local.name, row, unit, value)

    def _product(self, plan: PhasePlan, row: t.Index, unit: t.Index, index: tuple[Dim, ...]) -> t.Value:
        """The product of the gate that an index names, at the current point."""
        b, gate = self.b, index[-2]
        assert isinstance(gate, int)
        place = b.add(b.mul(row, plan.stride), b.add(b.mul(unit, plan.phase.gates), gate * LANES))
        return b.load(b.offset(self.products, place, t.f32), VECTOR)


def _same(value: t.Value, index: tuple[Dim, ...]) -> t.Value:
    """The value of a local at the current point, whatever the index says: it is this point."""
    del index
    return value
