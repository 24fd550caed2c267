"""Operations with awkward operands, against NumPy, on every target that runs here."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from dlc.backends.cpu import semantics as sem, types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.types import Value
from dlc.target import CpuTarget
from tests.backends.cpu.harness import IR_TYPES, Library, apply_lanes, each_target

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
RNG = np.random.default_rng(1)
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def specials(dtype: str) -> np.ndarray:
    info = np.iinfo(dtype)
    small = [v for v in (-7, -3, -2, -1, 0, 1, 2, 3, 7, 8, 63, 64) if v >= info.min]
    extreme = [info.min, info.min + 1, info.max - 1, info.max, info.max // 2]
    random = RNG.integers(info.min, info.max, 20, dtype=dtype, endpoint=True)
    return np.unique(np.array([*small, *extreme, *random.tolist()], dtype))


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    table = specials(dtype)
    x, y = zip(*itertools.product(table, table))
    return np.array(x, dtype), np.array(y, dtype)


Emit = Callable[..., Value]
BINARY: dict[str, tuple[Emit, Callable[..., np.ndarray]]] = {
    "floor_div": (sem.floor_div, np.floor_divide),
    "floor_mod": (sem.floor_mod, np.remainder),
    "trunc_mod": (sem.trunc_mod, np.fmod),
}


@each_target
@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("operation", list(BINARY))
def test_integer_division(target: CpuTarget, dtype: str, operation: str) -> None:
    emit, reference = BINARY[operation]
    x, y = pairs(dtype)
    signed = dtype.startswith("i")
    got = apply_lanes(target, lambda b, p, q: emit(b, p, q, signed=signed), x, y)
    np.testing.assert_array_equal(got, reference(x, y))


@each_target
@pytest.mark.parametrize("dtype", INTEGERS)
def test_truncated_division(target: CpuTarget, dtype: str) -> None:
    x, y = pairs(dtype)
    signed = dtype.startswith("i")
    got = apply_lanes(target, lambda b, p, q: sem.trunc_div(b, p, q, signed=signed), x, y)
    floor, exact = np.floor_divide(x, y), np.where(y == 0, 0, x - np.floor_divide(x, y) * y) == 0
    up = ~exact & ((x < 0) != (y < 0)) & (y != 0)
    np.testing.assert_array_equal(got, floor + up.astype(dtype))


def test_scalar_division_does_not_trap() -> None:
    from dlc.target import native

    module = Module(native())
    b = module.function("f", [("x", t.i64), ("y", t.i64)], t.i64)
    b.return_(sem.trunc_div(b, *b.params))
    f = Library(module).f
    low = -(2**63)
    cases = [(7, 2), (-7, 2), (7, 0), (low, -1), (low, 1)]
    assert [f(x, y) for x, y in cases] == [3, -3, 0, low, low]


@each_target
@pytest.mark.parametrize("dtype", INTEGERS)
def test_shifts(target: CpuTarget, dtype: str) -> None:
    x, count = pairs(dtype)
    signed = dtype.startswith("i")
    left = apply_lanes(target, sem.shift_left, x, count)
    np.testing.assert_array_equal(left, np.left_shift(x, count))
    right = apply_lanes(target, lambda b, p, q: sem.shift_right(b, p, q, signed=signed), x, count)
    np.testing.assert_array_equal(right, np.right_shift(x, count))


@each_target
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_integer_power(target: CpuTarget, dtype: str) -> None:
    x, y = pairs(dtype)
    signed = dtype.startswith("i")
    got = apply_lanes(target, lambda b, p, q: sem.integer_power(b, p, q, signed=signed), x, y)
    negative = np.less(y, 0)
    expected = np.power(x, np.where(negative, y.dtype.type(0), y))
    parity = np.where(y % 2 == 1, -1, 1)
    inverse = np.where(x == 1, 1, np.where(np.equal(x, -1), parity, 0))
    expected[negative] = inverse[negative].astype(dtype)
    np.testing.assert_array_equal(got, expected)


FLOATS = np.array(
    [
        *(0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 2.5, 127.5, -128.5, 255.4, 256.0, 300.7, -300.7, 32767.9, 65535.9),
        *(7e4, 2.0**31, -(2.0**31), 2.0**31 - 128, 2.0**32, 3e9, -3e9, 2.0**63, -(2.0**63), 1.8e19, 2.0**64),
        *(1e20, -1e20, np.nan, -np.nan, np.inf, -np.inf, 1e-40, -1e-40, 3.4e38),
    ],
    np.float32,
)


@each_target
@pytest.mark.parametrize("source", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_float_to_integer_wraps_as_numpy(target: CpuTarget, source: type, dtype: str) -> None:
    x = np.tile(FLOATS.astype(source), 8)  # long enough for NumPy's vectorised loop
    signed = dtype.startswith("i")
    wide = t.vector(16, IR_TYPES[dtype])
    got = apply_lanes(target, lambda b, v: sem.float_to_int(b, v, wide, signed=signed), x, out=dtype)
    np.testing.assert_array_equal(got[: len(FLOATS)], x.astype(dtype)[: len(FLOATS)])


@each_target
@pytest.mark.parametrize("dtype", INTEGERS)
def test_float_to_integer_saturates(target: CpuTarget, dtype: str) -> None:
    info, signed, wide = np.iinfo(dtype), dtype.startswith("i"), t.vector(16, IR_TYPES[dtype])
    got = apply_lanes(
        target,
        lambda b, v: sem.float_to_int(b, v, wide, signed=signed, mode=sem.CastMode.SATURATE),
        FLOATS,
        out=dtype,
    )
    rounded = apply_lanes(target, lambda b, v: sem.round_to_int(b, v, wide, signed=signed), FLOATS, out=dtype)
    for values, step in ((got, np.trunc), (rounded, np.rint)):
        expected = [
            0 if np.isnan(x) else info.min if x <= info.min else info.max if x >= info.max else int(step(x))
            for x in FLOATS.tolist()
        ]
        assert values.tolist() == expected


MIXED = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, 3e38], np.float32)


@each_target
def test_minima_and_maxima(target: CpuTarget) -> None:
    x, y = (np.array(v, np.float32) for v in zip(*itertools.product(MIXED, MIXED)))
    np.testing.assert_array_equal(apply_lanes(target, sem.maximum, x, y), np.maximum(x, y))
    np.testing.assert_array_equal(apply_lanes(target, sem.minimum, x, y), np.minimum(x, y))
    fast = apply_lanes(target, sem.maximum_fast, x, y)
    np.testing.assert_array_equal(fast, np.where(x > y, x, y))
    np.testing.assert_array_equal(apply_lanes(target, sem.minimum_fast, x, y), np.where(x < y, x, y))


@each_target
def test_float_remainders(target: CpuTarget) -> None:
    table = np.concatenate([MIXED, np.array([2.5, -2.5, 7.0, -7.0, 0.3, -0.3, 1e10], np.float32)])
    x, y = (np.array(v, np.float32) for v in zip(*itertools.product(table, table)))
    for emit, reference in ((sem.float_fmod, np.fmod), (sem.float_mod, np.remainder)):
        got, expected = apply_lanes(target, emit, x, y), reference(x, y)
        np.testing.assert_array_equal(got, expected)
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(got)[known], np.signbit(expected)[known])


@each_target
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float32"])
def test_sign(target: CpuTarget, dtype: str) -> None:
    x = MIXED if dtype == "float32" else specials(dtype)
    got = apply_lanes(target, lambda b, v: sem.sign(b, v, signed=dtype != "uint8"), x)
    np.testing.assert_array_equal(got, np.sign(x))


@each_target
def test_relu_and_clip_keep_nan(target: CpuTarget) -> None:
    np.testing.assert_array_equal(apply_lanes(target, sem.relu, MIXED), np.maximum(MIXED, 0))
    clipped = apply_lanes(target, lambda b, v: sem.clip(b, v, -0.5, 6.0), MIXED)
    np.testing.assert_array_equal(clipped, np.clip(MIXED, -0.5, 6.0))


@each_target
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_truth(target: CpuTarget, dtype: type) -> None:
    x = MIXED.astype(dtype)
    np.testing.assert_array_equal(apply_lanes(target, sem.is_true, x, out=np.uint8), x.astype(bool))


def same_or_nan(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal bits, but any NaN for a NaN."""
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    raw = f"u{expected.dtype.itemsize}"
    np.testing.assert_array_equal(got.view(raw)[~nan], expected.view(raw)[~nan])


