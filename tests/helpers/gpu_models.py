"""Models compiled for a GPU and run under Triton's interpreter; nothing is compiled to binaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest import mock

import numpy as np

import dlc
from dlc.api.compile import Hooks, compile_hooked
from dlc.api.gpu import functions
from dlc.api.gpu.build import GpuArtifact
from dlc.api.gpu.functions import CompiledFunctions
from dlc.api.gpu.interpreted import InterpretedMachine
from dlc.api.gpu.model import GpuModel
from dlc.api.gpu.planner import make_plan
from dlc.backends.triton.backend import generate
from dlc.lowering.program import Program
from dlc.options import Options
from dlc.target import GpuTarget

TARGET = "cuda:sm_90"


def open_interpreted(artifact: GpuArtifact, **options: Any) -> GpuModel:
    """A model on a machine that interprets the artifact's functions."""
    return GpuModel(artifact, machine=lambda made: InterpretedMachine(made.functions))


def interpreted(source: Any, **options: Any) -> GpuModel:
    """What `dlc.compile` makes of `source` for a GPU, run under the interpreter."""
    chosen = Options(target=TARGET, cache=False, **options)
    with mock.patch.object(functions, "compile_program", _generate_only):
        model = compile_hooked(source, chosen, lambda phase: None, Hooks(), open_interpreted)
    assert isinstance(model, GpuModel)
    return model


def _generate_only(program: Program, target: GpuTarget, *arguments: Any) -> CompiledFunctions:
    code = generate(program, target)
    return CompiledFunctions(code, *make_plan(code), ())


def run_both(source: Any, feeds: Mapping[str, np.ndarray[Any, Any]]) -> tuple[list[Any], list[Any]]:
    """The outputs of the interpreted model and those of the model on the CPU."""
    with interpreted(source) as gpu, dlc.compile(source, threads=1, cache=False) as cpu:
        return list(gpu.run(None, feeds)), list(cpu.run(None, feeds))
