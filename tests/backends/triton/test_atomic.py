"""Stores that combine integers, by generated functions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.backends.triton.emulate import emulate_kernel
from dlc.backends.triton.select import emit_kernel
from dlc.errors import IndexFault
from tests.backends.triton.running import aligned, assert_compiles, assert_same, kernel_of, templates

RNG = np.random.default_rng(19)


def histogram(mode: str, dtype: str, count: str = "n") -> str:
    symbol = "symbol n\n  " if count == "n" else ""
    return f"""kernel histogram {{
  {symbol}read place: i64[{count}]
  read x: {dtype}[{count}, 3]
  update y: {dtype}[5, 3]
  axis i: {count}
  axis j: 3
  for i, j: y[{{place[i]}}, j] {mode} x[i, j]
}}"""


@pytest.mark.parametrize("mode", ["+=", "min=", "max="])
@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "u64"])
def test_combinations(mode: str, dtype: str) -> None:
    kernel = kernel_of(histogram(mode, dtype))
    assert templates(kernel) == ["atomic"]
    info = np.iinfo(np.dtype(dtype.replace("i", "int").replace("u", "uint")))
    for count in (0, 1, 700):
        reads = {
            "place": RNG.integers(0, 5, count),
            "x": RNG.integers(info.min, info.max, (count, 3), info.dtype, endpoint=True),
            "y": RNG.integers(info.min, info.max, (5, 3), info.dtype),
        }
        assert_same(kernel, reads, {"n": count})


def test_constants_are_added_under_a_mask() -> None:
    kernel = kernel_of("""kernel counts {
  read place: i64[40]
  update y: i32[7]
  axis i: 40
  for i: y[{place[i]} | 3 <= i < 30] += 1:i32
}""")
    assert templates(kernel) == ["atomic"]
    assert_same(kernel, {"place": RNG.integers(0, 7, 40), "y": np.zeros(7, np.int32)})


def test_indices_out_of_range_are_faults() -> None:
    kernel = kernel_of(histogram("+=", "i32", "4"))
    arrays = {"place": np.array([0, 1, 5, 2]), "x": np.ones((4, 3), np.int32)}
    arrays["y"] = np.zeros((5, 3), np.int32)
    with pytest.raises(IndexFault):
        emulate_kernel(emit_kernel(kernel), {k: aligned(a).reshape(-1) for k, a in arrays.items()}, {})


@pytest.mark.parametrize(("mode", "dtype"), [("+=", "f32"), ("*=", "i32"), ("+=", "i16")])
def test_others_are_stored_in_order(mode: str, dtype: str) -> None:
    assert templates(kernel_of(histogram(mode, dtype))) == ["ordered"]


@pytest.mark.parametrize("dtype", ["i32", "u32", "i64", "u64"])
def test_compiles(dtype: str) -> None:
    for mode in ("+=", "min=", "max="):
        assert_compiles(kernel_of(histogram(mode, dtype)), [80])
