"""Non-maximum suppression by generated functions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.backends.triton.templates import suppression
from tests.backends.triton.running import assert_compiles, assert_same, kernel_of

RNG = np.random.default_rng(5)


def nms(batch: int, classes: int, number: int, limit: int, center: bool = False) -> str:
    kept = min(limit, number)
    return f"""kernel nms {{
  read boxes: f32[{batch}, {number}, 4]
  read scores: f32[{batch}, {classes}, {number}]
  read overlap: f32[]
  read least: f32[]
  write kept: i64[{batch}, {classes}, {kept}]
  write counts: i64[{batch}, {classes}]
  routine non_max_suppression(boxes, scores, overlap, least, kept, counts; limit={limit}, center_point_box={
        str(center).lower()})
}}"""


def operands(batch: int, classes: int, number: int, overlap: float, least: float) -> dict[str, np.ndarray]:
    """Boxes on a coarse grid, so that many coincide, and scores with ties."""
    boxes = RNG.integers(0, 12, (batch, number, 4)).astype(np.float32)
    scores = (RNG.integers(0, 40, (batch, classes, number)) / 40).astype(np.float32)
    return {
        "boxes": boxes,
        "scores": scores,
        "overlap": np.array(overlap, np.float32),
        "least": np.array(least, np.float32),
    }


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize(("overlap", "least"), [(0.5, 0.2), (0.0, 0.0), (1.0, -np.inf), (0.3, 2.0)])
def test_boxes(center: bool, overlap: float, least: float) -> None:
    assert_same(kernel_of(nms(2, 2, 50, 12, center)), operands(2, 2, 50, overlap, least))


def test_more_boxes_than_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suppression, "BLOCK", 32)
    assert_same(kernel_of(nms(1, 1, 70, 10)), operands(1, 1, 70, 0.3, 0.2))


@pytest.mark.parametrize(("number", "limit"), [(1, 1), (5, 0), (0, 3), (33, 100), (64, 64)])
def test_extents(number: int, limit: int) -> None:
    assert_same(kernel_of(nms(1, 2, number, limit)), operands(1, 2, number, 0.4, 0.1))


@pytest.mark.parametrize("least", [0.1, -np.inf])
def test_scores_that_are_no_numbers(least: float) -> None:
    arrays = operands(1, 1, 40, 0.4, least)
    arrays["scores"][0, 0, ::3] = np.nan
    arrays["scores"][0, 0, 1::6] = -np.inf
    arrays["scores"][0, 0, 2::6] = np.inf
    assert_same(kernel_of(nms(1, 1, 40, 40)), arrays)


def test_boxes_that_are_no_numbers() -> None:
    arrays = operands(1, 1, 40, 0.4, 0.0)
    arrays["boxes"][0, ::4, 1] = np.nan
    arrays["boxes"][0, 1::5, 2] = np.inf
    assert_same(kernel_of(nms(1, 1, 40, 40)), arrays)


def test_extents_of_the_run() -> None:
    text = nms(1, 2, 50, 9).replace("50", "n")
    text = text.replace("[1, 2, 9]", "[1, 2, min(9, n)]").replace("kernel nms {", "kernel nms {\n  symbol n")
    for number in (0, 4, 9, 60):
        assert_same(kernel_of(text), operands(1, 2, number, 0.4, 0.1), {"n": number})


def test_compiles() -> None:
    assert_compiles(kernel_of(nms(1, 80, 8400, 100)))
