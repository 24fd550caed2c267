"""Small models of all families: one compilation for every binding, equal bits in every way to run it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest

import dlc
from dlc.backends.cpu import backend
from dlc.runtime import call
from tests.helpers.model_zoo import Gaps, Model, assert_agrees, bits, host_nodes, variant
from tests.models.architectures import architectures
from tests.runtime.guarded import guarded

GAPS = Gaps.load()


@dataclass(frozen=True)
class Case:
    """A model, what dlc made of it, what that computes, and how often code was made and loaded."""

    model: Model
    native: dlc.CompiledModel
    outputs: tuple[dlc.Outputs, ...]
    compilations: int
    loads: int


@pytest.fixture(scope="module", params=architectures(), ids=lambda model: model.name)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Each model in turn, compiled once and run at all bindings."""
    model: Model = request.param
    model.source()
    with (
        patch.object(backend, "compile_object", wraps=backend.compile_object) as compiled,
        patch.object(call, "JitLibrary", wraps=call.JitLibrary) as loaded,
        model.compile() as native,
    ):
        outputs = tuple(native(model.feeds(binding)) for binding in range(len(model.bindings)))
        yield Case(model, native, outputs, compiled.call_count, loaded.call_count)


def test_agrees_with_onnxruntime_at_all_bindings(case: Case) -> None:
    for binding, outputs in enumerate(case.outputs):
        assert_agrees(case.model, outputs, binding)


def test_one_compilation_serves_all_bindings(case: Case) -> None:
    symbolic = any(isinstance(dim, str) for spec in case.native.inputs for dim in spec.shape)
    assert symbolic and len(case.outputs) == 3
    assert (case.compilations, case.loads) == (1, 1)


def test_host_steps_are_the_known_ones(case: Case) -> None:
    assert host_nodes(case.native) == GAPS.host_nodes(case.model.name), "gaps.json is not up to date"


def test_equal_bits_at_any_thread_count_with_a_poisoned_arena(case: Case) -> None:
    for threads in (1, 2, 3, 7):
        with variant(case.native, threads=threads, poison=True) as other:
            for binding, outputs in enumerate(case.outputs):
                assert bits(other(case.model.feeds(binding))) == bits(outputs), (
                    f"{threads} threads, {binding}"
                )


def test_equal_bits_from_a_package(case: Case) -> None:
    if case.native.report().hosts:
        with pytest.raises(dlc.UnsupportedError, match="host steps cannot be saved"):
            case.native.to_bytes()
        return
    package = case.native.to_bytes()
    with dlc.load(package) as loaded:
        for binding, outputs in enumerate(case.outputs):
            assert bits(loaded(case.model.feeds(binding))) == bits(outputs)
        assert loaded.to_bytes() == package


@pytest.mark.parametrize("at_end", [True, False], ids=["page after", "page before"])
def test_no_access_outside_the_arrays(case: Case, at_end: bool) -> None:
    """Arrays between protected pages, aligned to one element; the outputs start as NaN, or absurd numbers."""
    for binding, outputs in enumerate(case.outputs):
        feeds = {}
        for name, array in case.model.feeds(binding).items():
            feeds[name] = guarded(array.shape, array.dtype, at_end=at_end)
            feeds[name][...] = array
        results = {}
        for name, array in outputs.items():
            results[name] = guarded(array.shape, array.dtype, at_end=at_end)
            results[name].view(np.uint8).fill(0xFF) if array.ndim else None
        with variant(case.native, poison=True) as other:
            prepared = other.prepare(feeds, results)
            assert bits(prepared()) == bits(outputs)
        before = case.model.feeds(binding)
        assert all(np.array_equal(feeds[name], before[name]) for name in feeds), "an input was changed"
