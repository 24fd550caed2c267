"""The GPU code of a whole program: functions for its kernels, the host for those that have none."""

from __future__ import annotations

import dataclasses

from dlc.backends.triton.choices import Choices
from dlc.backends.triton.elements import NotInTriton
from dlc.backends.triton.select import DEFAULT_TARGET, GpuKernel, emit_kernel
from dlc.lowering.program import Launch, Program, walk
from dlc.target import GpuTarget


@dataclasses.dataclass(frozen=True)
class HostKernel:
    """A kernel that Triton cannot say: it is evaluated in NumPy, on copies; `reason` tells why."""

    reason: str


@dataclasses.dataclass(frozen=True)
class GpuProgram:
    """A program, and how each of its kernels is run."""

    program: Program
    kernels: tuple[GpuKernel | HostKernel, ...]


def generate(
    program: Program, target: GpuTarget = DEFAULT_TARGET, choices: Choices | None = None
) -> GpuProgram:
    """Write the functions of all kernels of `program` for `target`."""
    origins: dict[int, tuple[str, ...]] = {}
    for step in walk(program.steps):
        if isinstance(step, Launch):
            origins.setdefault(step.kernel, step.origins)
    kernels: list[GpuKernel | HostKernel] = []
    for index, kernel in enumerate(program.kernels):
        try:
            named = dataclasses.replace(kernel, origins=origins.get(index, ()))
            kernels.append(emit_kernel(named, target, choices))
        except NotInTriton as error:
            kernels.append(HostKernel(error.reason))
    return GpuProgram(program, tuple(kernels))
