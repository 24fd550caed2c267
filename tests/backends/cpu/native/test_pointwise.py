"""Pointwise operators natively: special values, all types, odd and empty shapes, symbols, broadcasting."""

from __future__ import annotations

import itertools
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

from dlc.ir.ops import scalar
from dlc.ir.ops.pointwise import Activation, Binary, Clip, Compare, IsInf, Unary, Where
from dlc.verify.tolerances import Work
from tests.helpers.native import check_native

Array: TypeAlias = "np.ndarray[Any, Any]"

FLOATS = (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)
#: Results of these are one rounding away from exact: they have to be equal.
EXACT = frozenset({"abs", "neg", "sign", "floor", "ceil", "round", "sqrt", "is_nan", "relu", "reciprocal"})
SHAPES: list[tuple[int, ...]] = [(), (1,), (15,), (16,), (17,), (3, 5), (2, 0, 3), (2, 33, 4)]

INFINITY, NAN = float("inf"), float("nan")
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-40, -1e-40, 1e-45, 3.4e38, -3.4e38, INFINITY]
SPECIAL += [-INFINITY, NAN, 88.0, -88.0, 104.0, -104.0, 1e-8, -1e-8, 20.0, -20.0, 1e5, -1e5, 8388609.0, 2e9]


def special(dtype: Any) -> Array:
    """Numbers at which functions turn, of a floating-point type."""
    with np.errstate(over="ignore"):
        return np.array(SPECIAL, np.float64).astype(dtype)


def extremes(dtype: Any) -> Array:
    """Numbers around the ends and the middle of an integer type."""
    info = np.iinfo(dtype)
    numbers = [info.min, info.min + 1, info.max // 2, info.max - 1, info.max, 0, 1, 2, 3, 5, 7, 100]
    numbers += [n for n in (-1, -2, -3, -7, -100) if n >= info.min]
    return np.array(numbers, dtype)


def pairs(numbers: Array) -> tuple[Array, Array]:
    """Every pair of `numbers`."""
    left, right = zip(*itertools.product(numbers, repeat=2))
    return np.array(left, numbers.dtype), np.array(right, numbers.dtype)


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * 3).astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("fn", sorted(scalar.UNARY - {"not", "bitwise_not"}))
def test_unary_of_special_values(fn: str, dtype: Any) -> None:
    check_native(Unary(fn), special(dtype), work=Work.EXACT if fn in EXACT else Work.POINTWISE)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("fn", ["abs", "neg", "sign", "relu", "bitwise_not"])
def test_unary_of_integers(fn: str, dtype: Any) -> None:
    check_native(Unary(fn), extremes(dtype))


