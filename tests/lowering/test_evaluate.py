"""The kernel evaluator: masks, halos, indices from data, orders, ties, conversions, and sums in pieces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.errors import IndexFault, InternalError
from dlc.ir.dtypes import DType
from dlc.lowering import evaluate
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.expr import CastMode
from dlc.lowering.parse import parse
from dlc.lowering.scalar import convert
from dlc.lowering.tensors import Memory

Array: TypeAlias = "np.ndarray[Any, Any]"


def run(text: str, arrays: Mapping[str, Array], wide: bool = False, **symbols: int) -> None:
    """Evaluate the kernel of these lines."""
    evaluate_kernel(parse("kernel k {\n" + text + "\n}\n"), arrays, symbols, wide=wide)


def line(count: int, dtype: Any = np.float32) -> Array:
    return np.arange(count).astype(dtype)


def test_where_a_mask_fails_nothing_is_read() -> None:
    y = np.full(6, np.nan, np.float32)
    run(
        "read x: f32[3]\n write y: f32[6]\n axis i: 6\n for i: y[i] = x[i - 2 | 0 <= i - 2 < 3 | -1.0]",
        {"x": line(3), "y": y},
    )
    np.testing.assert_array_equal(y, [-1, -1, 0, 1, 2, -1])


def test_masked_reads_of_an_empty_tensor() -> None:
    y = np.full(2, np.nan, np.float32)
    run(
        "symbol n\n read x: f32[n]\n write y: f32[2]\n axis i: 2\n for i: y[i] = x[i | 0 <= i < n | 5.0]",
        {"x": line(0), "y": y},
        n=0,
    )
    np.testing.assert_array_equal(y, [5, 5])


def test_masked_stores_leave_the_rest() -> None:
    y = line(6)
    run(
        "update y: f32[6]\n axis i: 6\n for i: y[i | 2 <= i < 4] = 9.0",
        {"y": y},
    )
    np.testing.assert_array_equal(y, [0, 1, 9, 9, 4, 5])


def test_masks_of_locals() -> None:
    y = np.full(4, np.nan, np.float32)
    run(
        "read x: f32[4]\n write y: f32[4]\n axis i: 4\n axis j: 4\n for i: s: f32 = x[i] * 2.0\n"
        "for j: y[j] = s[j - 1 | 0 <= j - 1 < 4 | 7.0]",
        {"x": line(4), "y": y},
    )
    np.testing.assert_array_equal(y, [7, 0, 2, 4])


HALO = "<0 halo(0, 1, 2, value(3.5)) pad(undefined)>"


def test_a_halo_holds_its_fill() -> None:
    y = np.full(7, np.nan, np.float32)
    text = f"read x: f32[4]{HALO}\n write y: f32[7]\n axis i: 7\n for i: y[i] = x[i - 1]"
    run(text, {"x": line(4), "y": y})
    np.testing.assert_array_equal(y, [3.5, 0, 1, 2, 3, 3.5, 3.5])


def test_only_the_fill_may_be_stored_into_a_halo() -> None:
    text = f"write y: f32[4]{HALO}\n axis i: 1\n for i: y[i - 1] = {{}}"
    run(text.format("3.5"), {"y": line(4)})
    with pytest.raises(InternalError, match="halo"):
        run(text.format("0.0"), {"y": line(4)})


def test_memory_under_a_layout() -> None:
    kernel = parse(
        "kernel k {\n read x: f32[20, 3]\n write y: f32[20, 3]<0.1.0b16 halo(1, 1, 1, zero) pad(undefined)>\n"
        "axis i: 20\n axis j: 3\n axis h: 1\n for i, j: y[i, j] = x[i, j]\n for i, h: y[i, 4*h - 1] = 0.0\n}"
    )
    memory = np.full((2, 5, 16), np.nan, np.float32)
    x = line(60).reshape(20, 3)
    view = Memory(memory, kernel.param("y").type, (20, 3))
    evaluate_kernel(kernel, {"x": x, "y": view}, {})
    np.testing.assert_array_equal(memory[:, 1:4].transpose(0, 2, 1).reshape(32, 3)[:20], x)
    np.testing.assert_array_equal(memory[0, 0], np.zeros(16))
    assert np.isnan(memory[:, 4]).all() and np.isnan(memory[1, :, 4:]).all()
    np.testing.assert_array_equal(view.whole(), x)


@pytest.mark.parametrize("index", [-1, 3])
def test_indices_from_data_are_checked(index: int) -> None:
    text = "read x: f32[3]\n read k: i64[2]\n write y: f32[2]\n axis i: 2\n for i: y[i] = x[{k[i]}]"
    with pytest.raises(IndexFault, match=rf"index {index} is outside \[0, 3\)"):
        run(text, {"x": line(3), "k": np.array([0, index]), "y": line(2)})


def test_indices_from_data_are_not_checked_where_the_mask_fails() -> None:
    y = np.full(2, np.nan, np.float32)
    head = "read x: f32[3]\n read k: i64[2]\n write y: f32[2]\n axis i: 2\n"
    run(head + "for i: y[i] = x[{k[i]} | 1 <= i < 2 | 8.0]", {"x": line(3), "k": np.array([99, 2]), "y": y})
    np.testing.assert_array_equal(y, [8, 2])


SCATTER = "update y: f32[3]\n read k: i64[4]\n read x: f32[4]\n axis i: 4\n {}: y[{{k[i]}}] {} x[i]"


@pytest.mark.parametrize(
    ("head", "assignment", "expected"),
    [
        ("for i in order", "=", [10, 3, 12]),
        ("for i", "+=", [10, 18, 12]),
        ("for i", "*=", [10, 66, 12]),
        ("for i", "min=", [10, 1, 12]),
        ("for i", "max=", [10, 11, 12]),
    ],
)
def test_duplicates(head: str, assignment: str, expected: list[float]) -> None:
    y = line(3) + np.float32(10)
    arrays = {"y": y, "k": np.array([1, 1, 1, 1]), "x": np.array([1, 2, 1, 3], np.float32)}
    run(SCATTER.format(head, assignment), arrays)
    np.testing.assert_array_equal(y, expected)


def test_forbidden_duplicates_are_an_error() -> None:
    with pytest.raises(InternalError, match="two points"):
        run(SCATTER.format("for i", "="), {"y": line(3), "k": np.array([0, 1, 1, 2]), "x": line(4)})


@pytest.mark.parametrize(
    ("monoid", "value", "index"),
    [
        ("argmax", [3, math.nan, -math.inf], [1, 1, 0]),
        ("argmax_last", [3, math.nan, -math.inf], [3, 2, 3]),
        ("argmin", [0, math.nan, -math.inf], [0, 1, 0]),
        ("argmin_last", [0, math.nan, -math.inf], [2, 2, 3]),
    ],
)
def test_ties_and_nan(monoid: str, value: list[float], index: list[int]) -> None:
    rows = [[0, 3, 0, 3], [5, math.nan, math.nan, 1], [-math.inf] * 4]
    v, k = np.zeros(3, np.float32), np.zeros(3, np.int64)
    run(
        "read x: f32[3, 4]\n write v: f32[3]\n write k: i64[3]\n axis i: 3\n axis j: 4 reduce\n"
        f"for i: (a: f32, b: i64) = {monoid} over j of (x[i, j], iota(j))\n"
        "for i: v[i] = a[i]\n for i: k[i] = b[i]",
        {"x": np.array(rows, np.float32), "v": v, "k": k},
    )
    np.testing.assert_array_equal(v, np.array(value, np.float32))
    np.testing.assert_array_equal(k, index)


@pytest.mark.parametrize(
    ("monoid", "dtype", "expected"),
    [
        ("sum", "f32", 0),
        ("prod", "i32", 1),
        ("max", "f32", -math.inf),
        ("min", "i8", 127),
        ("and", "bool", True),
    ],
)
def test_reductions_of_nothing(monoid: str, dtype: str, expected: Any) -> None:
    from dlc.ir.dtypes import from_text

    numpy = from_text(dtype).numpy
    y = np.zeros(2, numpy)
    run(
        f"symbol n\n read x: {dtype}[2, n]\n write y: {dtype}[2]\n axis i: 2\n axis j: n reduce\n"
        f"for i: a: {dtype} = {monoid} over j of x[i, j]\n for i: y[i] = a[i]",
        {"x": np.zeros((2, 0), numpy), "y": y},
        n=0,
    )
    np.testing.assert_array_equal(y, [expected] * 2)


MATMUL = """
  read x: {0}[7, 6, 5]
  read w: {0}[4, 6, 5]
  write y: {0}[7, 4]
  axis i: 7
  axis o: 4
  axis c: 6 reduce
  axis k: 5 reduce
  for i, o: a: {0} = contract over c, k of x[i, c, k], w[o, c, k] with rows(i) columns(o)
  for i, o: y[i, o] = a[i, o]
