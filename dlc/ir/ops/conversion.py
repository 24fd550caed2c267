"""Conversion of arrays between element types, as the Cast operator of ONNX defines it.

Where the standard leaves a result undefined (floats outside the range of an integer type), dlc gives what
onnxruntime and the vectorized loops of NumPy give on x86-64, on every machine.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlc.errors import InputError, printable
from dlc.ir.dtypes import DType, Kind, from_numpy
from dlc.ir.operator import Array

_SATURATING = frozenset({DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ})
_SPECIAL_TEXTS = {"inf": "INF", "-inf": "-INF", "nan": "NaN"}
_NATIVE_FLOATS = frozenset({DType.F64, DType.F32, DType.F16})


def integer_range(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest number of an integer type."""
    if dtype.kind is Kind.SIGNED:
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1


def float_limit(dtype: DType) -> float:
    """The largest finite number of a floating-point type."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).max)


def convert(array: Array, to: DType, saturate: bool = True, round_mode: str = "up") -> Array:
    """`array` in the element type `to`.

    Floats round once, half to even; integers reach floats narrower than f32 by way of f32. `saturate` clamps
    what is beyond the range of an 8-bit float, which otherwise becomes infinite or NaN; `round_mode` ("up",
    "down", "nearest") is for f8e8m0 only.
    """
    source = from_numpy(array.dtype)
    if source is to:
        return array
    with np.errstate(all="ignore"):
        if source is DType.STRING:
            return convert(_parse(array, to), to, saturate, round_mode)
        if to is DType.STRING:
            return _print(array)
        if source.kind is Kind.COMPLEX:
            return np.asarray(array != 0)
        if to is DType.BOOL:
            return np.asarray(array.astype(np.float64 if source.is_float else np.int64) != 0)
        if to.is_integer:
            if source.bits < 8:  # ml_dtypes has no casts between its own integers
                array = array.astype(np.int8)
            return _float_to_integer(array, to) if source.is_float else np.asarray(array.astype(to.numpy))
        if to is DType.F8E8M0:
            return _to_exponent(array.astype(np.float64), saturate, round_mode)
        return _to_float(array, to, saturate)


def _to_float(array: Array, to: DType, saturate: bool) -> Array:
    if to in _SATURATING and saturate:
        limit = float_limit(to)
        array = np.clip(array.astype(np.float64), -limit, limit)
    if to in _NATIVE_FLOATS:
        return np.asarray(array.astype(to.numpy))
    if array.dtype.kind in "iub" or from_numpy(array.dtype).is_integer:
        array = array.astype(np.float32)
    elif array.dtype != np.float32:
        array = _float32_to_odd(array.astype(np.float64))
    return np.asarray(array.astype(to.numpy))


def _float32_to_odd(array: Array) -> Array:
    """Float64 as float32, rounded to odd, so that rounding again to a narrower type rounds as if once."""
    near = np.asarray(array.astype(np.float32))
    toward_zero = np.where(np.abs(near) > np.abs(array), np.nextafter(near, np.float32(0)), near)
    inexact = (near != array) & ~np.isnan(array)
    bits = np.ascontiguousarray(toward_zero).view(np.uint32) | inexact.astype(np.uint32)
    return np.asarray(bits.view(np.float32).reshape(array.shape))


def _float_to_integer(array: Array, to: DType) -> Array:
    """Truncation; beyond the range, what the conversion instructions of x86-64 make of it.

    i32 and i64: the minimum. Narrower types: the low bits of the conversion to i32. u32 and u64: the bits of
    the signed conversion, of x - 2^(bits - 1) with the top bit flipped where x is at least 2^(bits - 1).
    """
    whole = np.trunc(array.astype(np.float64))
    width = 64 if to.bits == 64 else 32
    half = float(1 << (width - 1))
    result = _to_signed(whole, width)
    if to.kind is Kind.UNSIGNED and to.bits == width:
        upper = _to_signed(whole - half, width) ^ np.int64(-(1 << (width - 1)))
        result = np.where(whole >= half, upper, result)
    return np.asarray(result.astype(to.numpy))


def _to_signed(whole: Array, width: int) -> Array:
    """Whole numbers as signed integers of `width` bits, held in int64; the minimum for what does not fit."""
    half = float(1 << (width - 1))
    inside = (whole >= -half) & (whole < half)
    return np.where(inside, np.where(inside, whole, 0.0).astype(np.int64), np.int64(-(1 << (width - 1))))


def _to_exponent(array: Array, saturate: bool, round_mode: str) -> Array:
    """Magnitudes as powers of two. The sign is dropped: the standard leaves negative numbers undefined."""
    mantissa, exponent = np.frexp(np.abs(array))
    match round_mode:
        case "up":
            power = exponent - (mantissa == 0.5)
        case "down":
            power = exponent - 1
        case "nearest":
            power = exponent - 1 + (mantissa >= 0.75)
        case _:
            raise ValueError(f"round_mode {round_mode!r} is none of up, down and nearest")
    power = np.where(array == 0, -128, np.where(np.isinf(array), 128, power))
    invalid = np.isnan(array) | (False if saturate else np.abs(power) > 127)
    result = np.where(invalid, np.nan, np.ldexp(1.0, np.clip(power, -127, 127)))
    return np.asarray(result.astype(DType.F8E8M0.numpy))


def _parse(array: Array, to: DType) -> Array:
    """Numbers from decimal text; INF and NAN in any case are the special values. InputError for all else."""
    read: Callable[[str], float | int] = float
    if to.is_integer:
        low, high = integer_range(to)

        def read(text: str) -> int:
            return min(max(_parse_integer(text), low), high)

    numbers = []
    for text in array.reshape(-1).tolist():
        try:
            numbers.append(read(text))
        except (ValueError, OverflowError):
            raise InputError(f"{printable(repr(text), 60)} cannot be read as {to.text}") from None
    return np.array(numbers, to.numpy if to.is_integer else np.float64).reshape(array.shape)


def _parse_integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return int(float(text))


def _print(array: Array) -> Array:
    """Numbers as the shortest decimal text that reads back the same; bools as 1 and 0."""
    numbers = array.astype(np.uint8) if array.dtype == np.bool_ else array
    shown = np.empty(array.size, object)
    shown[:] = [_number_text(str(number)) for number in numbers.reshape(-1)]
    return shown.reshape(array.shape)


def _number_text(text: str) -> str:
    """A number as the standard and onnxruntime write it, from NumPy's text."""
    return _SPECIAL_TEXTS.get(text, text).removesuffix(".0")
