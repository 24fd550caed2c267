"""Positions of true elements, by generated functions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.backends.triton.templates import prefix
from tests.backends.triton.running import assert_compiles, assert_same, both, kernel_of, templates

KERNEL = """kernel compact {
  symbol n
  symbol count
  read condition: bool[n]
  write positions: i64[count]
  routine compact(condition, positions; count=count)
}"""


@pytest.mark.parametrize("length", [0, 1, 2, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_positions(length: int, share: float) -> None:
    condition = np.random.default_rng(length).random(length) < share
    symbols = {"n": length, "count": int(condition.sum())}
    assert_same(kernel_of(KERNEL), {"condition": condition}, symbols)


def test_more_blocks_than_are_summed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "BLOCK", 16)
    condition = np.random.default_rng(1).random(600) < 0.3
    assert_same(kernel_of(KERNEL), {"condition": condition}, {"n": 600, "count": int(condition.sum())})


def test_known_extents() -> None:
    fixed = KERNEL.replace("symbol n\n", "").replace("symbol count\n", "").replace("[n]", "[8]")
    kernel = kernel_of(fixed.replace("[count]", "[3]").replace("count=count", "count=3"))
    condition = np.array([True, False, True, False, False, True, False, False])
    ((got, want),) = both(kernel, {"condition": condition})
    assert got.tolist() == want.tolist() == [0, 2, 5]
    assert templates(kernel) == ["count", "count_sums", "compact"]


def test_compiles() -> None:
    assert_compiles(kernel_of(KERNEL))
