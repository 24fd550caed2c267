"""What a kernel template is: a module that says whether it takes a kernel, and writes it.

match(kernel, target) -> Match | Declined      # decided from the kernel and the target alone
emit(module, name, match) -> CompiledKernel
"""

from __future__ import annotations

import dataclasses
from typing import Generic, Protocol, TypeVar

from dlc.backends.cpu.compiled import CompiledKernel
from dlc.backends.cpu.module import Module
from dlc.lowering.kernel import Kernel
from dlc.target import CpuTarget

Form = TypeVar("Form")


@dataclasses.dataclass(frozen=True)
class Match(Generic[Form]):
    """A template takes the kernel: what it read from it, for its own use in `emit`."""

    form: Form


@dataclasses.dataclass(frozen=True)
class Declined:
    """A template does not take the kernel, and why."""

    reason: str


class Template(Protocol[Form]):
    """The functions of a template module."""

    def match(self, kernel: Kernel, target: CpuTarget) -> Match[Form] | Declined:
        """Whether the template takes `kernel` on `target`."""

    def emit(self, module: Module, name: str, match: Match[Form]) -> CompiledKernel:
        """Write the kernel that was matched as function `name`."""
