"""Elements that are only moved: complex numbers, and those of less than 8 bits."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.ir.dtypes import DType
from tests.backends.triton.running import assert_compiles, assert_same, kernel_of, templates


def moves(dtype: str, other: str) -> str:
    """A gather of transposed rows, beyond which there is another value."""
    return f"""kernel moves {{
  symbol n
  read x: {dtype}[3, n]
  read rows: i64[4]
  write y: {dtype}[n, 4]
  write z: {dtype}[5]
  axis i: n
  axis j: 4
  axis k: 5
  for j, i: t: {dtype} = x[{{rows[j]}}, i | 1 <= j < 4 | {other}]
  for i, j: y[i, j] = select(rows[j] == 2, {other}, t[j, i])
  for k: z[k] = {other}
}}"""


@pytest.mark.parametrize("dtype", ["c64", "i4", "u4", "i2", "u2", "f4e2m1", "f8e8m0", "f8e4m3fnuz"])
@pytest.mark.parametrize("count", [0, 1, 37])
def test_elements_of_one_word(dtype: str, count: int) -> None:
    (kind,) = (d for d in DType if d.text == dtype)
    codes = np.random.default_rng(1).integers(0, 1 << min(kind.bits, 8), (3, count, kind.itemsize), np.uint8)
    x = np.ascontiguousarray(codes).view(kind.numpy).reshape(3, count)
    text = complex_moves(dtype) if dtype == "c64" else moves(dtype, f"1{'.0' * kind.is_float}:{dtype}")
    assert_same(kernel_of(text), {"x": x, "rows": np.array([0, 2, 1, 0])}, {"n": count})


def complex_moves(dtype: str) -> str:
    """Of complex numbers there are no constants in the text."""
    return f"""kernel moves {{
  symbol n
  read x: {dtype}[3, n]
  read rows: i64[4]
  write y: {dtype}[n, 4]
  axis i: n
  axis j: 4
  for j, i: t: {dtype} = x[{{rows[j]}}, i | 1 <= j < 4 | x[0, i]]
  for i, j: y[i, j] = select(rows[j] == 2, x[2, i], t[j, i])
}}"""


@pytest.mark.parametrize("count", [0, 1, 37])
def test_complex_numbers_of_two_words(count: int) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, count)) + 1j * rng.standard_normal((3, count))
    kernel = kernel_of(complex_moves("c128"))
    assert templates(kernel) == ["pointwise"]
    assert_same(kernel, {"x": x, "rows": np.array([0, 2, 1, 0])}, {"n": count})


def test_weights_of_four_bits() -> None:
    kernel = kernel_of("""kernel dequantize {
  read x: i4[6, 8]
  read scale: f32[6]
  write y: f32[6, 8]
  axis i: 6
  axis j: 8
  for i, j: y[i, j] = f32(x[i, j]) * scale[i]
}""")
    x = np.arange(48).reshape(6, 8) % 16 - 8
    assert_same(kernel, {"x": x.astype(ml_dtypes.int4), "scale": np.linspace(-1, 1, 6, dtype=np.float32)})


def test_compiles() -> None:
    assert_compiles(kernel_of(complex_moves("c128")), [80])
    assert_compiles(kernel_of(moves("i4", "1:i4")), [90])