def cast_to(dtype: type) -> Callable[[FunctionBuilder, Value], Value]:
    return lambda b, v: sem.cast_float(b, v, v.type.with_element(IR_TYPES[np.dtype(dtype).name]))


@each_target
@pytest.mark.parametrize("small", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("big", [np.float32, np.float64])
def test_small_floats_widen_exactly(target: CpuTarget, small: type, big: type) -> None:
    x = np.arange(65536, dtype=np.uint16).view(small)
    same_or_nan(apply_lanes(target, cast_to(big), x, out=big), x.astype(big))


@each_target
@pytest.mark.parametrize("small", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("big", [np.float32, np.float64])
def test_narrowing_rounds_to_nearest_even(target: CpuTarget, small: type, big: type) -> None:
    every = np.arange(65536, dtype=np.uint16).view(small).astype(big)
    with np.errstate(all="ignore"):
        middle = (every[:-1] + every[1:]) / 2
    tiny = np.float64(2.0) ** -40 if big is np.float64 else np.float32(2.0) ** -20
    x = np.concatenate([every, middle, middle * (1 + tiny), middle * (1 - tiny), FLOATS.astype(big)])
    x = np.concatenate([x, RNG.integers(0, 2**32, 50000, np.uint32).view(np.float32).astype(big)])
    same_or_nan(apply_lanes(target, cast_to(small), x, out=small), x.astype(small))


@each_target
def test_integers_to_floats(target: CpuTarget) -> None:
    sources = ["int32", "uint32", "int64", "uint64", "int8"]
    for source, out in itertools.product(sources, ["float32", "float64"]):
        x = specials(source)
        wide = t.vector(16, IR_TYPES[out])
        signed = source.startswith("i")
        got = apply_lanes(target, lambda b, v: sem.int_to_float(b, v, wide, signed=signed), x, out=out)  # noqa: B023
        np.testing.assert_array_equal(got, x.astype(out))
    x = np.arange(-70000, 70000, 3, np.int32)
    half = t.vector(16, t.f16)
    got = apply_lanes(target, lambda b, v: sem.int_to_float(b, v, half, signed=True), x, out=np.float16)
    np.testing.assert_array_equal(got, x.astype(np.float16))
