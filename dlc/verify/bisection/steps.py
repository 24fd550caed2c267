"""The steps of a program: what they read and write, their numbers, and how a run follows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from dlc.errors import LimitError
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.inplace import overwritable
from dlc.lowering.kernel import Access
from dlc.lowering.program import (
    Branch,
    Buffer,
    Copy,
    Host,
    Launch,
    Program,
    Repeat,
    Step,
    Unload,
    buffers as memory_of,
    walk,
)
from dlc.verify.bisection.image import Image
from dlc.verify.bisection.report import Culprit

Found = TypeVar("Found")


def reads(program: Program, step: Step) -> tuple[Buffer, ...]:
    """The buffers that a step reads itself, those that it updates included."""
    match step:
        case Launch(kernel, buffers):
            params = program.kernels[kernel].params
            return tuple(b for p, b in zip(params, buffers, strict=True) if p.access is not Access.WRITE)
        case Host(_, _, inputs):
            return tuple(memory_of(inputs))
        case Copy(source, _):
            return (source,)
    return ()


def writes(program: Program, step: Step) -> tuple[Buffer, ...]:
    """The buffers that a step writes itself, those that it updates included."""
    match step:
        case Launch(kernel, buffers):
            params = program.kernels[kernel].params
            return tuple(b for p, b in zip(params, buffers, strict=True) if p.access is not Access.READ)
        case Host(_, _, _, outputs):
            return tuple(memory_of(outputs))
        case Unload(_, _, buffer):
            return (buffer,)
        case Copy(_, target):
            return (target,)
    return ()


def in_place(program: Program, step: Step) -> tuple[Buffer, ...]:
    """The buffers that a step may overwrite with its result as it reads them."""
    if not isinstance(step, Launch):
        return ()
    kernel = program.kernels[step.kernel]
    allowed = overwritable(LoweredKernel(kernel, {}))
    pairs = zip(kernel.params, step.buffers, strict=True)
    return tuple(buffer for param, buffer in pairs if param.name in allowed)


def numbered(program: Program) -> list[Step]:
    """All steps, those inside branches and loops included; a step's number is its position here."""
    return list(walk(program.steps))


def last_writers(program: Program) -> dict[str, int]:
    """The number of the last step that writes each value, by the value's name."""
    return {b.name: number for number, step in enumerate(numbered(program)) for b in writes(program, step)}


def place(culprit: Culprit, program: Program, number: int) -> Culprit:
    """The culprit at the step of that number."""
    step = numbered(program)[number]
    match step:
        case Launch(kernel, _, _, origins):
            name = f"k{kernel}_{program.kernels[kernel].name}"
            return replace(culprit, step=number, kernel=name, nodes=origins)
        case Host(_, node):
            return replace(culprit, step=number, nodes=node.origin)
        case Repeat():
            return replace(culprit, step=number, nodes=step.origins)
    return replace(culprit, step=number)


class Following(Generic[Found]):
    """Takes steps on an image, in the order of a run. Launches and host steps are left to `visit`, which gets
    their number; the first thing that it returns ends the run.
    """

    def __init__(self, image: Image, visit: Callable[[int, Launch | Host], Found | None]) -> None:
        self.image = image
        self.visit = visit
        self.numbers = {id(step): number for number, step in enumerate(walk(image.program.steps))}

    def all(self) -> Found | None:
        """Take all steps."""
        return self.steps(self.image.program.steps)

    def steps(self, steps: Sequence[Step]) -> Found | None:
        """Take `steps`."""
        for step in steps:
            found = self.step(step)
            if found is not None:
                return found
        return None

    def step(self, step: Step) -> Found | None:
        """Take one step, with those inside it."""
        match step:
            case Launch() | Host():
                return self.visit(self.numbers[id(step)], step)
            case Branch():
                way = step.then if self.image.holds(step.condition) else step.otherwise
                with self.image.inside(step.symbols):
                    return self.steps(way)
            case Repeat():
                return self._repeat(step)
            case _:
                self.image.take(step)
                return None

    def _repeat(self, step: Repeat) -> Found | None:
        trip = None if step.trip is None else self.image.number(step.trip)
        condition, count = step.condition, 0
        while (trip is None or count < trip) and (condition is None or self.image.holds(condition)):
            if count >= step.limit:
                raise LimitError(f"a loop takes more than {step.limit} iterations")
            self.image.begin_iteration(step, count)
            with self.image.inside(step.symbols):
                found = self.steps(step.body)
            if found is not None:
                return found
            condition, count = step.again, count + 1
        return None
