"""Where a benchmark runs: on the GPU at hand, or for a trial on the CPU, through Triton's interpreter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

import dlc
from dlc.api.assemble import Artifact
from dlc.options import Options

#: The architecture whose code a trial interprets.
TRIAL_TARGET = "cuda:sm_90"

Call = Callable[[], Any]


class Place(Protocol):
    """A device of torch with a clock, and how dlc compiles for it. `tiny` asks for tiny workloads."""

    device: str
    tiny: bool

    def compile(self, model: bytes, precision: str) -> dlc.CompiledModel:
        """An ONNX model, ready to run."""

    def torch_compile(self, module: torch.nn.Module) -> Any:
        """The module as torch compiles it at its best."""

    def seconds(self, call: Call, count: int) -> float:
        """The time of a call, as the mean of `count` that follow each other."""

    def describe(self) -> dict[str, Any]:
        """What the results depend on."""


class Gpu:
    """The GPU at hand; times are those of its clock, between events.

    With `tune` dlc measures ways to run kernels, as torch does at its best.
    """

    device = "cuda"
    tiny = False

    def __init__(self, tune: bool) -> None:
        self.tune = tune

    def compile(self, model: bytes, precision: str) -> dlc.CompiledModel:
        return dlc.compile(model, target="cuda", precision=precision, cache=False, tune=self.tune)

    def torch_compile(self, module: torch.nn.Module) -> Any:
        return torch.compile(module, mode="max-autotune", fullgraph=True)

    def seconds(self, call: Call, count: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return milliseconds * 1e-3 / count

    def describe(self) -> dict[str, Any]:
        return {
            "gpu": torch.cuda.get_device_name(),
            "capability": "sm_{}{}".format(*torch.cuda.get_device_capability()),
            "tune": self.tune,
            "memory_bytes": torch.cuda.get_device_properties(0).total_memory,
        }


class Trial:
    """The CPU. Code for a GPU is generated, and interpreted; the times say nothing."""

    device = "cpu"
    tiny = True

    def compile(self, model: bytes, precision: str) -> dlc.CompiledModel:
        from dlc.api.compile import compile_hooked
        from dlc.api.gpu.build import GpuArtifact
        from dlc.api.gpu.interpreted import InterpretedMachine
        from dlc.api.gpu.model import GpuModel

        def make(artifact: Artifact | GpuArtifact, *, threads: int | None) -> GpuModel:
            assert isinstance(artifact, GpuArtifact)
            return GpuModel(artifact, machine=lambda made: InterpretedMachine(made.functions))

        options = Options(target=TRIAL_TARGET, precision=precision, cache=False)
        return compile_hooked(model, options, lambda message: None, make=make)

    def torch_compile(self, module: torch.nn.Module) -> Any:
        torch.compiler.reset()
        return torch.compile(module, backend="eager", fullgraph=True)

    def seconds(self, call: Call, count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - start) / count

    def describe(self) -> dict[str, Any]:
        return {"gpu": "none: Triton's interpreter"}
