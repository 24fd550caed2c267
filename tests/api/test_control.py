"""Branches, loops and sizes of the run as native code: fresh and from packages, at one and three threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dlc
from dlc.ir.graph import Node
from dlc.lowering import group
from dlc.lowering.draft import LoweredKernel, Names
from dlc.lowering.rules.registry import NotLowered, lower_node
from tests.helpers.control_models import BREAK_WITH_STACK, GROWING_STATE, Case
from tests.helpers.judged import CASES, assert_judged_right, runs
from tests.helpers.loop_models import SCAN_LENGTHS
from tests.helpers.native import TARGETS


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_native_code_means_what_the_model_does(case: Case, target: str) -> None:
    with (
        dlc.compile(case.model(), target=target, threads=1, cache=False, strict=True) as fresh,
        dlc.load(fresh.to_bytes(), threads=3) as loaded,
    ):
        for run in runs(case):
            results = fresh.run(None, run.feeds)
            assert_judged_right(run, results)
            for first, second in zip(results, loaded.run(None, run.feeds), strict=True):
                assert first.dtype == second.dtype and first.shape == second.shape
                assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_prepared_calls_may_be_repeated(case: Case) -> None:
    with dlc.compile(case.model(), threads=2, cache=False) as model:
        for run in runs(case):
            call = model.prepare(run.feeds)
            for _ in range(2):
                outputs = call()
                assert_judged_right(run, [np.asarray(value) for value in outputs])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_host_steps_stand_in_branches_and_loops(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no kernel is evaluated by NumPy in the middle of the native loop."""

    def without_some(node: Node, names: Names) -> LoweredKernel:
        if node.op.name in ("Binary", "Unary", "MatMul", "Concat", "Compact", "Distinct"):
            raise NotLowered("left to the host by a test")
        return lower_node(node, names)

    monkeypatch.setattr(group, "lower_node", without_some)
    with dlc.compile(case.model(), threads=1, cache=False) as model:
        for run in runs(case):
            assert_judged_right(run, model.run(None, run.feeds))


@pytest.mark.parametrize("case", [GROWING_STATE, BREAK_WITH_STACK], ids=lambda case: case.name)
def test_threads_have_growing_memory_of_their_own(case: Case) -> None:
    with dlc.compile(case.model(), threads=1, cache=False) as model, ThreadPoolExecutor(4) as pool:
        every = [run for run in runs(case) for _ in range(20)]
        for run, results in zip(every, pool.map(lambda run: model.run(None, run.feeds), every)):
            assert_judged_right(run, results)


@pytest.mark.parametrize("shape", [(-2, -3), (-2, 3), (2, -1)])
def test_negative_extents_from_data_are_refused(shape: tuple[int, int]) -> None:
    """The product of two negative extents would be the size of a tensor that nothing has written."""
    text = """main (int64[2] shape) => (float[n] y) {
      minus = Constant <value_ints = [-1]> ()
      z = ConstantOfShape(shape)
      y = Reshape(z, minus)
    }"""
    case = Case("negative", text, lambda rng: [])
    with dlc.compile(case.model(), cache=False) as model:
        assert model(np.array([2, 3]))["y"].tolist() == [0] * 6
        with pytest.raises(dlc.ShapeError, match="is negative"):
            model(np.array(shape))


def test_negative_computed_extents_are_refused() -> None:
    text = """main (int64[2] a, int64[2] b) => (float[n] y) {
      shape = Mul(a, b)
      minus = Constant <value_ints = [-1]> ()
      z0 = ConstantOfShape(shape)
      z = Exp(z0)
      y = Reshape(z, minus)
    }"""
    case = Case("negative", text, lambda rng: [])
    with dlc.compile(case.model(), cache=False) as model:
        assert model(np.array([2, 3]), np.array([1, 2]))["y"].tolist() == [1] * 12
        with pytest.raises(dlc.ShapeError, match="is negative"):
            model(np.array([2, 3]), np.array([-1, -2]))


@pytest.mark.parametrize("lengths", [(5, 1), (1, -1)])
def test_lengths_of_sequences_out_of_range_are_refused(lengths: tuple[int, ...]) -> None:
    feeds = {
        "lengths": np.array(lengths),
        "h": np.zeros((2, 3), np.float32),
        "x": np.zeros((2, 4, 3), np.float32),
        "z": np.zeros((2, 4, 3), np.float32),
    }
    with dlc.compile(SCAN_LENGTHS.model(), cache=False) as model:
        with pytest.raises(dlc.ShapeError, match="length of a sequence") as caught:
            model(feeds)
        assert (caught.value.node or "").startswith("Scan")
        assert model({**feeds, "lengths": np.array([4, 0])})["all"].shape == (2, 4, 3)
