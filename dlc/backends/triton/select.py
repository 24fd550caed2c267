"""Choosing the templates of a kernel, and with them where it is cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import ModuleType
from typing import Any, TypeAlias

from dlc.backends.triton.choices import Choices
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.pairs import as_words
from dlc.backends.triton.parts import Cutter, Workspace, workspace_name
from dlc.backends.triton.semantics import NotInTriton
from dlc.backends.triton.templates import (
    atomic,
    attention,
    contraction,
    direct,
    gemv,
    long_rows,
    ordered,
    pointwise,
    routines,
    rows,
    scan,
)
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dims import Dim
from dlc.lowering.kernel import Kernel, Recur, Stage
from dlc.target import GpuTarget, resolve_gpu

#: In the order in which they are asked.
TEMPLATES: dict[str, ModuleType] = {
    "attention": attention,
    "direct": direct,
    "gemv": gemv,
    "contraction": contraction,
    "long_rows": long_rows,
    "rows": rows,
    "pointwise": pointwise,
    "atomic": atomic,
    "ordered": ordered,
    "scan": scan,
    "routines": routines,
}

#: What code is written for where nobody says.
DEFAULT_TARGET = resolve_gpu("cuda:sm_90")


@dataclasses.dataclass(frozen=True)
class Steps:
    """A recurrence: `calls` for each number of `axis` from 0 to `extent`, backwards if `reverse`.

    After each step the two workspaces of every pair in `swapped` change names.
    """

    axis: str
    extent: Dim
    reverse: bool
    calls: tuple[Call, ...]
    swapped: tuple[tuple[str, str], ...]


Action: TypeAlias = Call | Steps


@dataclasses.dataclass(frozen=True)
class GpuKernel:
    """How a kernel is run: what is done in order, and memory between that."""

    kernel: Kernel
    actions: tuple[Action, ...]
    workspaces: tuple[Workspace, ...]

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call, those of recurrences once."""
        return tuple(
            call
            for action in self.actions
            for call in (action.calls if isinstance(action, Steps) else (action,))
        )


def emit_kernel(
    kernel: Kernel, target: GpuTarget = DEFAULT_TARGET, choices: Choices | None = None
) -> GpuKernel:
    """The functions of `kernel` for `target`: always as many of the next stages as one template takes.

    Raises NotInTriton, with the reasons, where no template takes a stage.
    """
    kernel = as_words(kernel)
    return _Selection(Cutter(kernel), target, choices or Choices()).run(kernel)


class _Selection:
    def __init__(self, cutter: Cutter, target: GpuTarget, choices: Choices) -> None:
        self.cutter = cutter
        self.target = target
        self.choices = choices

    def run(self, kernel: Kernel) -> GpuKernel:
        actions: list[Action] = []
        start = 0
        while start < len(kernel.body):
            found = self.longest(kernel.body[start:])
            stage = kernel.body[start]
            if isinstance(found, tuple):
                actions += found[0]
                start += found[1]
            elif isinstance(stage, Recur):
                actions += self.recurrence(stage)
                start += 1
            else:
                raise NotInTriton(f"no template takes it ({found})")
        return GpuKernel(kernel, tuple(actions), tuple(self.cutter.workspaces.values()))

    def longest(self, body: Sequence[Stage]) -> tuple[tuple[Call, ...], int] | str:
        """The calls for as many stages from the first on as a template takes, and how many; or why not."""
        declined: dict[str, str] = {}
        for count in range(len(body), 0, -1):
            part = self.cutter.part(body[:count], body[count:])
            for label, template in TEMPLATES.items():
                form: Any = template.match(part)
                if isinstance(form, Declined):
                    declined[label] = form.reason
                    continue
                written = self.choices.emit(label, template, part, form, self.target)
                self.cutter.workspaces.update((space.name, space) for space in written.workspaces)
                return written.calls, count
        return "; ".join(f"{label}: {reason}" for label, reason in declined.items())

    def all(self, body: Sequence[Stage]) -> tuple[Call, ...]:
        """Calls for all of the stages, none of which is a recurrence."""
        calls: list[Call] = []
        while body:
            found = self.longest(body)
            if isinstance(found, str):
                raise NotInTriton(f"no template takes it ({found})")
            calls += found[0]
            body = body[found[1] :]
        return tuple(calls)

    def recurrence(self, recur: Recur) -> tuple[Action, ...]:
        """A recurrence as launches: states in memory, each step's calls after those of the one before."""
        begin = self.all(self.cutter.begin(recur))
        calls = self.all(self.cutter.step(recur))
        names = [state.local.name for state in recur.states]
        swapped = tuple((workspace_name(name), workspace_name(f"{name}_next")) for name in names)
        extent = self.cutter.kernel.extent(recur.axis)
        return (*begin, Steps(recur.axis, extent, recur.reverse, calls, swapped))
