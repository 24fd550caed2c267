"""Reductions of few long rows, by generated functions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.backends.triton.select import emit_kernel
from dlc.backends.triton.templates import rows
from dlc.target import resolve_gpu
from tests.backends.triton.running import assert_compiles, assert_same, both, kernel_of, templates

RNG = np.random.default_rng(13)

SOFTMAX = """kernel softmax {
  read x: f32[2, 50000]
  write y: f32[2, 50000]
  axis i: 2
  axis j: 50000
  for i: top: f32 = max over j of x[i, j]
  for i, j: e: f32 = exp(x[i, j] - top[i])
  for i: total: f32 = sum over j of e[i, j]
  for i, j: y[i, j] = e[i, j] / total[i]
}"""
TOTAL = """kernel total {
  symbol n
  symbol m
  read x: f32[n, m]
  write mean: f32[]
  axis i: n reduce
  axis j: m reduce
  total: f32 = sum over i, j of x[i, j]
  mean[] = total / (f32(iota(n)) * f32(iota(m)))
}"""
BEST = """kernel best {
  read x: f32[3, 40001]
  write value: f32[3]
  write place: i64[3]
  axis i: 3
  axis j: 40001 reduce
  for i: (a: f32, b: i64) = KIND over j of (x[i, j], iota(j))
  for i: value[i] = a[i]
  for i: place[i] = b[i]
}"""
EXTREMES = """kernel extremes {
  read x: f32[40000]
  write scale: f32[]
  axis j: 40000 reduce
  low: f32 = min over j of x[j]
  high: f32 = max over j of x[j]
  scale[] = (max(high, 0.0) - min(low, 0.0)) / 255.0
}"""


def test_softmax_of_two_rows() -> None:
    kernel = kernel_of(SOFTMAX)
    assert templates(kernel) == [*["chunks", "rows", "pointwise"] * 2]
    ((got, want),) = both(kernel, {"x": RNG.standard_normal((2, 50000)).astype(np.float32)})
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (200, 300)])
def test_whole_tensor_of_unknown_size(n: int, m: int) -> None:
    kernel = kernel_of(TOTAL)
    assert templates(kernel) == ["chunks", "rows"]
    ((got, want),) = both(kernel, {"x": RNG.random((n, m)).astype(np.float32)}, {"n": n, "m": m})
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("kind", ["argmax", "argmin", "argmax_last", "argmin_last"])
def test_positions_of_equal_elements_in_different_chunks(kind: str) -> None:
    x = RNG.integers(0, 3, (3, 40001)).astype(np.float32)
    x[2, 39000], x[2, 17] = np.nan, np.nan
    assert_same(kernel_of(BEST.replace("KIND", kind)), {"x": x})


def test_two_reductions_at_once() -> None:
    kernel = kernel_of(EXTREMES)
    assert templates(kernel) == ["chunks", "rows"]
    assert_same(kernel, {"x": RNG.standard_normal(40000).astype(np.float32)})


def test_chunks_follow_from_sizes_and_target() -> None:
    kernel = kernel_of(EXTREMES)
    target = resolve_gpu("cuda:sm_90")
    small = dataclasses.replace(target, multiprocessors=2)
    one, other = (emit_kernel(kernel, each).calls[0].function.grid[1] for each in (target, small))
    assert one == -(-40000 // rows.POINTS)
    assert other == -(-40000 // (2 * rows.POINTS))


def test_many_or_short_rows_stay_whole() -> None:
    assert templates(kernel_of(SOFTMAX.replace("50000", "5000"))) == ["rows"]
    many = SOFTMAX.replace("[2, ", "[500, ").replace("axis i: 2", "axis i: 500")
    assert templates(kernel_of(many)) == ["rows"]


def test_compiles() -> None:
    assert_compiles(kernel_of(SOFTMAX), [80])
    assert_compiles(kernel_of(TOTAL), [90])