"""
REDUCE = """
  read x: {0}[7, 6, 5]
  write y: {0}[7]
  axis i: 7
  axis c: 6 reduce
  axis k: 5 reduce
  for i: a: {0} = {1} over c, k of x[i, c, k]
  for i: y[i] = a[i]
"""


@pytest.mark.parametrize("most", [1, 40, 250])
@pytest.mark.parametrize("dtype", ["f32", "i32", "i64"])
def test_sums_in_pieces(most: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlc.ir.dtypes import from_text

    generator = np.random.default_rng(0)
    numpy = from_text(dtype).numpy
    scale = 1 << 30 if dtype == "i64" else 50
    x, w = ((generator.standard_normal((n, 6, 5)) * scale).astype(numpy) for n in (7, 4))
    whole, pieces = np.zeros((2, 7, 4), numpy)
    run(MATMUL.format(dtype), {"x": x, "w": w, "y": whole})
    monkeypatch.setattr(evaluate, "MOST_POINTS", most)
    run(MATMUL.format(dtype), {"x": x, "w": w, "y": pieces})
    if dtype == "f32":
        np.testing.assert_allclose(pieces, whole, rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(whole, np.einsum("ick,ock->io", x, w), rtol=1e-4, atol=1e-2)
    else:
        np.testing.assert_array_equal(pieces, whole)
        np.testing.assert_array_equal(whole, np.einsum("ick,ock->io", x, w))


@pytest.mark.parametrize("monoid", ["sum", "prod", "max", "min"])
def test_reductions_in_pieces(monoid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(-3, 4, (7, 6, 5)).astype(np.int32)
    y = np.zeros(7, np.int32)
    monkeypatch.setattr(evaluate, "MOST_POINTS", 36)
    run(REDUCE.format("i32", monoid), {"x": x, "y": y})
    function = {"sum": np.sum, "prod": np.prod, "max": np.max, "min": np.min}[monoid]
    np.testing.assert_array_equal(y, function(x, axis=(1, 2)))


def test_recurrences_run_in_order_and_backwards() -> None:
    text = (
        "read x: f32[5]\n write y: f32[5]\n write z: f32[]\n axis t: 5 sequential\n recur t {} {{\n"
        "state s: f32 = 1.0\n y[t] = s\n next s = s * 2.0 + x[t]\n }}\n z[] = s"
    )
    x, y, z = line(5), np.zeros(5, np.float32), np.zeros((), np.float32)
    for direction, steps in (("", range(5)), ("reverse", range(4, -1, -1))):
        run(text.format(direction), {"x": x, "y": y, "z": z})
        state = 1.0
        for step in steps:
            assert y[step] == state
            state = state * 2 + x[step]
        assert z == state


def test_states_advance_together() -> None:
    y = np.zeros(2, np.float32)
    run(
        "write y: f32[2]\n axis t: 7 sequential\n axis i: 2\n"
        "recur t {\n state a: f32 = 0.0\n state b: f32 = 1.0\n"
        "next a = b\n next b = a + b\n }\n for i: y[i] = select(iota(i) == 0, a, b)",
        {"y": y},
    )
    np.testing.assert_array_equal(y, [13, 21])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (CastMode.RNE, [2, 2, 4, -2, 127, -128, 0]),
        (CastMode.SATURATE, [1, 2, 3, -2, 127, -128, 0]),
        (CastMode.WRAP, [1, 2, 3, -2, 44, 0, 0]),
    ],
)
def test_floats_become_integers(mode: CastMode, expected: list[int]) -> None:
    x = np.array([1.5, 2.5, 3.5, -2.5, 300, -1e9, math.nan], np.float32)
    np.testing.assert_array_equal(convert(x, DType.F32, DType.I8, mode), np.array(expected, np.int8))


def test_integers_wrap_or_saturate() -> None:
    x = np.array([-1, 0, 255, 256, 300], np.int32)
    np.testing.assert_array_equal(convert(x, DType.I32, DType.U8, CastMode.SATURATE), [0, 0, 255, 255, 255])
    np.testing.assert_array_equal(convert(x, DType.I32, DType.U8, CastMode.RNE), [255, 0, 255, 0, 44])
    unsigned = np.array([0, (1 << 64) - 1], np.uint64)
    np.testing.assert_array_equal(convert(unsigned, DType.U64, DType.I8, CastMode.SATURATE), [0, 127])


def test_wide_evaluation_keeps_what_f32_loses() -> None:
    head = "read x: f32[3]\n write y: f32[1]\n axis i: 1\n axis j: 3 reduce\n"
    text = head + "for i: a: f32 = sum over j of x[j]\n for i: y[i] = a[i]"
    x, y = np.array([1e8, 1, -1e8], np.float32), np.zeros(1, np.float32)
    run(text, {"x": x, "y": y})
    assert y[0] == 0
    run(text, {"x": x, "y": y}, wide=True)
    assert y[0] == 1


def test_unsound_kernels_are_reported() -> None:
    text = "read x: f32[3]\n write y: f32[4]\n axis i: 4\n for i: y[i] = x[i]"
    with pytest.raises(InternalError, match="index 3 is outside"):
        run(text, {"x": line(3), "y": line(4)})


def test_arrays_have_to_fit() -> None:
    text = "read x: f32[3]\n write y: f32[3]\n axis i: 3\n for i: y[i] = x[i]"
    with pytest.raises(InternalError, match=r"x is of shape \(4,\), not \(3,\)"):
        run(text, {"x": line(4), "y": line(3)})
