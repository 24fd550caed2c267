"""What a kernel template is: a module that says whether it takes a kernel, and writes it.

match(kernel, module) -> Match | Declined      # decided from the kernel, the target and the policy
emit(module, name, match) -> CompiledKernel
"""

from __future__ import annotations

import dataclasses
from typing import Generic, Protocol, TypeVar

from dlc.backends.cpu.compiled import CompiledKernel
from dlc.backends.cpu.module import Module
from dlc.lowering.kernel import Kernel

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

    def match(self, kernel: Kernel, module: Module) -> Match[Form] | Declined:
        """Whether the template takes `kernel`, for the target of `module` and by its policy."""

    def emit(self, module: Module, name: str, match: Match[Form]) -> CompiledKernel:
        """Write the kernel that was matched as function `name`."""
