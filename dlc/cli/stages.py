"""The texts of a model on its way to code: graphs, kernels, program, LLVM IR, assembly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dlc.errors import InputError, printable
from dlc.options import ShapeSpec

if TYPE_CHECKING:
    from dlc.backends.cpu.backend import GeneratedCode
    from dlc.ir.graph import Graph
    from dlc.lowering.program import Program
    from dlc.target import CpuTarget

#: The stages in the order in which a model passes them, for CPUs and for GPUs.
STAGES = ("import", "optimized", "kernels", "program", "llvm", "asm")
GPU_STAGES = ("import", "optimized", "kernels", "program", "triton", "ptx")

_DEFINITION = re.compile(r"define [^@]*@([A-Za-z0-9_.]+)\(")
_LABEL = re.compile(r"([A-Za-z0-9_.]+):")


def is_gpu(target: str) -> bool:
    """Whether a target's name is that of a GPU."""
    return target.startswith("cuda")


@dataclass(frozen=True)
class Stages:
    """Makes each form of a model from the one before, once."""

    model: Path
    dims: Mapping[str, ShapeSpec]
    optimize: int = 2
    target_name: str = "native"
    skip: tuple[str, ...] = ()

    @cached_property
    def imported(self) -> Graph:
        """The graph as imported; made anew for `optimized`, which changes it."""
        from dlc.frontend.onnx.importer import import_model

        return import_model(self.model, shapes=self.dims).graph

    @cached_property
    def optimized(self) -> Graph:
        """The graph after the passes."""
        from dlc.frontend.onnx.importer import import_model
        from dlc.passes.pipeline import default_pipeline

        graph = import_model(self.model, shapes=self.dims).graph
        default_pipeline(self.optimize).without(*self.skip).run(graph)
        return graph

    @cached_property
    def program(self) -> Program:
        """The program."""
        from dlc.lowering.lower import lower

        return lower(self.optimized)

    @cached_property
    def target(self) -> CpuTarget:
        """The target by its name."""
        from dlc.target import resolve

        return resolve(self.target_name)

    @cached_property
    def code(self) -> GeneratedCode:
        """The generated code."""
        from dlc.backends.cpu.backend import generate

        return generate(self.program, self.target)

    def text(self, stage: str, node: str | None = None) -> str:
        """The text of one of STAGES; only what came from the ONNX node `node`, if that is given.

        Raises InputError if nothing of the stage came from a node of that name.
        """
        text = self._whole(stage) if node is None else self._part(stage, node)
        if not text:
            raise InputError(
                f"nothing at stage {stage} comes from a node named '{printable(str(node))}'",
                hint="`dlc inspect MODEL --stage import` shows the names after @",
                code="input/name",
            )
        return text

    def _whole(self, stage: str) -> str:
        from dlc.ir.text import to_text
        from dlc.lowering.program_text import program_text

        match stage:
            case "import":
                return to_text(self.imported)
            case "optimized":
                return to_text(self.optimized)
            case "kernels":
                return "\n".join(self._kernel(index) for index in range(len(self.program.kernels)))
            case "program":
                return program_text(self.program, kernels=False)
        return self._code(stage, None)

    def _part(self, stage: str, node: str) -> str:
        from dlc.ir.text import node_text

        if stage in ("import", "optimized"):
            graph = self.imported if stage == "import" else self.optimized
            return "".join(node_text(each) for each in graph.nodes if node in each.origin)
        numbers, kernels = self._launches(node)
        match stage:
            case "kernels":
                return "\n".join(map(self._kernel, kernels))
            case "program":
                marks = tuple(f"  step {number}:" for number in numbers)
                return "".join(line[2:] for line in _lines(self._whole(stage)) if line.startswith(marks))
        return self._code(stage, kernels)

    def _code(self, stage: str, kernels: Sequence[int] | None) -> str:
        """The code of some kernels; None for everything."""
        from dlc.backends.cpu.objects import compile_assembly

        text = self.code.text if stage == "llvm" else compile_assembly(self.code.text, self.target)
        if kernels is None:
            return text
        functions = {name for kernel in kernels for name in self.code.kernels[kernel].functions}
        split = llvm_functions if stage == "llvm" else assembly_functions
        return "\n".join(part for name, part in split(text) if name in functions)

    def _kernel(self, index: int) -> str:
        """The text of a kernel, with its number, its template, and why others did not take it."""
        from dlc.lowering.text import to_text

        compiled = self.code.kernels[index]
        lines = [f"# kernel {index}, template {compiled.template}"]
        lines += [f"#   not {name}: {reason}" for name, reason in compiled.declined.items()]
        return "\n".join([*lines, to_text(self.program.kernels[index])])

    def _launches(self, node: str) -> tuple[list[int], list[int]]:
        """The steps that work for `node`, and the kernels that they launch."""
        from dlc.lowering.program import Host, Launch

        numbers: list[int] = []
        kernels: dict[int, None] = {}
        for number, step in enumerate(self.program.steps):
            match step:
                case Launch(kernel, _, _, origins) if node in origins:
                    numbers.append(number)
                    kernels[kernel] = None
                case Host(_, host) if node in host.origin:
                    numbers.append(number)
        return numbers, list(kernels)


def llvm_functions(text: str) -> Iterator[tuple[str, str]]:
    """(name, text) of each function in LLVM IR."""
    name, lines = "", list[str]()
    for line in _lines(text):
        found = _DEFINITION.match(line)
        if found:
            name, lines = found.group(1), []
        if name:
            lines.append(line)
        if name and line.startswith("}"):
            yield name, "".join(lines)
            name = ""


def assembly_functions(text: str) -> Iterator[tuple[str, str]]:
    """(name, text) of each function in assembly."""
    name, lines = "", list[str]()
    for line in _lines(text):
        found = _LABEL.match(line)
        if not name and found and not found.group(1).startswith("."):
            name, lines = found.group(1), []
        if name and line.startswith(".Lfunc_end"):
            yield name, "".join(lines)
            name = ""
        if name:
            lines.append(line)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
