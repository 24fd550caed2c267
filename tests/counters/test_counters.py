"""Counters of small models against golden ones: a change of the compiler that costs launches or memory shows.

`pytest tests/counters --update-golden` writes the file anew; its diff belongs to the commit that changes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc
from tests.counters.measure import TARGET, counters, native_memory, python_bytes, structure
from tests.helpers.model_zoo import Model, assert_agrees
from tests.models.architectures import architectures, named

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module", params=architectures(), ids=lambda model: model.name)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Model, dlc.CompiledModel]]:
    """Each model in turn, compiled for the target of the golden counters."""
    model: Model = request.param
    with model.compile(target=TARGET, threads=2) as native:
        yield model, native


def test_counters_are_the_golden_ones(case: tuple[Model, dlc.CompiledModel], update_golden: bool) -> None:
    model, native = case
    path = GOLDEN / f"{model.name}.json"
    found = counters(model, native)
    if update_golden:
        path.write_text(json.dumps(found, indent=1) + "\n")
    expected: dict[str, Any] = json.loads(path.read_text())
    if expected["structure"] != found["structure"]:
        pytest.skip(
            "this version of PyTorch exports the model in another way than the one of constraints-dev.txt"
        )
    assert found == expected


def test_agrees_with_onnxruntime_on_avx2(case: tuple[Model, dlc.CompiledModel]) -> None:
    model, native = case
    for binding in range(len(model.bindings)):
        assert_agrees(model, native(model.feeds(binding)), binding)


def test_a_prepared_call_allocates_nothing(case: tuple[Model, dlc.CompiledModel]) -> None:
    model, native = case
    if native.report().hosts:
        pytest.skip("NumPy evaluates some nodes of this model")
    call = native.prepare(model.feeds())
    call()
    memory = native_memory(call)
    outputs = [array.ctypes.data for array in call()]
    assert python_bytes(call) < 1024  # the arguments of one foreign call
    assert native_memory(call) == memory
    assert [array.ctypes.data for array in call()] == outputs


def test_calls_share_contexts_and_bindings() -> None:
    """Two calls use one context; another size and back again makes no further one."""
    model = named("bert")
    with model.compile(target=TARGET, threads=2) as native:
        for binding in (0, 0, 1, 0):
            native(model.feeds(binding))
        assert native._native._made == 1
        assert len(native._native._bindings) == 2


def test_there_is_a_golden_file_for_each_model() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {model.name for model in architectures()}


def test_the_measure_sees_an_allocation() -> None:
    assert python_bytes(lambda: np.empty(5000, np.uint8)) >= 5000
    assert python_bytes(lambda: None) < 1024


def test_structure_is_that_without_weights() -> None:
    first, second = (model.proto() for model in architectures()[:2])
    assert structure(first) != structure(second)
    copy = type(first).FromString(first.SerializeToString())
    weights = next(tensor for tensor in copy.graph.initializer if tensor.data_type == 1 and tensor.raw_data)
    weights.raw_data = bytes(len(weights.raw_data))
    assert structure(copy) == structure(first)
    copy.graph.node[0].op_type = "Other"
    assert structure(copy) != structure(first)
