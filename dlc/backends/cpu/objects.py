"""From LLVM text to object code."""
from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlc.backends.cpu.module import Module
from dlc.errors import InternalError
from dlc.target import CpuTarget

if TYPE_CHECKING:
    import llvmlite.binding as llvm


def compile_object(text: str, target: CpuTarget, opt: int = 1) -> bytes:
    """The relocatable object file (ELF on Linux) of a module's `text`.

    Position-independent, small code model, no middle-end passes; `opt` is LLVM's code generation level 0 to 3
    (1 is as fast as 3 on this builder's output and cheaper; 0 spills everything). Raises InternalError for
    text that LLVM rejects.
    """
    return bytes(_machine(target, opt).emit_object(_parse(text)))


def compile_assembly(text: str, target: CpuTarget, opt: int = 1) -> str:
    """The assembly text of the same code, for people and for tests."""
    return str(_machine(target, opt).emit_assembly(_parse(text)))


def compile_module(module: Module, opt: int = 1) -> bytes:
    """:func:`compile_object` of a module for its own target."""
    return compile_object(module.text(), module.target, opt)


@dataclass(frozen=True)
class InstructionStatistics:
    """Counts over assembly text: `instructions`; those touching `zmm` and `ymm` registers; `spills`, vector
    moves from or to the stack; `calls`; `by_name`: mnemonics and their counts."""

    instructions: int
    zmm: int
    ymm: int
    spills: int
    calls: int
    by_name: dict[str, int]


def instruction_statistics(assembly: str, function: str | None = None) -> InstructionStatistics:
    """Count the instructions of one function in the (AT&T) `assembly`, or of all."""
    lines = [line.strip() for line in _function_lines(assembly, function)]
    code = [line for line in lines if line and not line.startswith((".", "#")) and not line.endswith(":")]
    by_name: dict[str, int] = {}
    for line in code:
        mnemonic = line.split(None, 1)[0]
        by_name[mnemonic] = by_name.get(mnemonic, 0) + 1
    return InstructionStatistics(
        instructions=len(code),
        zmm=sum("%zmm" in line for line in code),
        ymm=sum("%ymm" in line for line in code),
        spills=sum(bool(_SPILL.match(line)) for line in code),
        calls=sum(count for name, count in by_name.items() if name.startswith("call")),
        by_name=by_name,
    )


_SPILL = re.compile(r"vmov[a-z0-9]+\s.*\(%r[sb]p\).*")


def _function_lines(assembly: str, function: str | None) -> list[str]:
    lines = assembly.splitlines()
    if function is None:
        return lines
    starts = [n for n, line in enumerate(lines) if line.startswith(f"{function}:")]
    if not starts:
        raise InternalError(f"no function {function} in the assembly")
    first = starts[0]
    last = next(n for n in range(first, len(lines)) if lines[n].startswith(".Lfunc_end"))
    return lines[first:last]


def _parse(text: str) -> llvm.ModuleRef:
    import llvmlite.binding as llvm

    _initialize()
    try:
        # A context of its own: the global one would keep the types of every module for ever.
        module = llvm.parse_assembly(text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise InternalError(f"LLVM rejects generated code: {error}") from error
    return module


@functools.cache
def _initialize() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@functools.cache
def _machine(target: CpuTarget, opt: int) -> llvm.TargetMachine:
    import llvmlite.binding as llvm

    _initialize()
    machine = llvm.Target.from_triple(target.triple)
    return machine.create_target_machine(
        cpu=target.cpu, features=target.feature_string, opt=opt, reloc="pic", codemodel="small"
    )
