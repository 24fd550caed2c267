"""`dlc bench`: reports in files, comparison with older ones, and what must not be overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlc.bench import BenchReport, CaseResult, EngineResult
from dlc.models import digits_path

DIGITS = digits_path()


def report(ours: float, theirs: float = 2.0, agrees: bool = True) -> BenchReport:
    engines = (EngineResult("dlc", "0", (ours,)), EngineResult("onnxruntime", "1", (theirs,), agrees=agrees))
    return BenchReport({}, {}, (CaseResult("m.onnx", 1, {"x": (1,)}, engines),))


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[str, BenchReport], Path]:
    def store(name: str, content: BenchReport) -> Path:
        (tmp_path / name).write_text(content.to_json())
        return tmp_path / name

    return store


def test_a_measurement_is_written_and_shown(cli: Callable[..., Any], tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    ran = cli("bench", DIGITS, "--seconds", "0.01", "--rounds", "2", "--batch", "1,2", "--json", target)
    cases = BenchReport.load(target).cases
    assert [case.shapes["image"][0] for case in cases] == [1, 2]
    assert all(len(case.engines[1].round_medians) == 2 for case in cases)
    assert "digits.onnx" in ran.out and "onnxruntime" in ran.out and "digits.onnx, 1 thread" in ran.err


def test_regressions_decide_the_status(cli: Callable[..., Any], stored: Callable[..., Path]) -> None:
    old, same = stored("old.json", report(1.0)), stored("same.json", report(1.02))
    slower, wrong = stored("slower.json", report(1.5)), stored("wrong.json", report(1.0, agrees=False))
    assert cli("bench", same, "--compare", old).status == 0
    ran = cli("bench", slower, "--compare", old)
    assert ran.status == 1 and "below 0.95" in ran.out
    assert cli("bench", slower, "--compare", old, "--fail-below", "0.5").status == 0
    assert cli("bench", wrong).status == 1
    data = json.loads(cli("bench", slower, "--compare", old, "--json").out)
    assert data["regressions"] == [["m.onnx", 1, '{"x": [1]}']]
    other = report(1.0)
    unrelated = stored("o.json", replace(other, cases=(replace(other.cases[0], model="other"),)))
    assert cli("bench", unrelated, "--compare", old).status == 2


def test_a_failing_dlc_is_no_success(cli: Callable[..., Any], stored: Callable[..., Path]) -> None:
    broken = report(1.0)
    case = broken.cases[0]
    case = replace(case, engines=(EngineResult("dlc", error="boom"), case.engines[1]))
    ran = cli("bench", stored("b.json", replace(broken, cases=(case,))))
    assert ran.status == 1 and "boom" in ran.out


def test_a_model_is_never_overwritten(cli: Callable[..., Any], tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(DIGITS.read_bytes())
    ran = cli("bench", "--json", model, DIGITS)
    assert ran.status == 2 and "--json writes to a file named *.json" in ran.err
    assert model.read_bytes() == DIGITS.read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [("--against", "abacus"), ("--threads", "0"), ("--threads", "1,x"), ("--batch", ""), ("--rounds", "0")],
)
def test_unfit_options(cli: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    assert cli("bench", DIGITS, *arguments).status == 2
