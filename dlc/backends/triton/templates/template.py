"""What a template of the GPU backend is: a module that says whether it takes a part of a kernel, and writes
it.

match(part) -> Form | Declined
emit(part, form, target) -> Call

A part is a kernel, too: some stages of one, whose other locals have become parameters.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol, TypeVar

from dlc.backends.triton.function_builder import Call
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget

Form = TypeVar("Form")


@dataclasses.dataclass(frozen=True)
class Declined:
    """A template does not take the part, and why."""

    reason: str


class Template(Protocol[Form]):
    """The functions of a template module."""

    def match(self, part: Kernel) -> Form | Declined:
        """What the template reads from a part that it takes."""

    def emit(self, part: Kernel, form: Form, target: GpuTarget) -> Call:
        """Write the function of a part that was matched, with choices that suit `target`."""
