"""Quantization against exact rational arithmetic: ties, saturation, zero points, blocks, small floats."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.conversion import convert, integer_range
from dlc.ir.ops.quantization import QUANTIZED, DequantizeLinear, QuantizeLinear
from dlc.ir.types import TensorType
from tests.helpers.operators import Array, run_one

INTEGERS = sorted(dtype for dtype in QUANTIZED if dtype.is_integer)
SMALL_FLOATS = sorted(dtype for dtype in QUANTIZED if dtype.is_float)


def every_number(dtype: DType) -> Array:
    """All numbers of an integer type of at most 16 bits."""
    low, high = integer_range(dtype)
    return np.arange(low, high + 1).astype(dtype.numpy)


def zero_points(dtype: DType) -> list[int]:
    low, high = integer_range(dtype)
    return sorted({low, -1 if low else 0, 0, 1, high // 2, high // 2 + 1, high} & set(range(low, high + 1)))


@pytest.mark.parametrize("to", INTEGERS, ids=lambda t: t.text)
def test_rounds_half_to_even_then_adds_the_zero_point_then_saturates(to: DType) -> None:
    low, high = integer_range(to)
    quarters = np.arange(4 * max(low, -300) - 8, 4 * min(high, 300) + 8, dtype=np.float32)
    x = np.concatenate([quarters, np.float32([1e9, -1e9, 3e38, -3e38, np.inf, -np.inf])]).astype(np.float32)
    for zero_point in zero_points(to):
        got = run_one(QuantizeLinear(0, 0, to), x, np.float32(4), np.array(zero_point).astype(to.numpy))
        wanted = [
            high
            if v == math.inf
            else low
            if v == -math.inf
            else min(max(round(Fraction(v) / 4) + zero_point, low), high)
            for v in x.tolist()
        ]
        assert got.astype(np.int64).tolist() == wanted


@pytest.mark.parametrize("to", INTEGERS, ids=lambda t: t.text)
def test_dequantizing_is_exact_for_every_number_and_zero_point(to: DType) -> None:
    x = every_number(to)
    for zero_point in zero_points(to):
        got = run_one(
            DequantizeLinear(0, 0, DType.F32), x, np.float32(0.125), np.array(zero_point).astype(to.numpy)
        )
        np.testing.assert_array_equal(got, (x.astype(np.float64) - zero_point) / 8)


@pytest.mark.parametrize("to", INTEGERS, ids=lambda t: t.text)
def test_quantizing_what_was_dequantized_gives_it_back(to: DType) -> None:
    x = every_number(to)
    zero_point = np.array(integer_range(to)[1] // 2).astype(to.numpy)
    for scale in (np.float32(0.1), np.float32(3e-3), np.float32(77.7)):
        real = run_one(DequantizeLinear(0, 0, DType.F32), x, scale, zero_point)
        np.testing.assert_array_equal(run_one(QuantizeLinear(0, 0, to), real, scale, zero_point), x)


@pytest.mark.parametrize("to", SMALL_FLOATS, ids=lambda t: t.text)
def test_small_floats_are_cast_without_rounding_to_integers(to: DType) -> None:
    x = np.float32([0, 0.3, 1, -1.3, 5.7, 1e3, -1e6])
    for saturate in (True, False):
        got = run_one(QuantizeLinear(0, 0, to, saturate), x, np.float32(2), np.zeros((), to.numpy))
        np.testing.assert_array_equal(got.astype(np.float64), convert(x / 2, to, saturate).astype(np.float64))
    codes = np.arange(1 << min(to.bits, 8), dtype=np.uint8).view(to.numpy)
    got = run_one(DequantizeLinear(0, 0, DType.F32), codes, np.float32(0.5))
    np.testing.assert_array_equal(got, codes.astype(np.float32) * np.float32(0.5))


def test_nan_becomes_the_smallest_number() -> None:
    for to in (DType.U8, DType.I8):
        got = run_one(QuantizeLinear(0, 0, to), np.float32([np.nan, 0]), np.float32(1), np.array(7, to.numpy))
        assert got.tolist() == [integer_range(to)[0], 7]


def test_a_scale_of_zero() -> None:
    got = run_one(
        QuantizeLinear(0, 0, DType.U8), np.float32([-1, 0, 1]), np.float32(0), np.array(9, np.uint8)
    )
    assert got.tolist() == [0, 0, 255]


def test_per_axis() -> None:
    x = np.arange(-6, 6, dtype=np.float32).reshape(2, 3, 2)
    scale, zero_point = np.float32([1, 2, 4]), np.int8([0, 10, -10])
    quantized = run_one(QuantizeLinear(1, 0, DType.I8), x, scale, zero_point)
    for channel in range(3):
        part = run_one(QuantizeLinear(0, 0, DType.I8), x[:, channel], scale[channel], zero_point[channel])
        np.testing.assert_array_equal(quantized[:, channel], part)
    back = run_one(DequantizeLinear(1, 0, DType.F32), quantized, scale, zero_point)
    assert np.abs(back - x).max() <= 2


@pytest.mark.parametrize("extent", [4, 5, 6])
def test_blocks(extent: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-20, 20, (2, extent, 3)).astype(np.float32)
    blocks = -(-extent // 2)
    scale = rng.uniform(0.5, 2, (2, blocks, 3)).astype(np.float32)
    zero_point = rng.integers(-5, 5, (2, blocks, 3)).astype(np.int8)
    quantized = run_one_static(QuantizeLinear(1, 2, DType.I8), x, scale, zero_point)
    back = run_one_static(DequantizeLinear(1, 2, DType.F32), quantized, scale, zero_point)
    for n, i, d in np.ndindex(*x.shape):
        s, z = scale[n, i // 2, d], int(zero_point[n, i // 2, d])
        stored = min(max(round(float(x[n, i, d] / s)) + z, -128), 127)
        assert quantized[n, i, d] == stored
        assert back[n, i, d] == np.float32(stored - z) * s


def run_one_static(op: QuantizeLinear | DequantizeLinear, *inputs: Array) -> Array:
    return run_one(op, *inputs)


def test_the_division_has_the_precision_of_the_scale() -> None:
    # 2049 / 2 = 1024.5 is 1024 in f16, whose neighbours at 1024 are 1 apart, and ties to even in f32 as well;
    # 1027 / 2 = 513.5 is exact in both, but 3075 / 2 = 1537.5 rounds to 1538 in f16 before rint sees it.
    x = np.array([2050, 1027, 3076], np.float16)
    for scale in (np.float16(3), np.float16(7)):
        quotient = (x.astype(np.float32) / np.float32(scale)).astype(np.float16)
        got = run_one(QuantizeLinear(0, 0, DType.I16), x, scale)
        np.testing.assert_array_equal(got, np.rint(quotient.astype(np.float32)).astype(np.int16))
        got = run_one(QuantizeLinear(0, 0, DType.I16, precision=DType.F32), x, scale)
        np.testing.assert_array_equal(got, np.rint(x.astype(np.float32) / np.float32(scale)).astype(np.int16))


def test_mixed_types_of_x_and_scale() -> None:
    x = np.array([1.0, 300.0, 3.5], np.float16)
    assert run_one(QuantizeLinear(0, 0, DType.U8), x, np.float32(0.5)).tolist() == [2, 255, 7]
    integers = np.array([2**31 - 1, -7, 7], np.int32)
    assert run_one(QuantizeLinear(0, 0, DType.I8), integers, np.float32(2)).tolist() == [127, -4, 4]
    exponent = np.array(4.0).astype(ml_dtypes.float8_e8m0fnu)
    assert run_one(QuantizeLinear(0, 0, DType.I8), np.float32([9, 10, 14]), exponent).tolist() == [2, 2, 4]
    narrow = run_one(DequantizeLinear(0, 0, DType.F16), np.array([3], np.int32), np.float32(0.1))
    assert narrow.dtype == np.float16 and narrow[0] == np.float16(np.float32(3) * np.float32(0.1))
    bf16 = run_one(
        DequantizeLinear(0, 0, DType.BF16), np.array([3], np.int8), np.array(0.1, ml_dtypes.bfloat16)
    )
    assert bf16.dtype == ml_dtypes.bfloat16


def test_symbolic_extents() -> None:
    rows = Symbol("rows")
    x, scale = TensorType(DType.F32, (rows, 64)), TensorType(DType.F32, (rows, 2))
    assert QuantizeLinear(1, 32, DType.I4).infer([x, scale]) == (TensorType(DType.I4, (rows, 64)),)


def f32(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape)


U8 = TensorType(DType.U8, ())


@pytest.mark.parametrize(
    ("op", "operands", "reason"),
    [
        (QuantizeLinear(1, 0, DType.U8), [f32(2, 3), f32(2)], r"scale must have the shape \[3\]"),
        (QuantizeLinear(2, 0, DType.U8), [f32(2, 3), f32(3)], "axis 2 is outside"),
        (QuantizeLinear(1, 0, DType.I8), [f32(2, 3), f32(), U8], "zero_point must be of type i8"),
        (QuantizeLinear(1, 0, DType.I32), [f32(2, 3), f32()], "i32 is not a type of quantized tensors"),
        (QuantizeLinear(1, 2, DType.U8), [f32(2, 3), f32(2, 3)], "axis 1 of the blocks of x and of scale"),
        (QuantizeLinear(1, 2, DType.U8), [f32(2, 3), f32(2)], "must have the rank of x"),
        (DequantizeLinear(1, 0, DType.F64), [U8, f32()], "not f64"),
        (
            DequantizeLinear(1, 0, DType.F32),
            [TensorType(DType.I64, ()), f32()],
            "x must be of one of the types",
        ),
    ],
)
def test_unfit_operands_are_refused(op: QuantizeLinear, operands: list[TensorType], reason: str) -> None:
    with pytest.raises(InferenceError, match=reason):
        op.infer(operands)
