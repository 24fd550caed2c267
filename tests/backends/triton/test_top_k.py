"""The k first elements of rows, by generated functions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("triton")
from dlc.backends.triton.select import emit_kernel
from dlc.backends.triton.templates import sorting
from dlc.ir.dtypes import DType
from tests.backends.triton.running import assert_compiles, assert_same, kernel_of, templates

RNG = np.random.default_rng(3)


def top_k(shape: str, axis: int, k: str, dtype: str = "f32", largest: bool = True, symbols: str = "") -> str:
    """The text of a kernel; `k` is the extent of the results along the axis."""
    extents = shape.split(", ")
    result = ", ".join([*extents[:axis], k, *extents[axis + 1 :]])
    return f"""kernel top {{
  {symbols}
  read x: {dtype}[{shape}]
  write values: {dtype}[{result}]
  write indices: i64[{result}]
  routine top_k(x, values, indices; axis={axis}, k={k}, largest={str(largest).lower()}, sorted=true)
}}"""


def numbers(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """Numbers with many ties, and NaN, zeros of both signs and infinities among floats."""
    found = RNG.integers(0, 100, shape)
    if not dtype.is_float:
        return (found - (50 if dtype.text.startswith("i") else 0)).astype(dtype.numpy)
    values = np.array([np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf], np.float64)
    picked = np.where(found < len(values), values[np.minimum(found, len(values) - 1)], (found - 50) / 4)
    return picked.astype(dtype.numpy)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("dtype", "f64 f32 f16 bf16 i64 i32 i16 i8 u64 u32 u16 u8".split())
def test_types(dtype: str, largest: bool) -> None:
    kernel = kernel_of(top_k("3, 40", 1, "7", dtype, largest))
    (kind,) = (d for d in DType if d.text == dtype)
    assert_same(kernel, {"x": numbers((3, 40), kind)})
    assert templates(kernel) == ["top_k"]


@pytest.mark.parametrize("dtype", ["i64", "u64", "i32", "u32"])
def test_extremes_of_integers(dtype: str) -> None:
    kernel = kernel_of(top_k("1, 6", 1, "6", dtype))
    info = np.iinfo(np.dtype(dtype.replace("i", "int").replace("u", "uint")))
    x = np.array([[0, info.min, info.max, 1, info.max - 1, info.min + 1]], info.dtype)
    assert_same(kernel, {"x": x})


@pytest.mark.parametrize(
    ("shape", "axis"), [("5, 1", 1), ("6", 0), ("4, 9, 2", 1), ("3, 2, 5", 0), ("2, 0", 1)]
)
@pytest.mark.parametrize("all_of_them", [True, False])
def test_axes(shape: str, axis: int, all_of_them: bool) -> None:
    extents = tuple(map(int, shape.split(", ")))
    kernel = kernel_of(top_k(shape, axis, str(extents[axis] if all_of_them else min(1, extents[axis]))))
    assert_same(kernel, {"x": numbers(extents, DType.F32)})


def test_none_are_wanted() -> None:
    assert_same(kernel_of(top_k("3, 5", 1, "0")), {"x": numbers((3, 5), DType.F32)})


@pytest.mark.parametrize("value", [np.nan, 1.0])
def test_all_are_equal(value: float) -> None:
    for largest in (True, False):
        kernel = kernel_of(top_k("2, 37", 1, "20", largest=largest))
        assert_same(kernel, {"x": np.full((2, 37), value, np.float32)})


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of 16, so that few elements make many passes."""
    monkeypatch.setattr(sorting, "RUN", 16)
    monkeypatch.setattr(sorting, "SHORT", 24)


@pytest.mark.usefixtures("short_runs")
@pytest.mark.parametrize("length", [23, 24, 25, 32, 33, 64, 65, 200])
def test_rows_around_runs(length: int) -> None:
    kernel = kernel_of(top_k(f"2, {length}", 1, "20"))
    assert_same(kernel, {"x": RNG.permutation(2 * length).reshape(2, length).astype(np.float32)})
    passes = int(np.ceil(np.log2(length / 16))) if length > 24 else 0
    assert templates(kernel) == (["sort_runs", *["sort_merge"] * passes] if passes else []) + ["top_k"]


@pytest.mark.usefixtures("short_runs")
def test_all_of_a_long_row_with_ties() -> None:
    assert_same(kernel_of(top_k("300", 0, "300", "i64", False)), {"x": numbers((300,), DType.I64)})


@pytest.mark.usefixtures("short_runs")
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 32, 33, 150])
def test_lengths_and_k_of_the_run(length: int) -> None:
    kernel = kernel_of(top_k("2, n", 1, "k", symbols="symbol n\n  symbol k"))
    for k in {0, min(1, length), length // 3, length}:
        assert_same(kernel, {"x": numbers((2, length), DType.F32)}, {"n": length, "k": k})


def test_a_long_row() -> None:
    kernel = kernel_of(top_k("1100", 0, "200"))
    assert_same(kernel, {"x": numbers((1100,), DType.F32)})
    assert templates(kernel) == ["sort_runs", *["sort_merge"] * 3, "top_k"]


def test_one_function_for_all_passes() -> None:
    calls = emit_kernel(kernel_of(top_k("2, n", 1, "5", symbols="symbol n"))).calls
    assert len(calls) > 20
    assert len({call.function.digest for call in calls}) <= 4


def test_compiles() -> None:
    assert_compiles(kernel_of(top_k("8, 64", 1, "2")), [80])
    assert_compiles(kernel_of(top_k("2, n", 1, "5", "f16", symbols="symbol n")), [90])
