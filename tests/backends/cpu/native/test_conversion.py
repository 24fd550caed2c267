"""Casts and quantization natively: every pair of types, every code of the small ones, ties, ends and NaN."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.ir.dtypes import DType
from dlc.ir.ops.conversion import convert
from dlc.ir.ops.pointwise import BitCast, Cast
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.verify.tolerances import Work
from tests.helpers.native import check_native

Array: TypeAlias = "np.ndarray[Any, Any]"

_SMALL = [DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ, DType.F4E2M1, DType.F8E8M0]
_WIDE = [DType.F64, DType.F32, DType.F16, DType.BF16]
_INTEGERS = [dtype for dtype in DType if dtype.is_integer]
TYPES = [*_WIDE, *_SMALL, *_INTEGERS, DType.BOOL]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def numbers(dtype: DType) -> Array:
    """Numbers of a type: every code of a small one, otherwise ends, ties and some at random."""
    if dtype is DType.BOOL:
        return np.array([True, False, True])
    if dtype.bits <= 8:
        codes = np.arange(1 << dtype.bits, dtype=np.uint8)
        return codes.view(dtype.numpy)
    random = np.random.default_rng(0)
    if dtype.is_integer:
        info = np.iinfo(dtype.numpy)
        low, high = max(info.min, -1 << 62), min(info.max, 1 << 62)
        some = [info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 127, 128, 255, 256, 449, 465]
        return np.array([*some, *random.integers(low, high, 40)], dtype.numpy)
    with np.errstate(over="ignore", invalid="ignore"):
        ends = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38, 1e300, -1e300, 2.0**31, -(2.0**31), 2.0**63]
        ends += [2.0**31 - 1, 2.0**32, 2.0**64, -(2.0**63), 127.5, 128.5, 255.5, 256.5, 300.0, -129.0, 1e10]
        halves = np.arange(-20, 20) / 2 + 0.25 * (np.arange(-20, 20) % 3)
        near = (np.arange(64) - 0.5) * 2.0 ** np.arange(-40, 24)
        normal = random.standard_normal(64) * 10.0 ** random.integers(-8, 8, 64)
        # The last ones lie just beside ties of narrower types, which rounding twice would miss.
        ties = np.array([1 + 2**-11 + 2**-40, 1 + 2**-8 - 2**-40, 1 + 2**-4 + 2**-40, 1 + 2**-3 - 2**-40])
        return np.concatenate([ends, halves, near, normal, ties, -ties]).astype(dtype.numpy)


@pytest.mark.parametrize("to", TYPES, ids=lambda d: d.text)
@pytest.mark.parametrize("source", TYPES, ids=lambda d: d.text)
def test_cast_of_every_pair(source: DType, to: DType) -> None:
    check_native(Cast(to), numbers(source), work=Work.EXACT)


@pytest.mark.parametrize("to", _SMALL, ids=lambda d: d.text)
@pytest.mark.parametrize("source", [*_WIDE, DType.I32, DType.F8E5M2], ids=lambda d: d.text)
def test_cast_without_saturation(source: DType, to: DType) -> None:
    for mode in ("up", "down", "nearest") if to is DType.F8E8M0 else ("up",):
        for saturate in (False, True):
            check_native(Cast(to, saturate, mode), numbers(source), work=Work.EXACT)


@pytest.mark.parametrize("source", TYPES, ids=lambda d: d.text)
def test_bit_casts(source: DType) -> None:
    for to in TYPES:
        if to.bits == source.bits and to is not DType.BOOL:
            check_native(BitCast(to), numbers(source), work=Work.EXACT)


def data(*shape: int, seed: int = 0) -> Array:
    """Numbers that reach beyond the range of the small types, with ties, ends and NaN among them."""
    random = np.random.default_rng(seed)
    x = (random.standard_normal(shape) * 300).astype(np.float32)
    flat = x.reshape(-1)
    special = [np.nan, np.inf, -np.inf, 0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, 0.0, -0.0, 4e6, 1e9]
    flat[: len(special)] = special[: flat.size]
    flat[len(special) : 2 * len(special)] = (np.arange(len(special)) - 7.5)[
        : max(flat.size - len(special), 0)
    ]
    return x


QUANTIZED = [DType.U8, DType.I8, DType.U16, DType.I16, DType.U4, DType.I4, DType.U2, DType.I2]


def zero_points(dtype: DType, *shape: int) -> Array:
    """Zero points of an integer type, all different numbers of it."""
    low = -(1 << (dtype.bits - 1)) if dtype.kind.value == "signed" else 0
    span = 1 << dtype.bits
    return convert(np.arange(3, 3 + int(np.prod(shape))).reshape(shape) * 7 % span + low, dtype)


@pytest.mark.parametrize("to", QUANTIZED, ids=lambda d: d.text)
def test_quantization_to_integers(to: DType) -> None:
    x = data(3, 5, 7)
    scale = np.float32([0.5, 1.0, 3.1, 0.25, 2.0])
    check_native(QuantizeLinear(1, 0, to), x, np.array(0.5, np.float32), None)
    check_native(QuantizeLinear(1, 0, to), x, np.array([1.3], np.float32), zero_points(to, 1), symbolic=True)
    check_native(QuantizeLinear(1, 0, to), x, scale, zero_points(to, 5), symbolic=True)
    check_native(QuantizeLinear(2, 0, to), x, scale.repeat(2)[:7], zero_points(to, 7))
    blocks = np.abs(data(3, 5, 3, seed=1)) + np.float32(0.1)
    blocks[~np.isfinite(blocks)] = 1
    check_native(QuantizeLinear(2, 3, to), x, blocks, zero_points(to, 3, 5, 3))
    check_native(QuantizeLinear(2, 3, to), x, blocks, None)


@pytest.mark.parametrize("to", _SMALL[:-1], ids=lambda d: d.text)
def test_quantization_to_floats(to: DType) -> None:
    x = data(4, 9)
    for saturate in (True, False):
        check_native(QuantizeLinear(0, 0, to, saturate), x, np.array(3.0, np.float32), None)
        zero = np.array(1.5).astype(to.numpy)
        check_native(QuantizeLinear(0, 0, to, saturate), x, np.array(3.0, np.float32), zero)


@pytest.mark.parametrize("precision", [None, DType.F32, DType.F16, DType.BF16])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, DType.BF16.numpy, np.int32])
def test_quantization_precision(dtype: Any, precision: DType | None) -> None:
    with np.errstate(invalid="ignore"):
        x = data(40).astype(dtype)
    for scale in (np.array(0.3, np.float32), np.array(0.3, np.float16)):
        check_native(QuantizeLinear(0, 0, DType.I8, precision=precision), x, scale, None)


def test_quantization_by_zero_and_powers_of_two() -> None:
    x = data(30)
    check_native(QuantizeLinear(0, 0, DType.U8), x, np.array(0.0, np.float32), None)
    check_native(QuantizeLinear(0, 0, DType.I8), x, np.array(0.0, np.float32), np.array(3, np.int8))
    exponent = np.array(2.0).astype(DType.F8E8M0.numpy)
    check_native(QuantizeLinear(0, 0, DType.I8), x, exponent, None)


@pytest.mark.parametrize("source", [*QUANTIZED, DType.I32, *_SMALL[:-1]], ids=lambda d: d.text)
def test_dequantization(source: DType) -> None:
    values = np.resize(numbers(source), 3 * 5 * 7).reshape(3, 5, 7)
    scale = np.float32([0.5, 1.0, 3.1, 0.25, 2.0])
    zero = None
    if source is not DType.I32:
        zero = (
            zero_points(source, 5)
            if source.is_integer
            else np.float32([0, 1, 2, 0.5, 4]).astype(source.numpy)
        )
    for to in (DType.F32, DType.F16, DType.BF16):
        check_native(DequantizeLinear(1, 0, to), values, np.array(0.01, np.float32), None, work=Work.EXACT)
        check_native(DequantizeLinear(1, 0, to), values, scale, zero, symbolic=True, work=Work.EXACT)
    check_native(DequantizeLinear(2, 4, DType.F32), values, np.abs(data(3, 5, 2)[..., ::-1] + 1), None)


def test_dequantization_by_other_scales() -> None:
    x = np.arange(-8, 8, dtype=np.int8)
    for scale in (
        np.float16(0.1),
        np.float32(2**-3).astype(DType.F8E8M0.numpy),
        np.array(3).astype(DType.BF16.numpy),
    ):
        check_native(DequantizeLinear(0, 0, DType.F16), x, np.array(scale), None, work=Work.EXACT)


def test_no_elements() -> None:
    x = np.zeros((3, 0), np.float32)
    check_native(Cast(DType.I32), x)
    check_native(QuantizeLinear(0, 0, DType.U8), x, np.ones(3, np.float32), None, symbolic=True)
