"""The models of the tests, real ones and architectures alike: where they come from, how to run them, what of
them dlc is known not to do yet.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import dlc
from dlc.verify.engines import Float64, OnnxRuntime
from dlc.verify.result import Verification
from dlc.verify.verification import judge, widest_input, work_of
from tests.helpers.fetch import Member, fetch
from tests.helpers.recipes import Array, Input, make_inputs

FOLDER = Path(__file__).parents[1] / "models"


@dataclasses.dataclass(frozen=True)
class Model:
    """A model file and inputs that it accepts.

    `source` gives the file (and may raise OfflineError); `bindings` are shapes of all inputs, one mapping for
    each way to bind the dynamic dims; `shapes` is the option of dlc.compile of that name. Where a `touchy`
    model, whose weights amplify rounding, gives different results, the distances to float64 decide.
    """

    name: str
    source: Callable[[], Path]
    inputs: tuple[Input, ...]
    bindings: tuple[Mapping[str, Sequence[int]], ...]
    shapes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    touchy: bool = False

    def feeds(self, binding: int = 0, seed: int = 0) -> dict[str, Array]:
        """Inputs of the given binding."""
        return make_inputs(self.inputs, self.bindings[binding], seed)

    def proto(self) -> onnx.ModelProto:
        """The model, loaded."""
        return _load(self.source())

    def compile(self, **options: Any) -> dlc.CompiledModel:
        """The model compiled now, past the cache of compilations."""
        return dlc.compile(self.source(), cache=False, shapes=self.shapes, **options)

    def expected(self, binding: int = 0) -> dict[str, Array]:
        """What onnxruntime computes for the inputs of a binding."""
        outputs = _onnxruntime(self.source()).run(self.feeds(binding))
        return {name: value for name, value in outputs.items() if isinstance(value, np.ndarray)}


@functools.lru_cache(2)
def _load(path: Path) -> onnx.ModelProto:
    return onnx.load(path)


@functools.lru_cache(2)
def _onnxruntime(path: Path) -> OnnxRuntime:
    return OnnxRuntime(_load(path), threads=2)


# --- real models


@functools.cache
def real_models() -> tuple[Model, ...]:
    """The models listed in tests/models/real_models.json."""
    entries = json.loads((FOLDER / "real_models.json").read_text())
    members = [
        Member(e["package"], e["version"], e["wheel"], e["wheel_sha256"], e["member"], e["sha256"])
        for e in entries
    ]
    return tuple(
        Model(
            name=entry["name"],
            source=functools.partial(fetch, member, members),
            inputs=tuple(Input(i["name"], i["dtype"], i["recipe"]) for i in entry["inputs"]),
            bindings=tuple(entry["bindings"]),
            shapes=entry.get("shapes", {}),
            touchy=entry.get("touchy", False),
        )
        for entry, member in zip(entries, members, strict=True)
    )


# --- known gaps


@dataclasses.dataclass(frozen=True)
class Gaps:
    """What dlc is known not to do, from tests/models/gaps.json.

    `host`: by model and operator, the number of nodes without a native kernel, and why. `unsupported`: by
    model, the class of the error that compiling it raises, a part of its message, and why.
    """

    host: Mapping[str, Mapping[str, Mapping[str, Any]]]
    unsupported: Mapping[str, Mapping[str, str]]

    @classmethod
    def load(cls) -> Gaps:
        """The checked-in file."""
        return cls(**json.loads((FOLDER / "gaps.json").read_text()))

    def host_nodes(self, name: str) -> dict[str, int]:
        """Nodes of model `name` that are known to run on the host, by operator."""
        return {operator: gap["nodes"] for operator, gap in self.host.get(name, {}).items()}


def host_nodes(compiled: dlc.CompiledModel) -> dict[str, int]:
    """Nodes of a compiled model that run on the host, by operator."""
    found: dict[str, int] = {}
    for host in compiled.report().hosts:
        found[host.operator] = found.get(host.operator, 0) + 1
    return found


# --- running and comparing


def variant(
    compiled: dlc.CompiledModel, *, threads: int | None = None, poison: bool = False
) -> dlc.CompiledModel:
    """The same code with another number of threads, or with NaNs in the arena before each run."""
    return dlc.CompiledModel(compiled._artifact, threads=threads, poison=poison)


def bits(outputs: Sequence[Any]) -> list[tuple[str, tuple[int, ...], bytes]]:
    """Outputs as something that is equal when dtypes, shapes and all bits are."""
    return [(str(array.dtype), array.shape, array.tobytes()) for array in outputs]


def assert_agrees(model: Model, outputs: dlc.Outputs, binding: int = 0) -> None:
    """Check the outputs of a compiled model for the inputs of a binding, by the table of tolerances."""
    verification = compare(model, outputs, binding, {})
    if not verification and model.touchy:
        verification = compare(model, outputs, binding, Float64(model.proto()).run(model.feeds(binding)))
    assert verification, str(verification)


def compare(model: Model, outputs: dlc.Outputs, binding: int, exact: Mapping[str, Any]) -> Verification:
    """Outputs against onnxruntime's; `exact` are those in float64, of which some may be unknown."""
    proto = model.proto()
    work, widest = work_of(proto), widest_input(proto)
    results = [
        result
        for name, value in model.expected(binding).items()
        for result in judge(name, outputs[name], value, exact.get(name), work, widest=widest)
    ]
    return Verification(model.name, "onnxruntime", None, tuple(results))
