"""Code generation for a whole program: kernels and driver in one module, one object file."""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu.compiled import CompiledKernel
from dlc.backends.cpu.driver import emit_driver
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.objects import compile_object
from dlc.backends.cpu.packing import pack_constants
from dlc.backends.cpu.policy import Policy
from dlc.backends.cpu.templates.select import emit_kernel
from dlc.ir.dims import maximum
from dlc.limits import Limits
from dlc.lowering.program import Program
from dlc.target import CpuTarget

#: Bytes beside each buffer of the arena that no step of checked code may write to.
RED_ZONE = 256
#: Checked code has about this many times the instructions.
DEBUG_GROWTH = 8


@dataclasses.dataclass(frozen=True)
class GeneratedCode:
    """A model's object file, the LLVM text it was made from, and what is known of its kernels.

    `program` is the program as it is run: its constants are those that the kernels read, packed. `accesses`
    describes the checked accesses to memory of code to debug, by number.
    """

    object: bytes
    text: str
    kernels: tuple[CompiledKernel, ...]
    program: Program
    accesses: tuple[str, ...] = ()


def generate(
    program: Program,
    target: CpuTarget,
    limits: Limits | None = None,
    policy: Policy | None = None,
    *,
    debug: bool = False,
) -> GeneratedCode:
    """Generate the code of `program` for `target` by `policy`.

    `debug` code checks the bounds of each access to memory, and the red zones of the program: what strays is
    kept from memory and ends the run in an InternalError. The arena of the program that is returned ends in
    the workspace of kernels of two phases.

    Raises LimitError when a function or the whole would be so large that LLVM takes unreasonably long.
    """
    limits = limits or Limits()
    module = Module(target, policy, frozenset(program.symbols), debug=debug)
    kernels = [
        emit_kernel(module, f"k{index}_{kernel.name}", kernel) for index, kernel in enumerate(program.kernels)
    ]
    planned = pack_constants(program, kernels)
    workspace = maximum(0, 0, *(kernel.workspace for kernel in kernels))
    program = dataclasses.replace(planned, arena=planned.arena + workspace)
    emit_driver(module, program, kernels, planned.arena)
    text = module.text()
    _check_size(text, limits, DEBUG_GROWTH if debug else 1)
    return GeneratedCode(compile_object(text, target), text, tuple(kernels), program, module.accesses)


def _check_size(text: str, limits: Limits, growth: int) -> None:
    """LimitError for a function, or a module, of more than `growth` times the instructions that the limits
    allow.
    """
    limits.check("program_instructions", text.count("\n") // growth, "instructions of the generated code")
    for function in text.split("\ndefine ")[1:]:
        size = function.count("\n") // growth
        if size > limits.kernel_instructions:
            name = function.partition("@")[2].partition("(")[0]
            limits.check("kernel_instructions", size, f"instructions of the kernel {name}")
