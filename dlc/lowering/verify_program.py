"""The rules that a sound program keeps, apart from its memory plan: see `dlc.lowering.replay`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from dlc.errors import InternalError
from dlc.ir.dims import Dim, Guard, Relation, Symbol, free_symbols, known_equal
from dlc.lowering.assumptions import assume
from dlc.lowering.inspect import loads, stages
from dlc.lowering.kernel import Kernel, Store
from dlc.lowering.program import (
    Bind,
    Branch,
    Buffer,
    Check,
    Copy,
    Grow,
    Host,
    Launch,
    Measure,
    Program,
    Refer,
    Repeat,
    Set,
    Step,
    Steps,
    Unload,
    buffers,
    walk,
)
from dlc.lowering.ranges import Space
from dlc.lowering.text import kernel_symbols
from dlc.lowering.verify import violations

_SHOWN = 20


def verify_program(program: Program) -> None:
    """InternalError that lists what is wrong with `program`, if anything is.

    Kernels are sound under the guards that have been checked when they are launched, and each can run as one
    nest; launches give them the tensors that they expect; no step speaks of a symbol that is not bound yet.
    """
    problems = list(dict.fromkeys(_Verifier(program).run()))
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InternalError(f"the program is not sound:\n{shown}{more}")


@dataclasses.dataclass
class _State:
    """What holds before a step: the symbols that are bound and the guards that have been checked."""

    bound: set[Symbol]
    guards: tuple[Guard, ...]

    def copy(self) -> _State:
        return _State(set(self.bound), self.guards)

    def unbound(self, dims: Iterable[Dim]) -> Iterator[str]:
        known = {symbol.name for symbol in self.bound}
        for name in sorted({s.name for dim in dims for s in free_symbols(dim)} - known):
            yield f"the symbol {name} is not bound yet"


class _Verifier:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.numbers = {id(step): number for number, step in enumerate(walk(program.steps))}
        self.verified: set[tuple[int, tuple[Guard, ...]]] = set()

    def run(self) -> Iterator[str]:
        given = set(self.program.symbols)
        entry = self.program.guards[: self.program.entry_guards]
        yield from self.steps(self.program.steps, _State(given, entry))

    def steps(self, steps: Steps, state: _State) -> Iterator[str]:
        """What is wrong with `steps`; `state` is what holds after them when they are through."""
        for step in steps:
            for problem in (*state.unbound(_dims_of(step)), *self.own(step, state)):
                yield f"step {self.numbers[id(step)]}: {problem}"
            match step:
                case Bind(symbol=symbol) | Measure(symbol=symbol):
                    state.bound.add(symbol)
                case Set(symbols, _):
                    state.bound.update(symbols)
                case Check(guard, _):
                    state.guards = (*state.guards, guard)
                case Branch():
                    for way in (step.then, step.otherwise):
                        inside = state.copy()
                        yield from self.steps(way, inside)
                        yield from inside.unbound(step.symbols)
                    state.bound.update(step.symbols)
                case Repeat():
                    yield from state.unbound(step.symbols)
                    inside = state.copy()
                    inside.bound.add(step.number)
                    if step.trip is not None:
                        inside.guards = (*inside.guards, *_goes_on(step.number, step.trip, state.guards))
                    yield from self.steps(step.body, inside)

    def own(self, step: Step, state: _State) -> Iterator[str]:
        """What is wrong with a launch."""
        if not isinstance(step, Launch):
            return
        if not 0 <= step.kernel < len(self.program.kernels):
            yield f"it launches kernel {step.kernel}, which does not exist"
            return
        kernel = self.program.kernels[step.kernel]
        if (step.kernel, state.guards) not in self.verified:
            self.verified.add((step.kernel, state.guards))
            for problem in (*violations(kernel, state.guards), *_nest_problems(kernel)):
                yield f"kernel {step.kernel} {kernel.name}: {problem}"
        if len(step.buffers) != len(kernel.params):
            yield f"{len(step.buffers)} buffers are given to {len(kernel.params)} parameters"
            return
        yield from state.unbound(kernel_symbols(kernel))
        for param, buffer in zip(kernel.params, step.buffers):
            mine, its = param.type, buffer.type
            alike = its.dtype is mine.dtype and its.layout == mine.layout and its.rank == mine.rank
            if not (alike and all(_equal(a, b, state.guards) for a, b in zip(its.shape, mine.shape))):
                yield f"{kernel.name} takes {mine} as {param.name}, but %{buffer.name} is {its}"


def _nest_problems(kernel: Kernel) -> Iterator[str]:
    """Backends run a kernel point by point: no stage may read what another one stores."""
    for stage in kernel.body:
        inner = list(stages((stage,)))
        for other in stages(kernel.body):
            if isinstance(other, Store) and not any(other is each for each in inner):
                for load in loads((stage,)):
                    if load.param == other.param:
                        yield f"{load.param} is read in one stage and stored in another"


def _equal(left: Dim, right: Dim, guards: tuple[Guard, ...]) -> bool:
    if known_equal(left, right):
        return True
    space = Space({}, assume(guards))
    return space.nonnegative(left - right) and space.nonnegative(right - left)


def _goes_on(number: Symbol, trip: Dim, guards: tuple[Guard, ...]) -> Iterator[Guard]:
    """What holds in a loop: its number is below the trip count, and so below what bounds that."""
    bounds = [guard.right for guard in guards if guard.relation is Relation.LE and guard.left == trip]
    for bound in (trip, *bounds):
        yield Guard(Relation.LT, number, bound, "the loop goes on")


def _dims_of(step: Step) -> list[Dim]:
    """The Dims that a step itself speaks of."""
    places: list[Buffer | None] = []
    dims: list[Dim] = []
    match step:
        case Launch():
            places += step.buffers
        case Host():
            places += buffers((*step.inputs, *step.outputs))
        case Unload():
            places.append(step.buffer)
        case Refer(row=Symbol() as row):
            dims.append(row)
        case Bind(_, buffer, _):
            places.append(buffer)
        case Check(guard, _):
            dims += [guard.left, guard.right]
        case Set(_, values):
            dims += values
        case Grow(_, size):
            dims.append(size)
        case Copy(source, target):
            places += [source, target]
        case Branch(condition):
            places.append(condition)
        case Repeat():
            places += [step.condition, step.counter]
            dims += [] if step.trip is None else [step.trip]
    for each in places:
        dims += [] if each is None else [each.offset, *each.type.shape]
    return dims
