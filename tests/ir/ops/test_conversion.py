"""Casts: rounding once, saturation, wrapping, the table of the standard for f8e8m0, text."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from dlc.errors import InputError
from dlc.ir.dtypes import DType, Kind
from dlc.ir.ops.conversion import convert, float_limit, integer_range

INTEGERS = [dtype for dtype in DType if dtype.is_integer]
EVERY_F16 = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
SPECIAL = [
    0.0,
    -0.0,
    0.4,
    -0.4,
    0.5,
    -0.5,
    0.999,
    -0.999,
    1.5,
    -1.5,
    2.5,
    127.5,
    128.0,
    -128.9,
    -129.0,
    255.9,
    256.0,
    32767.5,
    65535.9,
    65536.0,
    2.0**31 - 1,
    2.0**31,
    -(2.0**31) - 1,
    2.0**32,
    2.0**63,
    -(2.0**63),
    2.0**64,
    1e300,
    -1e300,
    5e-324,
    math.inf,
    -math.inf,
    math.nan,
]


def low_bits(number: int, to: DType) -> int:
    low, _ = integer_range(to)
    return (number - low) % (1 << to.bits) + low


def converted(x: float, width: int) -> int:
    """What cvttsd2si gives: the minimum for what does not fit."""
    fits = not math.isnan(x) and not math.isinf(x) and -(1 << (width - 1)) <= math.trunc(x) < 1 << (width - 1)
    return math.trunc(x) if fits else -(1 << (width - 1))


@pytest.mark.parametrize("to", INTEGERS, ids=lambda t: t.text)
def test_floats_truncate_to_integers(to: DType) -> None:
    low, high = integer_range(to)
    inside = [x for x in SPECIAL if math.isfinite(x) and low <= math.trunc(x) <= high]
    assert convert(np.array(inside), to).astype(object).tolist() == [math.trunc(x) for x in inside]


@pytest.mark.parametrize("to", INTEGERS, ids=lambda t: t.text)
def test_floats_beyond_the_range_convert_as_on_x86(to: DType) -> None:
    width = 64 if to.bits == 64 else 32
    half = 1 << (width - 1)
    wanted = []
    for x in SPECIAL:
        if to.kind is Kind.UNSIGNED and to.bits == width and x >= half:
            wanted.append(low_bits(converted(x - half, width) ^ half, to))
        else:
            wanted.append(low_bits(converted(x, width), to))
    assert convert(np.array(SPECIAL), to).astype(object).tolist() == wanted


@pytest.mark.parametrize("to", INTEGERS, ids=lambda t: t.text)
@pytest.mark.parametrize("source", [DType.I64, DType.U64, DType.I8, DType.U4], ids=lambda t: t.text)
def test_integers_keep_their_low_bits(source: DType, to: DType) -> None:
    low, high = integer_range(source)
    numbers = sorted({low, low + 1, 0, 1, 3, high // 2, high - 1, high})
    array = np.array(numbers, dtype=object).astype(np.uint64 if low == 0 else np.int64).astype(source.numpy)
    wanted = [low_bits(n, to) for n in numbers]
    assert convert(array, to).astype(object).tolist() == wanted


@pytest.mark.parametrize(
    "to", [DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ], ids=lambda t: t.text
)
def test_8_bit_floats_saturate_unless_told_otherwise(to: DType) -> None:
    limit = float_limit(to)
    saturated = convert(EVERY_F16, to).astype(np.float64)
    plain = EVERY_F16.astype(np.float32).astype(to.numpy).astype(np.float64)
    finite = np.isfinite(plain)
    np.testing.assert_array_equal(saturated[finite], plain[finite])
    np.testing.assert_array_equal(np.isnan(saturated), np.isnan(EVERY_F16))
    beyond = ~finite & ~np.isnan(EVERY_F16)
    np.testing.assert_array_equal(saturated[beyond], np.copysign(limit, EVERY_F16[beyond].astype(np.float64)))
    np.testing.assert_array_equal(convert(EVERY_F16, to, saturate=False).astype(np.float64), plain)


@pytest.mark.parametrize(
    "to", [DType.F16, DType.BF16, DType.F8E4M3FN, DType.F8E5M2, DType.F4E2M1], ids=lambda t: t.text
)
@given(st.floats(min_value=-6, max_value=6))
def test_f64_rounds_once_half_to_even(to: DType, x: float) -> None:
    got = float(convert(np.array([x]), to)[0])
    above = float(np.nextafter(np.array(got).astype(to.numpy), np.array(8, dtype=to.numpy)))
    below = float(np.nextafter(np.array(got).astype(to.numpy), np.array(-8, dtype=to.numpy)))
    for neighbour in (above, below):
        mine, other = abs(Fraction(x) - Fraction(got)), abs(Fraction(x) - Fraction(neighbour))
        assert mine <= other


def test_a_tie_after_rounding_to_f32_is_not_a_tie() -> None:
    assert float(convert(np.array([1 + 2**-8 + 2**-40]), DType.BF16)[0]) == 1 + 2**-7
    assert float(convert(np.array([1 + 2**-8]), DType.BF16)[0]) == 1
    assert float(convert(np.array([1 + 2**-8 - 2**-40]), DType.BF16)[0]) == 1
    assert float(convert(np.array([1 + 2**-4 + 2**-40]), DType.F8E4M3FN)[0]) == 1.125


def test_ranges_of_narrow_floats() -> None:
    extremes = np.array([1e39, -1e39, 7e4, 1e-60, -1e-60, 1e-40])
    wanted = np.array([np.inf, -np.inf, np.inf, 0, -0.0, 0], np.float16)
    np.testing.assert_array_equal(convert(extremes, DType.F16), wanted)
    f32 = convert(extremes, DType.F32)
    assert f32[:2].tolist() == [np.inf, -np.inf] and 0 < f32[5] < 1.2e-38
    bf16 = convert(extremes, DType.BF16).astype(np.float32)
    assert bf16[0] == np.inf and 0 < bf16[5] < 1.2e-38 and np.signbit(bf16[4])


def test_bool() -> None:
    floats = np.array([0.0, -0.0, 1e-320, -3.0, np.nan, np.inf])
    assert convert(floats, DType.BOOL).tolist() == [False, False, True, True, True, True]
    assert convert(np.array([0, 256, -1]), DType.BOOL).tolist() == [False, True, True]
    assert convert(np.array([True, False]), DType.BF16).astype(np.float32).tolist() == [1, 0]
    assert convert(np.array([True, False]), DType.I4).astype(np.int8).tolist() == [1, 0]


# The table of the standard (Cast, FLOAT8E8M0), and powers of two around a tie.
@pytest.mark.parametrize(
    ("mode", "saturate", "x", "wanted"),
    [
        ("up", True, 0.0, 2.0**-127),
        ("up", True, math.nan, math.nan),
        ("up", True, math.inf, 2.0**127),
        ("up", True, 2.0**127 * 1.5, 2.0**127),
        ("up", True, 2.0**-130, 2.0**-127),
        ("nearest", False, 0.0, math.nan),
        ("nearest", False, math.nan, math.nan),
        ("nearest", False, math.inf, math.nan),
        ("nearest", False, 2.0**127 * 1.5, math.nan),
        ("nearest", False, 2.0**-130, math.nan),
        ("up", True, 3.0, 4.0),
        ("up", True, 4.0, 4.0),
        ("down", True, 3.9, 2.0),
        ("down", True, 4.0, 4.0),
        ("nearest", True, 2.9, 2.0),
        ("nearest", True, 3.0, 4.0),
        ("nearest", True, 3.1, 4.0),
    ],
)
def test_exponent_only_floats(mode: str, saturate: bool, x: float, wanted: float) -> None:
    np.testing.assert_array_equal(
        convert(np.array(x), DType.F8E8M0, saturate, mode).astype(np.float64), wanted
    )


def test_text() -> None:
    text = np.array(["3.14", "1e-5", "1E8", "+INF", "-inf", "NaN", "42"], dtype=object)
    np.testing.assert_array_equal(
        convert(text, DType.F32), np.array([3.14, 1e-5, 1e8, np.inf, -np.inf, np.nan, 42], np.float32)
    )
    whole = np.array([["9223372036854775807", "-7"], ["100.5", "1e3"]], dtype=object)
    assert convert(whole, DType.I64).tolist() == [[9223372036854775807, -7], [100, 1000]]
    numbers = np.array([0.1, 314.125, -3, -0.0, 1e20, np.inf, -np.inf, np.nan], np.float32)
    shown = ["0.1", "314.125", "-3", "-0", "1e+20", "INF", "-INF", "NaN"]
    assert convert(numbers, DType.STRING).tolist() == shown
    np.testing.assert_array_equal(convert(convert(numbers, DType.STRING), DType.F32), numbers)
    assert convert(np.array([True, False]), DType.STRING).tolist() == ["1", "0"]
    assert convert(np.array([[-7]], np.int8), DType.STRING).tolist() == [["-7"]]
    for wrong in ("Hello World!", "", "nan"):
        with pytest.raises(InputError, match="cannot be read as i32"):
            convert(np.array([wrong], object), DType.I32)


def test_nothing_is_copied_when_the_type_is_the_same() -> None:
    x = np.ones(3, np.float32)
    assert convert(x, DType.F32) is x
