"""The texts of a model on its way to a GPU: kernels with their functions, Triton's source, PTX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dlc.cli.stages import Stages
from dlc.options import Options

if TYPE_CHECKING:
    from dlc.api.gpu.functions import CompiledFunctions
    from dlc.ir.graph import Graph


@dataclass(frozen=True)
class GpuStages(Stages):
    """The forms of a model for a GPU target. Functions are numbered as in a package."""

    @cached_property
    def optimized(self) -> Graph:
        """The graph after the passes."""
        from dlc.frontend.onnx.importer import import_model
        from dlc.passes.pipeline import gpu_pipeline

        graph = import_model(self.model, shapes=self.dims).graph
        gpu_pipeline(self.optimize).without(*self.skip).run(graph)
        return graph

    @cached_property
    def compiled(self) -> CompiledFunctions:
        """The functions and their binaries, as a compilation makes them."""
        from dlc.api.gpu.functions import compile_program
        from dlc.api.gpu.tuning import choices_for
        from dlc.runtime.cache import default_cache
        from dlc.target import resolve_gpu

        target = resolve_gpu(self.target_name)
        choices = choices_for(self.program, target, Options(target=self.target_name, shapes=self.dims))
        return compile_program(self.program, target, choices, default_cache())

    def _code(self, stage: str, kernels: Sequence[int] | None) -> str:
        """The functions of some kernels; None for all."""
        chosen = range(len(self.program.kernels)) if kernels is None else kernels
        numbers = {number for kernel in chosen for number in self._functions(kernel)}
        return "\n".join(self._function(stage, number) for number in sorted(numbers))

    def _function(self, stage: str, number: int) -> str:
        """The text of a function, with its number and how it is launched."""
        function, binary = self.compiled.functions[number], self.compiled.binaries[number]
        if stage == "ptx":
            return f"// function {number}: {function.name}\n{binary.assembly}"
        grid = ", ".join(map(str, function.grid))
        head = f"# function {number}: {function.name}, grid ({grid}), {binary.num_warps} warps"
        return f"{head}, {binary.shared_bytes} bytes of shared memory\n{function.text}"

    def _functions(self, kernel: int) -> list[int]:
        """The numbers of the functions that a kernel launches."""
        from dlc.backends.triton.select import GpuKernel

        written = self.compiled.code.kernels[kernel]
        if not isinstance(written, GpuKernel):
            return []
        digests = [function.digest for function in self.compiled.functions]
        return [digests.index(call.function.digest) for call in written.calls]

    def _kernel(self, index: int) -> str:
        """The text of a kernel, with the templates and numbers of its functions or why it has none."""
        from dlc.backends.triton.backend import HostKernel
        from dlc.lowering.text import to_text

        written = self.compiled.code.kernels[index]
        if isinstance(written, HostKernel):
            head = f"# kernel {index}, on the host: {written.reason}"
        else:
            pairs = zip(written.calls, self._functions(index), strict=True)
            head = f"# kernel {index}: " + ", ".join(f"{c.template} (function {n})" for c, n in pairs)
        return f"{head}\n{to_text(self.program.kernels[index])}"
