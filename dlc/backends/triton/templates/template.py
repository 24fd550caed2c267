"""What a template of the GPU backend is: a module that says whether it takes a part of a kernel, and writes
it.

match(part) -> Form | Declined
emit(part, form, target) -> Call | Launches

One that has several ways to run a part also lists them, and takes one:

candidates(form, target) -> list of configurations, the best by its model of costs first
emit(part, form, target, config) -> Call | Launches

A part is a kernel, too: some stages of one, whose other locals have become parameters.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol, TypeVar

from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.parts import Workspace
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget

Form = TypeVar("Form")


@dataclasses.dataclass(frozen=True)
class Declined:
    """A template does not take the part, and why."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Launches:
    """Calls one after the other, and the memory between them, which holds anything at first.

    The name of a workspace is that of a parameter of the functions, and no other's in the kernel.
    """

    calls: tuple[Call, ...]
    workspaces: tuple[Workspace, ...] = ()


class Template(Protocol[Form]):
    """The functions of a template module."""

    def match(self, part: Kernel) -> Form | Declined:
        """What the template reads from a part that it takes."""

    def emit(self, part: Kernel, form: Form, target: GpuTarget) -> Call | Launches:
        """Write the functions of a part that was matched, with choices that suit `target`."""
