"""Whether what a plan refers to exists: functions, memories, guards, symbols, element types, kernels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from dlc.api.gpu import plan as p
from dlc.errors import PackageError
from dlc.ir.dims import Relation
from dlc.ir.dtypes import from_text
from dlc.lowering.parse import parse


def check(plan: p.Plan, functions: int) -> None:
    """PackageError, KeyError or ValueError for a plan that refers to what it has not.

    `functions` is the number of functions that it may launch.
    """
    _Check(plan, functions).run()


class _Check:
    def __init__(self, plan: p.Plan, functions: int) -> None:
        self.plan = plan
        self.functions = functions
        self.memories = {
            p.INPUT: len(plan.inputs),
            p.OUTPUT: len(plan.outputs),
            p.CONSTANT: plan.constants,
            p.ARENA: 1,
            p.GROWN: plan.growing,
            p.WORKSPACE: len(plan.workspaces),
            p.FAULTS: 1,
        }

    def run(self) -> None:
        plan = self.plan
        for guard in plan.guards:
            Relation(guard.relation)
        _require(0 <= plan.entry_guards <= len(plan.guards), "there are not so many guards")
        for tensor in (*plan.inputs, *plan.outputs):
            from_text(tensor.dtype)
            self.place(tensor.place)
        for name in plan.symbols:
            _require(name in plan.ranges, f"the symbol {name} has no range")
        for step in walk(plan.steps):
            self.step(step)

    def place(self, place: p.Place | None) -> None:
        if place is not None:
            _require(0 <= place.index < self.memories[place.kind], "a memory does not exist")

    def step(self, step: p.Step) -> None:
        match step:
            case p.Launch():
                _require(0 <= step.function < self.functions, "a function does not exist")
                _require(1 <= len(step.grid) <= 3, "a grid has no more than three axes")
            case p.Recur():
                for number in (number for pair in step.swapped for number in pair):
                    _require(0 <= number < len(self.plan.workspaces), "a workspace does not exist")
            case p.Evaluate():
                params = parse(step.kernel).params
                _require(len(params) == len(step.places), "a kernel has other parameters")
            case p.Bind():
                from_text(step.dtype)
            case p.Check():
                _require(0 <= step.guard < len(self.plan.guards), "a guard does not exist")
            case p.Set():
                _require(len(step.symbols) == len(step.values), "symbols and values differ in number")
            case p.Grow():
                _require(0 <= step.index < self.plan.growing, "a growing memory does not exist")
            case p.Reserve():
                _require(len(step.bytes) <= len(self.plan.workspaces), "a workspace does not exist")
        for place in _places(step):
            self.place(place)


def walk(steps: Iterable[p.Step]) -> Iterator[p.Step]:
    """All steps, those within others after them."""
    for step in steps:
        yield step
        match step:
            case p.Recur() | p.Repeat():
                yield from walk(step.body)
            case p.Branch():
                yield from walk((*step.then, *step.otherwise))


def _places(step: p.Step) -> Sequence[p.Place | None]:
    """The places that a step itself speaks of."""
    match step:
        case p.Launch():
            return step.pointers
        case p.Evaluate():
            return step.places
        case p.Bind():
            return (step.place,)
        case p.Copy():
            return (step.source, step.target)
        case p.Branch():
            return (step.condition,)
        case p.Repeat():
            return (step.condition, step.counter, step.again)
    return ()


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise PackageError(problem)
