"""From a program to compiled functions, in ways that do not run out of registers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.api.gpu.plan import Plan
from dlc.api.gpu.planner import make_plan
from dlc.backends.triton.backend import GpuProgram, generate
from dlc.backends.triton.binary import ByteStore, GpuBinary, compile_functions
from dlc.backends.triton.choices import Choices
from dlc.backends.triton.footprint import footprint
from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.function_builder import Work
from dlc.backends.triton.select import GpuKernel
from dlc.lowering.program import Program
from dlc.target import GpuTarget


@dataclasses.dataclass(frozen=True)
class CompiledFunctions:
    """The generated code of a program, its plan, and its functions with their binaries by number."""

    code: GpuProgram
    plan: Plan
    functions: tuple[TritonFunction, ...]
    binaries: tuple[GpuBinary, ...]


def compile_program(
    program: Program, target: GpuTarget, choices: Choices, store: ByteStore | None = None
) -> CompiledFunctions:
    """Generate and compile the functions of `program`, in the ways of `choices`.

    A way that needs more registers than there are gives way to the next one, which `choices` then holds,
    unless there is none.
    """
    while True:
        code = generate(program, target, choices)
        plan, functions = make_plan(code)
        binaries = tuple(compile_functions(functions, target, store=store))
        spilling = _spilling(code, functions, binaries)
        for work in spilling:
            choices.chosen[work.key] = work.way + 1
        if not spilling:
            return CompiledFunctions(code, plan, functions, binaries)


def _spilling(
    code: GpuProgram, functions: Sequence[TritonFunction], binaries: Sequence[GpuBinary]
) -> set[Work]:
    """The work whose functions keep registers in memory, and which could be done in another way."""
    stacks = {
        function.digest: footprint(binary.code).stack_bytes if binary.backend == "cuda" else 0
        for function, binary in zip(functions, binaries, strict=True)
    }
    calls = [call for kernel in code.kernels if isinstance(kernel, GpuKernel) for call in kernel.calls]
    return {
        call.work
        for call in calls
        if call.work is not None and call.work.way + 1 < call.work.ways and stacks[call.function.digest]
    }
