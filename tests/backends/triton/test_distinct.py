"""Distinct rows by generated functions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.backends.triton.templates import sorting
from dlc.ir.dtypes import DType
from tests.backends.triton.running import assert_compiles, assert_same, kernel_of

RNG = np.random.default_rng(17)


def distinct(count: str, width: str, dtype: str, in_order: bool) -> str:
    symbol = "symbol n\n  " if count == "n" else ""
    return f"""kernel distinct {{
  {symbol}read rows: {dtype}[{count}, {width}]
  write first: i64[{count}]
  write inverse: i64[{count}]
  write counts: i64[{count}]
  write groups: i64[]
  routine distinct(rows, first, inverse, counts, groups; sorted={str(in_order).lower()})
}}"""


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "i64", "u64", "i8", "bool"])
def test_types(dtype: str, in_order: bool) -> None:
    (kind,) = (d for d in DType if d.text == dtype)
    values = RNG.integers(-5, 5, (60, 1)).astype(kind.numpy)
    if kind.is_float:
        values[::7], values[1::9], values[2::9] = np.nan, 0.0, -0.0
    assert_same(kernel_of(distinct("60", "1", dtype, in_order)), {"rows": values})


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("width", [0, 2, 3])
def test_rows_of_several_elements(width: int, in_order: bool) -> None:
    rows = RNG.integers(0, 3, (50, width)).astype(np.float32)
    rows[rows == 2] = np.nan
    assert_same(kernel_of(distinct("50", str(width), "f32", in_order)), {"rows": rows})


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 100])
def test_numbers_of_rows(count: int, in_order: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "RUN", 16)
    kernel = kernel_of(distinct("n", "1", "i32", in_order))
    assert_same(kernel, {"rows": RNG.integers(0, 20, (count, 1)).astype(np.int32)}, {"n": count})


def test_all_are_equal_or_none() -> None:
    kernel = kernel_of(distinct("40", "1", "i64", True))
    assert_same(kernel, {"rows": np.full((40, 1), 7)})
    assert_same(kernel, {"rows": RNG.permutation(40).reshape(40, 1)})


def test_compiles() -> None:
    assert_compiles(kernel_of(distinct("n", "1", "i64", False)), [90])
    assert_compiles(kernel_of(distinct("100", "3", "f16", True)), [80])
