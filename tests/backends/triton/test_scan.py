"""Recurrences that are computed point by point, by generated functions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.backends.triton.select import Steps, emit_kernel
from dlc.backends.triton.templates import scan
from tests.backends.triton.running import assert_compiles, assert_same, both, kernel_of, templates

RNG = np.random.default_rng(11)


def cumulative(
    rows: str,
    length: str,
    op: str = "+",
    dtype: str = "i32",
    exclusive: bool = False,
    reverse: bool = False,
    symbols: str = "",
) -> str:
    """A cumulative sum or product along the second axis."""
    start = ("0" if op == "+" else "1") + (".0" if dtype.startswith("f") else "")
    after = f"s[r] {op} x[r, t]"
    return f"""kernel cumulative {{
  {symbols}
  read x: {dtype}[{rows}, {length}]
  write y: {dtype}[{rows}, {length}]
  axis r: {rows}
  axis t: {length} sequential
  recur t{" reverse" if reverse else ""} {{
    for r: state s: {dtype} = {start}:{dtype}
    for r: y[r, t] = {"s[r]" if exclusive else after}
    next s = {after}
  }}
}}"""


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("op", ["+", "*"])
@pytest.mark.parametrize("length", [1, 31, 33, 64, 100])
def test_blocks_of_steps(
    length: int, op: str, exclusive: bool, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "STEPS", 32)
    kernel = kernel_of(cumulative("3", str(length), op, "i64", exclusive, reverse))
    assert_same(kernel, {"x": RNG.integers(-9, 9, (3, length))})
    assert templates(kernel) == ["scan_blocks" if length >= 32 else "scan"]


@pytest.mark.parametrize("dtype", ["u8", "i32", "u64"])
def test_integers_wrap(dtype: str) -> None:
    kernel = kernel_of(cumulative("2", "70", "*", dtype))
    assert_same(kernel, {"x": RNG.integers(1, 120, (2, 70))})


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("exclusive", [False, True])
def test_sums_of_floats(exclusive: bool, reverse: bool) -> None:
    kernel = kernel_of(cumulative("2", "n", "+", "f32", exclusive, reverse, "symbol n"))
    for length in (0, 1, 1024, 1500):
        x = RNG.standard_normal((2, length)).astype(np.float32)
        ((got, want),) = both(kernel, {"x": x}, {"n": length})
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_values_that_are_no_numbers_stay_in_their_row_and_behind() -> None:
    x = RNG.standard_normal((3, 80)).astype(np.float32)
    x[0, 40], x[1, 50], x[1, 60] = np.nan, np.inf, -np.inf
    for exclusive in (False, True):
        ((got, want),) = both(kernel_of(cumulative("3", "80", "+", "f32", exclusive)), {"x": x})
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_many_rows_are_walked_step_by_step() -> None:
    kernel = kernel_of(cumulative("5000", "40"))
    assert templates(kernel) == ["scan"]
    small = kernel_of(cumulative("r0", "4", symbols="symbol r0"))
    for rows in (0, 1, 127, 128, 300):
        assert_same(small, {"x": RNG.integers(-9, 9, (rows, 4))}, {"r0": rows})


FILTER = """kernel filter {
  symbol n
  read x: f32[n, 5]
  read first: f32[5]
  write y: f32[n, 5]
  write best: f32[5]
  axis c: 5
  axis t: n sequential
  recur t {
    for c: state level: f32 = first[c]
    for c: state top: f32 = -inf
    for c: smooth: f32 = level[c] * 0.75 + x[t, c] * 0.25
    for c: y[t, c] = smooth[c] - level[c]
    next level = smooth[c]
    next top = max(top[c], level[c])
  }
  for c: best[c] = top[c] + 0.5
}"""


def test_states_that_read_each_other() -> None:
    kernel = kernel_of(FILTER)
    assert templates(kernel) == ["scan"]
    for length in (0, 1, 9):
        reads = {"x": RNG.standard_normal((length, 5)), "first": RNG.standard_normal(5)}
        reads = {name: array.astype(np.float32) for name, array in reads.items()}
        for got, want in both(kernel, reads, {"n": length}):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_last_state_of_blocks() -> None:
    text = cumulative("2", "90", "+", "i32").replace("axis r", "write last: i32[2]\n  axis r", 1)
    kernel = kernel_of(text[: text.rindex("}")] + "  for r: last[r] = s[r] * 2:i32\n}")
    assert templates(kernel) == ["scan_blocks"]
    assert_same(kernel, {"x": RNG.integers(-9, 9, (2, 90))})


NEIGHBOURS = """kernel neighbours {
  write y: f32[6, 4]
  axis c: 4
  axis t: 6 sequential
  recur t {
    for c: state s: f32 = f32(iota(c))
    for c: y[t, c] = s[3 - c]
    next s = s[3 - c] + 1.0
  }
}"""


def test_points_that_depend_on_others_are_stepped_by_launches() -> None:
    kernel = kernel_of(NEIGHBOURS)
    assert any(isinstance(action, Steps) for action in emit_kernel(kernel).actions)
    assert_same(kernel, {})


def test_compiles() -> None:
    assert_compiles(kernel_of(FILTER))
    assert_compiles(kernel_of(cumulative("2", "n", "*", "f32", True, True, "symbol n")))
