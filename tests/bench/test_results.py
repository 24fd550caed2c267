"""Ratios, the JSON form, tables and the comparison of reports."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from dlc.bench import BenchReport, CaseResult, EngineResult, Ratio, compare_reports
from dlc.bench.table import geometric_mean, regression_table, result_table
from dlc.errors import InputError

Times = tuple[float, ...]


def case(model: str, ours: Times, theirs: Times | None, threads: int = 1) -> CaseResult:
    other = EngineResult("onnxruntime", error="it crashed")
    if theirs is not None:
        other = EngineResult("onnxruntime", "1.31", theirs, calls=9, load_seconds=0.5, agrees=True)
    return CaseResult(model, threads, {"x": (1, 3)}, (EngineResult("dlc", "0.1", ours, calls=9), other))


def report(*cases: CaseResult) -> BenchReport:
    return BenchReport({"processor": "test"}, {"rounds": 3}, cases)


def shown(table: object) -> str:
    output = io.StringIO()
    Console(file=output, width=200).print(table)
    return output.getvalue()


def test_ratio_is_the_median_of_the_rounds_ratios_with_quartiles() -> None:
    # A slow round (the third) slows both engines; the ratio of medians would be 2 / 1.1, that of rounds is 2.
    assert Ratio.of([2.0, 2.2, 9.0], [1.0, 1.1, 4.5]) == Ratio(2.0, 2.0, 2.0)
    assert Ratio.of([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5) == Ratio(3.0, 2.0, 4.0)
    assert Ratio.of([3.0], [2.0]) == Ratio(1.5, 1.5, 1.5)
    with pytest.raises(ValueError, match="shorter"):
        Ratio.of([1.0, 2.0], [1.0])


def test_ratios_of_a_case() -> None:
    assert case("m", (1.0,), (2.0,)).ratio("onnxruntime") == Ratio(2.0, 2.0, 2.0)
    assert case("m", (1.0,), None).ratio("onnxruntime") is None
    assert case("m", (1.0,), (2.0,)).ratio("openvino") is None


def test_json_round_trip() -> None:
    original = report(case("a", (1.0, 1.1), (2.0, 2.1)), case("b", (1.0,), None, threads=2))
    data = json.loads(original.to_json())
    assert data["cases"][0]["ratios"]["onnxruntime"]["median"] == pytest.approx(1.95, abs=0.06)
    restored = BenchReport.from_json(original.to_json())
    assert restored.cases == original.cases and restored.to_json() == original.to_json()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 0}', '{"format": 1, "machine": {}, "settings": {}, "cases": 3}']
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a benchmark report"):
        BenchReport.from_json(text)


def test_regressions_go_by_the_ratio_where_there_is_one() -> None:
    old = report(case("a", (1.0,), (2.0,)), case("b", (1.0,), None), case("gone", (1.0,), (1.0,)))
    # The machine is 3 times slower; relative to onnxruntime, a is unchanged.
    new = report(case("a", (3.0,), (6.0,)), case("b", (2.0,), None), case("added", (1.0,), (1.0,)))
    found = {item.case.model: item for item in compare_reports(old, new)}
    assert set(found) == {"a", "b"}
    assert (found["a"].by, found["a"].score, found["a"].fails(0.95)) == ("onnxruntime", 1.0, False)
    assert (found["b"].by, found["b"].score, found["b"].fails(0.95)) == ("time", 0.5, True)


def test_a_case_that_no_longer_runs_is_a_regression() -> None:
    old, new = case("a", (1.0,), (2.0,)), case("a", (1.0,), (2.0,))
    broken = replace(new, engines=(EngineResult("dlc", error="boom"), new.engines[1]))
    (found,) = compare_reports(report(old), report(broken))
    assert found.score is None and found.fails(0.1)
    (fixed,) = compare_reports(report(broken), report(new))
    assert not fixed.fails(0.95)


def test_thread_counts_and_shapes_are_different_cases() -> None:
    one, two = case("a", (1.0,), (2.0,)), case("a", (1.0,), (2.0,), threads=2)
    assert compare_reports(report(one), report(two)) == []
    assert compare_reports(report(one), report(replace(one, shapes={"x": (2, 3)}))) == []


def test_tables() -> None:
    results = report(case("evil[red]\x1b[31m", (1e-3,), (2e-3,)), case("b", (1e-3,), None))
    text = shown(result_table(results))
    assert "2.00x" in text and "it crashed" in text and "evil[red]\\x1b[31m" in text and "\x1b" not in text
    assert geometric_mean(results, "onnxruntime") == pytest.approx(2.0)
    assert geometric_mean(results, "openvino") is None
    slower = report(case("evil[red]\x1b[31m", (2e-3,), (2e-3,)))
    text = shown(regression_table(compare_reports(results, slower), 0.95))
    assert "below 0.95" in text and "0.5" in text
