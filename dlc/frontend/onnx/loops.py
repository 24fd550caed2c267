"""Building loops: finding out what changes from iteration to iteration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dlc.frontend.onnx.appending import appended, rows
from dlc.frontend.onnx.content_elements import array_of
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.learned import Settled
from dlc.frontend.onnx.regions import OpenExtents, Region
from dlc.ir.dims import Dim, Symbol, free_symbols, known_equal, maximum
from dlc.ir.dtypes import DType
from dlc.ir.graph import ShapeSource, Value
from dlc.ir.ops.control import Loop, same_kind
from dlc.ir.ops.pointwise import Binary
from dlc.ir.types import TensorType, Type, join, opened, without

#: Trip counts from here on mean "until the condition fails".
ENDLESS = 1 << 40


@dataclasses.dataclass(frozen=True)
class Iteration:
    """What one iteration gives: whether another follows (None: always), the next states, the elements."""

    condition: Value | None
    states: Sequence[Value]
    elements: Sequence[Value]


#: An odd number above all trip counts: numbers of iterations times it, added up, tell nested loops apart.
_NESTED = 0x9E3779B1

#: Writes one iteration into a region, given the number of the iteration and the values of the states.
Body = Callable[[Region, Value, Sequence[Value]], Iteration]


def add_loop(
    ctx: NodeContext, trip: Dim | Value | None, condition: Value | None, starts: Sequence[Value], body: Body
) -> list[Value]:
    """Add a Loop whose states begin as `starts`; returns their last values, and the stacks of the elements.

    The trip count may be a value of one integer, whatever the run makes it.
    `body` is called until it is known which states never change (they become captures) and which extents of
    states do (they become symbols of the region).
    """
    return _LoopImport(ctx, trip, condition, starts, body).run()


class _LoopImport:
    def __init__(
        self,
        ctx: NodeContext,
        trip: Dim | Value | None,
        condition: Value | None,
        starts: Sequence[Value],
        body: Body,
    ) -> None:
        self.ctx = ctx
        self.trip = trip
        self.condition = condition
        self.starts = list(starts)
        self.body = body
        self.types: list[Type] = [value.type for value in starts]
        known = ctx.importer.learned.loops.get(ctx.place, Settled(frozenset(), frozenset()))
        self.invariant = {index for index in known.invariant if index < len(starts)}
        #: States that were taken for invariant, and are not.
        self.varying: set[int] = set()
        #: (state, axis) -> the symbol of an extent that changes.
        self.changing: dict[tuple[int, int], Symbol] = {}
        for index, axis in sorted(known.changing):
            self._open(index, axis)
        least = trip - 1 if isinstance(trip, int) and trip > 0 else None
        self.number = Symbol(ctx.importer.symbolic.fresh("iteration", 0).name, 0, least)

    def run(self) -> list[Value]:
        while True:
            region, states, result = self._import()
            found = {index for index, value in enumerate(states) if result.states[index] is value}
            changed = self._widen(region, result.states)
            self.varying |= self.invariant - found
            invariant = (self.invariant | found) - self.varying
            if invariant == self.invariant and not changed:
                settled = Settled(frozenset(invariant), frozenset(self.changing))
                self.ctx.importer.learned.loops[self.ctx.place] = settled
                return self._add(region, states, result)
            self.invariant = invariant

    def _import(self) -> tuple[Region, list[Value], Iteration]:
        region = Region(self.ctx, "body")
        iteration = region.graph.add_input("iteration", TensorType(DType.I64, ()))
        region.importer.symbolic.known[iteration] = array_of([self.number], ())
        region.importer.symbolic.sources[self.number] = (iteration, 0)
        region.importer.draw = self.ctx.importer.draw * _NESTED + self.number
        inputs = {
            index: region.graph.add_input(value.name, type_)
            for index, (value, type_) in enumerate(zip(self.starts, self.types))
            if index not in self.invariant
        }
        for (index, axis), symbol in self.changing.items():
            if index not in inputs:
                continue
            region.graph.symbols[symbol] = ShapeSource(inputs[index].name, axis)
        states = [inputs.get(index) or region.capture(value) for index, value in enumerate(self.starts)]
        return region, states, self.body(region, iteration, states)

    def _widen(self, region: Region, results: Sequence[Value]) -> bool:
        """Open the extents of states that an iteration changes; whether there were any."""
        inner = region.symbols
        before, grown = len(self.changing), False
        for index, (value, type_) in enumerate(zip(results, self.types)):
            if not same_kind(value.type, type_):
                start = self.starts[index].type
                what = f"state {index} starts as {start}, but an iteration gives {value.type}"
                if str(value.type).partition("[")[0] != str(type_).partition("[")[0]:
                    self.ctx.fail(what, "model/type")
                self.ctx.unsupported(f"the rank of a state changes: {what}")
            if not isinstance(value.type, TensorType) or not isinstance(type_, TensorType):
                new_type = without(opened(value.type), lambda dim: bool(inner & free_symbols(dim)))
                joined = join(opened(type_), new_type)
                grown |= joined is not None and joined != type_
                self.types[index] = type_ if joined is None else joined
                continue
            for axis, (new, old) in enumerate(zip(value.type.shape, type_.shape)):
                kept = known_equal(new, old) and not inner & free_symbols(new)
                if not kept and (index, axis) not in self.changing:
                    self._open(index, axis)
        return grown or len(self.changing) > before

    def _open(self, index: int, axis: int) -> None:
        """Let an extent of a state be a symbol, for that it changes."""
        type_ = self.types[index] if index < len(self.types) else None
        if isinstance(type_, TensorType) and axis < type_.rank:
            symbol = self.ctx.importer.symbolic.fresh(f"{self.starts[index].name}_{axis}", 0)
            self.changing[index, axis] = symbol
            self.types[index] = type_.with_shape((*type_.shape[:axis], symbol, *type_.shape[axis + 1 :]))

    def _add(self, region: Region, inputs: Sequence[Value], result: Iteration) -> list[Value]:
        changing = [index for index in range(len(self.starts)) if index not in self.invariant]
        appending = self._appending(region, changing, inputs, result)
        carried = [index for index in changing if index not in appending]
        elements = [*result.elements, *appending.values()]
        condition = self._continues(region, result)
        always = self.trip is not None and self.condition is None and condition.is_constant
        trip = self._bounded_trip(always)
        # An inner symbol as the number of elements stands for "unknown".
        count = maximum(trip, 0) if always and trip is not None else self.number
        wanted = [self.types[index] for index in carried]
        wanted += [self._stack(value, count) for value in elements]
        names = [*(self._name(index) for index in carried)]
        names += [self._name(len(self.starts) + index) for index in range(len(result.elements))]
        names += [f"{self._name(index)}.rows" for index in appending]
        extents = OpenExtents(self.ctx, region.symbols.__contains__, names)
        types = tuple(extents.join(index, [type_]) for index, type_ in enumerate(wanted))
        captures = region.captures
        body = region.finish([condition, *(result.states[index] for index in carried), *elements])
        loop = Loop(trip, len(carried), len(elements), types)
        operands = [self.condition, *(self.starts[index] for index in carried), *captures]
        results = self.ctx.builder.add_all(loop, *operands, names=names, regions=[body]) if types else ()
        extents.bind(results)
        finals = dict(zip(carried, results))
        for index, stack in zip(appending, results[len(carried) + len(result.elements) :]):
            finals[index] = rows(self.ctx, stack, self._name(index))
        states = [finals.get(index, start) for index, start in enumerate(self.starts)]
        return [*states, *results[len(carried) : len(carried) + len(result.elements)]]

    def _appending(
        self, region: Region, indices: Sequence[int], inputs: Sequence[Value], result: Iteration
    ) -> dict[int, Value]:
        """The states that are sequences to which an iteration only appends, and what it appends."""
        inner, found = region.symbols, {}
        for index in indices:
            element = appended(self.ctx, self.starts[index], inputs[index], result.states[index], inner)
            if element is not None:
                found[index] = element
                region.graph.inputs.remove(inputs[index])
        return found

    def _bounded_trip(self, exact: bool) -> Dim | None:
        """The trip count as a dim. Where a condition ends the loop as well, it is not exact: a number that
        means "no bound" would otherwise not pass for the size that a dim is.
        """
        if not isinstance(self.trip, Value):
            return self.trip
        count = self.trip
        if not exact:
            bound = self.ctx.const(ENDLESS, count.tensor.dtype)
            count = self.ctx.builder.add(Binary("min"), count, bound, names=["trip"])
        dim: Dim = self.ctx.importer.dims(count, self.ctx).item()
        return dim

    def _continues(self, region: Region, result: Iteration) -> Value:
        """The condition of the next iteration, a constant if it is known to hold."""
        known = None if result.condition is None else region.importer.constant(result.condition)
        if result.condition is None or (known is not None and known.item()):
            if self.trip is None:
                self.ctx.fail("the loop never ends: it has no trip count, and its condition always holds")
            return region.context().builder.constant(np.array(True), "always")
        return result.condition

    def _stack(self, value: Value, count: Dim) -> Type:
        if not isinstance(value.type, TensorType):
            self.ctx.fail(f"a stacked element is {value.type}, not a tensor", "model/type")
        return value.type.with_shape((count, *value.type.shape))

    def _name(self, index: int) -> str:
        names = self.ctx.output_names
        return (names[index] if index < len(names) else "") or "unused"
