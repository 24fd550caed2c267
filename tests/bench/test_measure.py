"""A whole measurement with two processes of one engine's kind, and plans that make no sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dlc.bench import BenchPlan, measure
from dlc.bench.machine import machine_facts, package_versions
from dlc.bench.measure import _rotations, case_inputs, input_specs
from dlc.errors import InputError, ModelError
from dlc.models import digits_path

DIGITS = digits_path()


def test_measurement_and_a_failing_engine() -> None:
    messages: list[str] = []
    plan = BenchPlan([DIGITS], engines=("onnxruntime", "torch"), batches=(2,), seconds=0.02, rounds=3)
    report = measure(plan, messages.append)
    (case,) = report.cases
    ours, torch = case.engines
    assert case.model == "digits.onnx" and case.shapes == {"image": (2, 1, 8, 8)}
    assert len(ours.round_medians) == 3 and ours.calls >= 9 and min(ours.round_medians) > 0
    assert ours.load_seconds > 0 and ours.peak_bytes > ours.base_bytes > 0
    assert torch.error is not None and "digits.pt2" in torch.error and torch.seconds is None
    assert case.ratio("torch") is None
    assert messages[0] == "digits.onnx, 1 thread" and "digits.pt2" in messages[1]
    assert report.machine["versions"]["onnxruntime"] and report.settings["rounds"] == 3


def test_every_engine_goes_first_in_turn() -> None:
    assert list(_rotations(["a", "b"], 3)) == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert list(_rotations([], 2)) == [[], []]


def test_inputs_of_a_case(tmp_path: Path) -> None:
    specs = input_specs(DIGITS)
    assert case_inputs(BenchPlan([DIGITS]), specs, None)["image"].shape == (1, 1, 8, 8)
    assert case_inputs(BenchPlan([DIGITS]), specs, 5)["image"].shape == (5, 1, 8, 8)
    np.savez(tmp_path / "x.npz", image=np.ones((2, 1, 8, 8), np.float32))
    assert case_inputs(BenchPlan([DIGITS], inputs=tmp_path / "x.npz"), specs, None)["image"].sum() == 128
    with pytest.raises(InputError, match="no input has a symbolic batch"):
        case_inputs(BenchPlan([DIGITS]), specs[:0], 5)


@pytest.mark.parametrize(
    "bad",
    [
        {"engines": ("dlc", "abacus")},
        {"engines": ("dlc", "dlc")},
        {"rounds": 0},
        {"seconds": 0.0},
        {"threads": ()},
        {"threads": (0,)},
    ],
)
def test_senseless_plans_are_refused(bad: dict) -> None:
    with pytest.raises(InputError):
        BenchPlan([DIGITS], **bad)


def test_unreadable_models_raise(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\xff" * 50)
    with pytest.raises(ModelError):
        measure(BenchPlan([tmp_path / "bad.onnx"]))


def test_machine_facts() -> None:
    facts = machine_facts()
    assert facts["usable_cpus"] >= 1 and facts["processor"]
    assert facts["versions"] == package_versions() and {"dlc", "numpy", "onnx"} <= set(package_versions())
    assert str(Path.home()) not in json.dumps(facts)