@pytest.mark.parametrize("fn", ["exp", "floor", "gelu"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(shape: tuple[int, ...], fn: str) -> None:
    for symbolic in (False, True):
        check_native(Unary(fn), random(*shape), symbolic=symbolic)


def test_bool() -> None:
    x = np.array([True, False, True])
    check_native(Unary("not"), x)
    for fn in ("and", "or", "xor"):
        check_native(Binary(fn), *pairs(np.array([False, True])))
    check_native(Compare("eq"), *pairs(np.array([False, True])))


ACTIVATIONS = [
    Activation("leaky_relu", 0.01),
    Activation("leaky_relu", -2.0),
    Activation("elu", 1.5),
    Activation("selu", 1.67326, 1.0507),
    Activation("celu", 0.7),
    Activation("hard_sigmoid", 0.2, 0.5),
    Activation("thresholded_relu", 1.0),
    Activation("swish", 1.3),
    Activation("shrink", 0.3, 0.6),
]


@pytest.mark.parametrize("op", ACTIVATIONS, ids=lambda op: f"{op.fn}{op.alpha}")
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
def test_activations_of_special_values(op: Activation, dtype: Any) -> None:
    check_native(op, special(dtype))


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: np.dtype(d).name)
def test_shrink_of_integers(dtype: Any) -> None:
    x = np.arange(0, 100, dtype=dtype) if np.dtype(dtype).kind == "u" else np.arange(-50, 50, dtype=dtype)
    check_native(Activation("shrink", 1.5, 3.5), x)
    check_native(Activation("shrink", 0.0, 0.5), extremes(dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("fn", ["add", "sub", "mul", "div", "max", "min", "fmod", "mod", "prelu"])
def test_binary_of_special_values(fn: str, dtype: Any) -> None:
    check_native(Binary(fn), *pairs(special(dtype)), work=Work.EXACT)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
def test_power_of_special_values(dtype: Any) -> None:
    check_native(Binary("pow"), *pairs(special(dtype)))


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, -0.5, 2.5])
def test_power_by_a_constant(exponent: float) -> None:
    for dtype in (np.float32, np.float16):
        check_native(Binary("pow"), special(dtype), np.array(exponent, dtype), constants=(1,))


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("fn", ["add", "sub", "mul", "div", "max", "min", "fmod", "mod", "pow", "prelu"])
def test_binary_of_integers(fn: str, dtype: Any) -> None:
    check_native(Binary(fn), *pairs(extremes(dtype)))


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("fn", ["bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"])
def test_bits_of_integers(fn: str, dtype: Any) -> None:
    check_native(Binary(fn), *pairs(extremes(dtype)))


@pytest.mark.parametrize("exponent", [np.float32, np.int64, np.uint8, np.float16])
@pytest.mark.parametrize("base", [np.float32, np.int32, np.int64, np.uint8, np.float16])
def test_power_of_other_types(base: Any, exponent: Any) -> None:
    x = np.array([0, 1, 2, 3, 5, 11, 15], base)
    y = np.array([0, 1, 2, 3, 1, 2, 0], exponent)
    check_native(Binary("pow"), x, y)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("fn", ["eq", "lt", "le", "gt", "ge"])
def test_comparisons_of_special_values(fn: str, dtype: Any) -> None:
    check_native(Compare(fn), *pairs(special(dtype)))


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("fn", ["eq", "lt", "le", "gt", "ge"])
def test_comparisons_of_integers(fn: str, dtype: Any) -> None:
    check_native(Compare(fn), *pairs(extremes(dtype)))


BROADCASTS = [
    ((3, 5), (5,)),
    ((4, 1, 17), (3, 1)),
    ((), (7,)),
    ((2, 3), (2, 3)),
    ((1, 1), (33, 2)),
    ((2, 0), (1, 1)),
]


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
def test_broadcasting(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    left, right = random(*shapes[0]), random(*shapes[1], seed=1)
    for symbolic in (False, True):
        check_native(Binary("sub"), left, right, symbolic=symbolic, work=Work.EXACT)
        check_native(Compare("lt"), left, right, symbolic=symbolic)
        check_native(Where(), left > 0, right, left, symbolic=symbolic)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
def test_clip_of_floats(dtype: Any) -> None:
    for low, high in ((-1.0, 1.0), (None, 0.5), (0.5, None), (2.0, -2.0), (None, None)):
        check_native(Clip(low, high), special(dtype), work=Work.EXACT)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda d: np.dtype(d).name)
def test_clip_of_integers(dtype: Any) -> None:
    for low, high in ((2, 5), (None, 3), (5, None), (7, 3)):
        check_native(Clip(low, high), extremes(dtype))


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("negative", [False, True])
def test_infinities(positive: bool, negative: bool) -> None:
    for dtype in (*FLOATS, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn):
        check_native(IsInf(positive, negative), special(dtype))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, np.bool_, ml_dtypes.float8_e4m3fn, ml_dtypes.int4])
def test_where_of_every_type(dtype: Any) -> None:
    x, y = random(5, 7).astype(dtype), random(5, 7, seed=1).astype(dtype)
    check_native(Where(), random(5, 1, seed=2) > 0, x, y, work=Work.EXACT)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fnuz])
def test_nan_of_small_floats(dtype: Any) -> None:
    check_native(Unary("is_nan"), np.arange(256, dtype=np.uint8).view(dtype))
