"""The general template: loops over a kernel's axes, one of them in vector lanes.

It takes every kernel without routines. Axes shared by all stages become the outer loops, cut into chunks;
inside, the stages run one after the other: locals over outer axes only live in registers, the others in
scratch memory, one row (say) at a time. The vector axis is an outer axis, if most accesses are contiguous
along one, else each stage vectorizes its own inner loops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from dlc.backends.cpu import arithmetic, types as t
from dlc.backends.cpu.access import storage_type
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates import monoids
from dlc.backends.cpu.templates.plan import (
    NestPlan,
    chunk_count,
    inner_vector_axis,
    local_bytes,
    plan_nest,
    scratch_layout,
)
from dlc.ir.dims import Dim, Symbol
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import roots
from dlc.lowering.kernel import (
    Contract,
    Kernel,
    LocalTensor,
    Map,
    Monoid,
    Recur,
    Reduce,
    Stage,
    State,
    Store,
    StoreMode,
)

LANES = 16
#: Independent accumulators of a vectorized reduction, to hide the latency of the combining instruction.
UNROLL = 4
_LANE_BASE = "lane0"


def emit(module: Module, name: str, kernel: Kernel) -> CompiledKernel:
    """Write the function of `kernel` into `module`."""
    plan = plan_nest(kernel)
    return _Nest(module, name, plan).emit()


@dataclasses.dataclass
class _ScratchLocal:
    """A local in scratch memory: its pointer and the extents of its inner axes."""

    tensor: LocalTensor
    pointer: t.Value
    inner: tuple[Symbol, ...]


class _Nest:
    """The emission of one nest."""

    def __init__(self, module: Module, name: str, plan: NestPlan) -> None:
        self.plan = plan
        self.kernel = plan.kernel
        self.chunks = chunk_count(plan)
        self.frame = KernelFrame(module, name, plan.kernel, [self.chunks, plan.points])
        self.b = self.frame.b
        self.em = self.frame.emitter
        self.extent = {axis.name: axis.extent for axis in plan.kernel.axes}
        self.symbol = {axis.name: axis.symbol for axis in plan.kernel.axes}
        self.outer_mode = plan.vector_axis is not None
        self.scratch_offsets, self.scratch_bytes = scratch_layout(plan)
        self.scratch: dict[str, _ScratchLocal] = {}
        #: Scratch as it is before the stages: a recurrence leaves its states in one of two copies.
        self.homes: dict[str, _ScratchLocal] = {}

    def emit(self) -> CompiledKernel:
        b, em = self.b, self.em
        if self.plan.points == 0:
            return self.frame.finish("nest", 0)
        for local, (place, inner) in self.scratch_offsets.items():
            pointer = b.byte_offset(self.frame.scratch, em.dim(place))
            self._keep(_ScratchLocal(local, pointer, tuple(self.symbol[a] for a in inner)))
        self.homes = dict(self.scratch)
        points, chunks = em.dim(self.plan.points), em.dim(self.chunks)
        low = b.udiv(b.mul(self.frame.chunk, points), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), points), chunks)
        with b.loop(low, high, name="point") as loop:
            self._bind_point(self.b.value(loop.iv))
            self._inner_outer_loops(list(self.plan.nested))
        return self.frame.finish("nest", self.chunks, self.scratch_bytes)

    # --- the outer loops

    def _bind_point(self, point: t.Value) -> None:
        """Number the linearized outer axes of `point`, the last one fastest."""
        b = self.b
        rest: t.Index = point
        for position, (axis, extent) in reversed(list(enumerate(self.plan.linear))):
            size = self.em.dim(extent)
            first = position == 0
            self.em.axes[axis] = b.value(rest if first else b.urem(rest, size))
            if not first:
                rest = b.udiv(rest, size)

    def _inner_outer_loops(self, axes: list[str]) -> None:
        """The outer axes that are loops within a point, then the vector axis, then the stages."""
        if axes:
            with self.b.loop(0, self._operand(self.extent[axes[0]]), name="outer") as loop:
                self.em.axes[axes[0]] = self.b.value(loop.iv)
                self._inner_outer_loops(axes[1:])
            return
        self.em.forget()
        if self.plan.vector_axis is None:
            self._run(self.kernel.body)
            return
        axis = self.plan.vector_axis
        self.em.vector_axis = self.symbol[axis]
        low: t.Index = 0
        high = self._operand(self.extent[axis])
        if self.plan.block:
            base = self.b.mul(self.em.axes[self.plan.block_axis], self.plan.block)
            low, high = base, self.b.smin(self.b.add(base, self.plan.block), high)
        invariant = [root for stage in self.kernel.body for root in roots(stage)]
        self.em.hoist(invariant, {axis})
        self._vector_loop(axis, low, high, [], lambda _: self._lanes_body())
        self.em.vector_axis = None

    def _lanes_body(self) -> list[t.Value]:
        assert self.plan.vector_axis is not None
        self.em.axes[_LANE_BASE] = self.em.axes[self.plan.vector_axis]
        self._run(self.kernel.body)
        return []

    def _operand(self, dim: Dim) -> t.Index:
        return dim if isinstance(dim, int) else self.em.dim(dim)

    # --- loops

    def _vector_loop(
        self,
        axis: str,
        low: t.Index,
        high: t.Index,
        carry: list[t.Value],
        body: Callable[[list[t.Value]], list[t.Value]],
    ) -> list[t.Value]:
        """Run `body` for every 16 numbers of `axis`; the last, incomplete ones under a mask."""
        b, em = self.b, self.em
        count = b.sub(high, low)
        whole = b.sub(count, b.and_(count, LANES - 1))
        stop = b.add(low, whole)
        with b.loop(low, stop, LANES, carry=carry, name="lanes") as loop, em.scope():
            em.axes[axis] = b.value(loop.iv)
            loop.next = tuple(body(list(loop.carried)))
        carry = list(loop.results)
        if isinstance(count, int) and count % LANES == 0:
            return carry
        with b.loop(stop, high, LANES, carry=carry, name="tail") as tail, em.scope():
            em.axes[axis] = b.value(tail.iv)
            em.mask = b.tail_mask(b.sub(high, tail.iv), LANES)
            tail.next = tuple(body(list(tail.carried)))
            em.mask = None
        return list(tail.results)

    def _scalar_loops(
        self, axes: Sequence[str], carry: list[t.Value], body: Callable[[list[t.Value]], list[t.Value]]
    ) -> list[t.Value]:
        """Run `body` for every point of `axes`, one at a time."""
        if not axes:
            with self.em.scope():
                return body(carry)
        with self.b.loop(0, self._operand(self.extent[axes[0]]), carry=carry, name="inner") as loop:
            self.em.axes[axes[0]] = self.b.value(loop.iv)
            loop.next = tuple(self._scalar_loops(axes[1:], list(loop.carried), body))
        return list(loop.results)

    def _domain(
        self, axes: Sequence[str], expressions: Sequence[e.Expr], stage: Stage, body: Callable[[], None]
    ) -> None:
        """Run `body` for every point of the inner `axes`, vectorized along the best one unless lanes are
        taken.
        """
        vector = None if self.outer_mode else inner_vector_axis(self.plan, stage, axes)
        loops = [axis for axis in axes if axis != vector]

        def lanes(_: list[t.Value]) -> list[t.Value]:
            if vector is None:
                body()
                return []
            self.em.vector_axis = self.symbol[vector]
            self.em.hoist(expressions, {vector})
            self._vector_loop(vector, 0, self._operand(self.extent[vector]), [], lambda _: _none(body))
            self.em.vector_axis = None
            return []

        self._scalar_loops(loops, [], lanes)

    # --- stages

    def _run(self, body: Sequence[Stage]) -> None:
        for stage in body:
            match stage:
                case Map(out, value):
                    self._map(stage, out, value)
                case Store():
                    self._store(stage)
                case Reduce(outs, axes, monoid, values):
                    self._reduce(stage, outs, axes, monoid, values)
                case Contract():
                    product = e.Binary(stage.out.dtype, "mul", stage.left, stage.right)
                    self._reduce(stage, (stage.out,), stage.spec.reduce, Monoid.SUM, (product,))
                case Recur():
                    self._recur(stage)

    def _inner(self, axes: Sequence[str]) -> list[str]:
        return [axis for axis in axes if axis not in self.plan.outer]

    def _map(self, stage: Stage, out: LocalTensor, value: e.Expr) -> None:
        if out.name not in self.scratch:
            self._define(out, self.em.emit(value))
            return
        self._fill(self.scratch[out.name], value)

    def _store(self, stage: Store) -> None:
        em = self.em

        def body() -> None:
            value = em.emit(stage.value)
            if stage.mode is not StoreMode.SET:
                old = em.emit(e.Load(stage.value.dtype, stage.param, stage.index, stage.mask))
                value = _update(self, stage, old, value)
            em.store(stage.param, stage.index, value, stage.value.dtype, stage.mask)

        self._domain(self._inner(stage.axes), roots(stage), stage, body)

    def _reduce(
        self,
        stage: Stage,
        outs: Sequence[LocalTensor],
        axes: Sequence[str],
        monoid: Monoid,
        values: Sequence[e.Expr],
    ) -> None:
        inner = self._inner(outs[0].axes)
        if not inner:
            for out, value in zip(outs, self._reduced(stage, axes, monoid, values), strict=True):
                self._define(out, value)
            return
        vector = None if self.outer_mode else inner_vector_axis(self.plan, stage, (*inner, *axes))
        if vector in axes:
            vector = None

        def point(_: list[t.Value]) -> list[t.Value]:
            for out, value in zip(outs, self._reduced(stage, axes, monoid, values), strict=True):
                self._write(self.scratch[out.name], value)
            return []

        def lanes(_: list[t.Value]) -> list[t.Value]:
            if vector is None:
                return point([])
            self.em.vector_axis = self.symbol[vector]
            self._vector_loop(vector, 0, self._operand(self.extent[vector]), [], point)
            self.em.vector_axis = None
            return []

        self._scalar_loops([axis for axis in inner if axis != vector], [], lanes)

    def _reduced(
        self, stage: Stage, axes: Sequence[str], monoid: Monoid, values: Sequence[e.Expr]
    ) -> list[t.Value]:
        """The reduction of `values` over `axes` at the current point: scalars, or lanes of the vector axis.
        """
        b, em = self.b, self.em
        dtypes = tuple(value.dtype for value in values)
        if em.vector_axis is not None:
            begin = monoids.start(b, monoid, dtypes, LANES)

            def step(carry: list[t.Value]) -> list[t.Value]:
                return monoids.combine(b, monoid, dtypes, carry, [em.emit_lanes(value) for value in values])

            return self._scalar_loops(axes, begin, step)
        vector = inner_vector_axis(self.plan, stage, axes)
        if vector is None:

            def single(carry: list[t.Value]) -> list[t.Value]:
                return monoids.combine(b, monoid, dtypes, carry, [em.emit(value) for value in values])

            return self._scalar_loops(axes, monoids.start(b, monoid, dtypes, 1), single)
        begin = monoids.start(b, monoid, dtypes, LANES)
        reduced = self._scalar_loops(
            [a for a in axes if a != vector],
            begin,
            lambda carry: self._reduce_row(vector, monoid, dtypes, values, carry),
        )
        return monoids.collapse(b, monoid, dtypes, reduced)

    def _reduce_row(
        self,
        axis: str,
        monoid: Monoid,
        dtypes: tuple[DType, ...],
        values: Sequence[e.Expr],
        carry: list[t.Value],
    ) -> list[t.Value]:
        """Accumulate along the vector axis: several accumulators first, then one, the last lanes masked."""
        b, em = self.b, self.em
        em.vector_axis = self.symbol[axis]
        self.em.hoist(values, {axis})
        extent = self._operand(self.extent[axis])

        def step(accumulators: list[t.Value]) -> list[t.Value]:
            new = [em.emit_lanes(value) for value in values]
            if em.mask is not None:
                begin = monoids.start(b, monoid, dtypes, LANES)
                new = [b.select(em.mask, x, none) for x, none in zip(new, begin, strict=True)]
            return monoids.combine(b, monoid, dtypes, accumulators, new)

        low: t.Index = 0
        if not isinstance(extent, int) or extent >= 2 * UNROLL * LANES:
            low, carry = self._unrolled_row(axis, extent, monoid, dtypes, carry, step)
        carry = self._vector_loop(axis, low, extent, carry, step)
        em.vector_axis = None
        return carry

    def _unrolled_row(
        self,
        axis: str,
        extent: t.Index,
        monoid: Monoid,
        dtypes: tuple[DType, ...],
        carry: list[t.Value],
        step: Callable[[list[t.Value]], list[t.Value]],
    ) -> tuple[t.Index, list[t.Value]]:
        """The part of a row that fills UNROLL accumulators; returns where it ends and their combination."""
        b, em = self.b, self.em
        block = UNROLL * LANES
        stop = b.sub(extent, b.urem(extent, block))
        groups = [carry, *(monoids.start(b, monoid, dtypes, LANES) for _ in range(UNROLL - 1))]
        width = len(dtypes)
        with b.loop(0, stop, block, carry=[v for group in groups for v in group], name="row") as loop:
            following: list[t.Value] = []
            for part in range(UNROLL):
                with em.scope():
                    em.axes[axis] = b.value(b.add(loop.iv, part * LANES))
                    following += step(list(loop.carried[part * width : (part + 1) * width]))
            loop.next = tuple(following)
        results = [list(loop.results[part * width : (part + 1) * width]) for part in range(UNROLL)]
        while len(results) > 1:
            results = [
                monoids.combine(b, monoid, dtypes, results[i], results[i + 1])
                for i in range(0, len(results), 2)
            ]
        return stop, results[0]

    def _recur(self, stage: Recur) -> None:
        """A loop over the axis that carries the states: in registers, or two copies in scratch in turn."""
        b, em = self.b, self.em
        wide = [self.homes.get(state.local.name) for state in stage.states]
        begin = [self._start(state, local) for state, local in zip(stage.states, wide, strict=True)]
        spare = [self._spare(local) for local in wide if local is not None]
        extent = self._operand(self.extent[stage.axis])
        with b.loop(0, extent, carry=[*begin, *spare], name="step") as loop, em.scope():
            last = b.sub(extent, 1)
            em.axes[stage.axis] = b.value(b.sub(last, loop.iv) if stage.reverse else loop.iv)
            self._bind_states(stage, wide, loop.carried)
            self._run(stage.body)
            following = list(loop.carried[len(wide) :])
            loop.next = (
                *self._advance(stage, wide, following),
                *(loop.carried[i] for i, local in enumerate(wide) if local is not None),
            )
        self._bind_states(stage, wide, loop.results)

    def _state_value(self, expr: e.Expr) -> t.Value:
        return self.em.emit_lanes(expr) if self.em.vector_axis is not None else self.em.emit(expr)

    def _start(self, state: State, local: _ScratchLocal | None) -> t.Value:
        """What a recurrence carries of a state at first: its value, or the pointer to it."""
        if local is None:
            return self._state_value(state.start)
        self._fill(local, state.start)
        return local.pointer

    def _spare(self, local: _ScratchLocal) -> t.Value:
        """The second copy of a state in scratch."""
        inner = [axis.name for axis in local.inner]
        return self.b.byte_offset(local.pointer, self.em.dim(local_bytes(self.plan, local.tensor, inner)))

    def _bind_states(
        self, stage: Recur, wide: Sequence[_ScratchLocal | None], carried: Sequence[t.Value]
    ) -> None:
        for state, local, value in zip(stage.states, wide, carried, strict=False):
            if local is None:
                self._define(state.local, value)
            else:
                self._keep(dataclasses.replace(local, pointer=value))

    def _advance(
        self, stage: Recur, wide: Sequence[_ScratchLocal | None], spare: list[t.Value]
    ) -> list[t.Value]:
        """The next values of the states, all from the present ones."""
        following: list[t.Value] = []
        for state, local in zip(stage.states, wide, strict=True):
            if local is None:
                following.append(self._state_value(state.next))
            else:
                following.append(spare.pop(0))
                self._fill(dataclasses.replace(local, pointer=following[-1]), state.next)
        return following

    def _fill(self, local: _ScratchLocal, value: e.Expr) -> None:
        """Compute a local in scratch at all its inner points."""
        inner = [axis.name for axis in local.inner]
        stage = Map(local.tensor, value)
        self._domain(inner, [value], stage, lambda: self._write(local, self.em.emit(value)))

    # --- locals

    def _define(self, local: LocalTensor, value: t.Value) -> None:
        """A local over outer axes only: the register is its meaning."""
        self.em.locals[local.name] = lambda _: value

    def _place(self, local: _ScratchLocal, index: Sequence[Dim]) -> Dim:
        """The offset in elements within a local's scratch of an index over its axes."""
        place: Dim = 0
        by_axis = dict(zip(local.tensor.axes, index, strict=True))
        for axis in local.inner:
            place = place * self.extent[axis.name] + by_axis[axis.name]
        if self.outer_mode:
            assert self.plan.vector_axis is not None
            place = place * LANES + self.symbol[self.plan.vector_axis] - Symbol(_LANE_BASE)
        return place

    def _keep(self, local: _ScratchLocal) -> None:
        """Let a local be read and written where `local` says."""
        dtype = local.tensor.dtype

        def read(index: tuple[Dim, ...]) -> t.Value:
            value = self.em.read_memory(local.pointer, self._place(local, index), storage_type(dtype))
            return self.b.icmp("ne", value, 0) if dtype is DType.BOOL else value

        self.scratch[local.tensor.name] = local
        self.em.locals[local.tensor.name] = read

    def _write(self, local: _ScratchLocal, value: t.Value) -> None:
        index = tuple(self.symbol[axis] for axis in local.tensor.axes)
        self.em.write_memory(local.pointer, self._place(local, index), value, local.tensor.dtype)


def _update(nest: _Nest, stage: Store, old: t.Value, new: t.Value) -> t.Value:
    """What a combining store leaves: old (mode) new."""
    if old.type.is_vector != new.type.is_vector:
        old, new = nest.em.spread(old), nest.em.spread(new)
    return arithmetic.binary(nest.b, stage.mode.value, stage.value.dtype, old, new)


def _none(body: Callable[[], None]) -> list[t.Value]:
    body()
    return []
