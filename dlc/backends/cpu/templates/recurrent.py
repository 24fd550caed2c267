"""LSTM, GRU and the like: the whole recurrence of some sequences in one chunk.

In each step, panel by panel of units: the products of the state with the weights of all gates of the panel
are summed in registers, and the cell's formulas are applied to them there. A state of which products read all
units has two copies that take turns. Every other step walks the panels backwards, so that the weights used
last, still in the cache, come first. The input's product was made for all steps at once, by another kernel.
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
from dlc.backends.cpu.templates.row_product import LANES, VECTOR, Left, Right, accumulate
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim
from dlc.lowering.kernel import Kernel, Store
from dlc.target import CpuTarget


def match(kernel: Kernel, target: CpuTarget) -> Match[RecurrentPlan] | Declined:
    """Whether `kernel` is a recurrent layer with constant weights, computed in f32."""
    form = recurrent_form(kernel)
    return form if isinstance(form, Declined) else Match(plan_recurrent(form, target))


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
        self.states = [state.local.name for state in self.form.recur.states]
        self.twice = [name for name in self.states if name in self.form.crossed]
        #: Where each state and kept local is read and written; these differ for states with two copies.
        self.read = {name: self.b.byte_offset(self.frame.scratch, at) for name, at in plan.buffers.items()}
        self.write = dict(self.read)

    def emit(self) -> CompiledKernel:
        b, plan, form = self.b, self.plan, self.form
        chunks = self._number(plan.batch_chunks)
        self.direction: t.Index = 0
        if form.direction is not None:
            self.direction = b.udiv(self.frame.chunk, chunks)
            self.em.axes[form.direction.name] = b.value(self.direction)
        self.first = b.mul(b.urem(self.frame.chunk, chunks), plan.chunk_rows)
        self.count = b.smin(b.sub(self._number(form.batch.extent), self.first), plan.chunk_rows)
        self._initialize()
        self._steps()
        self._finish()
        packing: dict[str, Packing] = {}
        for name in {phase.phase.weights.param.name for phase in plan.phases}:
            phases = tuple(phase for phase in plan.phases if phase.phase.weights.param.name == name)
            packing[name] = functools.partial(pack, phases, form.directions, form.units)
        return self.frame.finish("recurrent", plan.chunks, plan.bytes, packing)

    def _number(self, dim: Dim) -> t.Index:
        return dim if isinstance(dim, int) else self.em.dim(dim)

    # --- 16 units of one sequence

    @contextlib.contextmanager
    def _point(self, row: t.Index, unit: t.Index) -> Iterator[None]:
        """The axes stand for 16 units, from `unit` on, of sequence `row` of the chunk."""
        b, em, form = self.b, self.em, self.form
        with em.scope():
            em.axes[form.batch.name] = b.value(b.add(self.first, row))
            em.axes[form.unit.name] = b.value(unit)
            em.vector_axis = form.unit.symbol
            em.mask = b.tail_mask(b.sub(form.units, unit)) if form.units % LANES else None
            for name, base in self.read.items():
                em.locals[name] = functools.partial(self._load, base, row, unit)
            yield
            em.vector_axis = em.mask = None

    def _place(self, base: t.Value, row: t.Index, unit: t.Index) -> t.Value:
        return self.b.offset(base, self.b.add(self.b.mul(row, self.plan.stride), unit), t.f32)

    def _load(self, base: t.Value, row: t.Index, unit: t.Index, index: tuple[Dim, ...]) -> t.Value:
        """A local at the current point: its expressions read it nowhere else."""
        del index
        return self.b.load(self._place(base, row, unit), VECTOR)

    def _keep(self, name: str, row: t.Index, unit: t.Index, value: t.Value) -> None:
        self.b.store(value, self._place(self.write[name], row, unit))

    def _store(self, store: Store) -> None:
        em = self.em
        em.store(store.param, store.index, em.emit_lanes(store.value), store.value.dtype, store.mask)

    def _everywhere(self, body: Callable[[t.Index, t.Index], None]) -> None:
        """`body` for all sequences of the chunk, 16 units at a time."""
        b = self.b
        rows, units = b.loop(0, self.count, name="row"), b.loop(0, self.plan.stride, LANES, name="unit")
        with rows as row, units as unit, self._point(row.iv, unit.iv):
            body(row.iv, unit.iv)

    # --- the parts of the recurrence

    def _initialize(self) -> None:
        """The states before the first step."""

        def start(row: t.Index, unit: t.Index) -> None:
            for state in self.form.recur.states:
                self._keep(state.local.name, row, unit, self.em.emit_lanes(state.start))

        self._everywhere(start)

    def _steps(self) -> None:
        b, em, recur = self.b, self.em, self.form.recur
        steps = self._number(self.form.step.extent)
        copies = [self.read[name] for name in self.twice]
        copies += [b.byte_offset(copy, self.plan.buffer_bytes) for copy in copies]
        half = len(self.twice)
        with b.loop(0, steps, carry=copies, name="step") as loop, em.scope():
            em.axes[recur.axis] = b.value(b.sub(b.sub(steps, 1), loop.iv) if recur.reverse else loop.iv)
            self.read.update(zip(self.twice, loop.carried[:half]))
            self.write.update(zip(self.twice, loop.carried[half:]))
            backwards = b.icmp("ne", b.and_(loop.iv, 1), 0)
            for phase in self.plan.phases:
                self._phase(phase, backwards)
            loop.next = (*loop.carried[half:], *loop.carried[:half])
        self.read.update(zip(self.twice, loop.results[:half]))

    def _finish(self) -> None:
        """The stores of the states after the last step."""

        def store(row: t.Index, unit: t.Index) -> None:
            for stage in self.form.finals:
                self._store(stage)

        self._everywhere(store)

    def _phase(self, plan: PhasePlan, backwards: t.Value) -> None:
        """All units of a phase, panel by panel."""
        b = self.b
        size = self.form.units * plan.vectors * LANES
        with b.loop(0, plan.panels, name="panel") as loop:
            panel = b.select(backwards, b.sub(plan.panels - 1, loop.iv), loop.iv)
            at = b.add(b.mul(b.add(b.mul(self.direction, plan.panels), panel), size), plan.at)
            weights = b.offset(self.frame.pointers[plan.phase.weights.param.name], at, t.f32)
            whole = b.sub(self.count, b.urem(self.count, plan.rows))
            with b.loop(0, whole, plan.rows, name="rows") as rows:
                self._tile(plan, plan.rows, weights, panel, rows.iv)
            at_row, rest = whole, b.urem(self.count, plan.rows)
            for size_ in (4, 2, 1):
                if size_ < plan.rows:
                    with b.if_(b.icmp("ne", b.and_(rest, size_), 0)):
                        self._tile(plan, size_, weights, panel, at_row)
                    at_row = b.add(at_row, b.and_(rest, size_))

    def _tile(self, plan: PhasePlan, rows: int, weights: t.Value, panel: t.Index, row: t.Index) -> None:
        """The products of some sequences with a panel, and the formulas of its units."""
        b, gates = self.b, plan.phase.gates
        left = Left(self._place(self.read[plan.phase.source], row, 0), self.plan.stride)
        right = Right(weights, plan.vectors * LANES, tuple(v * LANES for v in range(plan.vectors)))
        sums = accumulate(b, rows, 0, self.form.units, left, right)
        for number, products in enumerate(sums):
            for group in range(plan.groups):
                unit = b.mul(b.add(b.mul(panel, plan.groups), group), LANES)
                self._cell(plan, products[group * gates:(group + 1) * gates], b.add(row, number), unit)

    def _cell(self, plan: PhasePlan, products: list[t.Value], row: t.Index, unit: t.Index) -> None:
        """The formulas of a phase for 16 units of one sequence."""
        em, phase = self.em, plan.phase
        with self._point(row, unit):
            em.locals[phase.product] = functools.partial(_gate, products)
            for stage in phase.stages:
                if isinstance(stage, Store):
                    self._store(stage)
                    continue
                value = em.emit_lanes(stage.value)
                em.locals[stage.out.name] = functools.partial(_same, value)
                if stage.out.name in self.form.kept:
                    self._keep(stage.out.name, row, unit, value)
            if plan is self.plan.phases[-1]:
                following = [em.emit_lanes(state.next) for state in self.form.recur.states]
                for name, value in zip(self.states, following):
                    self._keep(name, row, unit, value)


def _gate(products: list[t.Value], index: tuple[Dim, ...]) -> t.Value:
    """The product of the gate that an index names."""
    gate = index[-2]
    assert isinstance(gate, int)
    return products[gate]


def _same(value: t.Value, index: tuple[Dim, ...]) -> t.Value:
    """The value of a local at the current point, whatever the index says: it is this point."""
    del index
    return value
