"""Running commands in this process, with onnxruntime in the place of the compiler."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pytest

import dlc
from dlc.api.specs import TensorSpec
from dlc.cli.app import run
from dlc.verify.engines import OnnxRuntime
from dlc.verify.inputs import model_inputs


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit status and what it printed."""

    status: int
    out: str
    err: str


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`cli("run", path, "--json")` runs the command."""

    def call(*arguments: object) -> Ran:
        status = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Ran(int(status), captured.out, captured.err)

    return call


class Report:
    """What a compilation reports."""

    def to_json(self) -> str:
        return json.dumps({"kernels": 3})

    def __str__(self) -> str:
        return "fusions\n  conv + norm + relu"


class StandIn:
    """A compiled model's interface on top of onnxruntime; a "package" is the ONNX file itself."""

    def __init__(self, compiler: Compiler, source: Any, **options: Any) -> None:
        self.compiler, self.source, self.options = compiler, Path(source), options
        proto = onnx.load(source)
        self._engine = OnnxRuntime(proto, threads=1)
        self.inputs = [
            TensorSpec(spec.name, spec.dtype, tuple(dim or "?" for dim in spec.shape))
            for spec in model_inputs(proto)
        ]
        self.outputs = [TensorSpec(info.name, self.inputs[0].dtype, ()) for info in proto.graph.output]

    def __call__(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(map(self.compiler.fault, self._engine.run(values).values()))

    def save(self, path: Path, *, self_test: bool) -> None:
        self.compiler.self_tests.append(self_test)
        path.write_bytes(self.source.read_bytes())

    def report(self) -> Report:
        return Report()


@dataclass
class Compiler:
    """Takes the place of dlc.compile and dlc.load. `fault` changes each output, to play one that is wrong."""

    made: list[StandIn] = field(default_factory=list)
    self_tests: list[bool] = field(default_factory=list)
    fault: Callable[[Any], Any] = copy.copy

    def __call__(self, source: Any, **options: Any) -> StandIn:
        self.made.append(StandIn(self, source, **options))
        return self.made[-1]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """The stand-in, installed."""
    found = Compiler()
    monkeypatch.setitem(vars(dlc), "compile", found)
    monkeypatch.setitem(vars(dlc), "load", found)
    return found
