"""Pointwise operators against Python's own arithmetic: special values, all small integers, broadcasting."""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops import scalar
from dlc.ir.ops.pointwise import Activation, Binary, BitCast, Cast, Clip, Compare, IsInf, Unary, Where
from dlc.ir.types import TensorType
from tests.helpers.operators import elementwise, run_one

SPECIAL = np.array(
    [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        5e-324,
        -5e-324,
        1e-310,
        1e-300,
        88.0,
        -88.0,
        710.0,
        -750.0,
        1e300,
        -1e300,
        1.7976931348623157e308,
        np.inf,
        -np.inf,
        np.nan,
    ]
)


def total(function: Callable[[float], float]) -> Callable[[float], float]:
    """`function` with IEEE results where Python's math raises."""

    def wrapped(x: float) -> float:
        if math.isnan(x):
            return x
        try:
            return function(x)
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return math.nan

    return wrapped


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else (math.exp(x) if x > -math.inf else 0.0)


def softplus(x: float) -> float:
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


ORACLES: dict[str, Callable[[float], float]] = {
    "abs": abs,
    "neg": lambda x: -x,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "floor": lambda x: x if math.isinf(x) else math.copysign(math.floor(x), x),
    "ceil": lambda x: x if math.isinf(x) else math.copysign(math.ceil(x), x),
    "round": lambda x: x if math.isinf(x) else math.copysign(round(x), x),
    "exp": math.exp,
    "log": lambda x: -math.inf if x == 0 else math.log(x),
    "sqrt": math.sqrt,
    "reciprocal": lambda x: math.copysign(math.inf, x) if x == 0 else 1 / x,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "sinh": lambda x: math.sinh(x) if abs(x) < 711 else math.copysign(math.inf, x),
    "cosh": math.cosh,
    "asinh": math.asinh,
    "acosh": math.acosh,
    "atanh": lambda x: math.copysign(math.inf, x) if abs(x) == 1 else math.atanh(x),
    "erf": math.erf,
    "tanh": math.tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: max(x, 0.0),
    "softplus": softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))),
    "hard_swish": lambda x: x * max(0.0, min(1.0, x / 6 + 0.5)),
    "mish": lambda x: x * math.tanh(softplus(x)),
}


@pytest.mark.parametrize("fn", sorted(ORACLES))
def test_unary_on_special_values(fn: str) -> None:
    wanted = elementwise(total(ORACLES[fn]), SPECIAL, dtype=DType.F64)
    got = run_one(Unary(fn), SPECIAL)
    # Relative error only: a result near zero must be right too.
    np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=0)
    zeros = wanted == 0
    if fn not in ("relu", "sign"):  # -0 there: either sign
        np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(wanted[zeros]))


def test_every_function_has_an_oracle() -> None:
    assert {*ORACLES, "not", "bitwise_not", "is_nan"} == scalar.UNARY


@pytest.mark.parametrize("fn", sorted(ORACLES))
@pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.BF16], ids=lambda t: t.text)
def test_narrow_floats_round_the_exact_result_once(fn: str, dtype: DType) -> None:
    x = np.array([0.0, -0.0, 0.1, -0.3, 0.7, -0.95, 1.3, -2.1, 3.3, 9.7, -11, np.inf, -np.inf, np.nan])
    x = x.astype(dtype.numpy)
    wide = elementwise(total(ORACLES[fn]), x.astype(np.float64), dtype=DType.F64).astype(np.float32)
    got = run_one(Unary(fn), x)
    np.testing.assert_array_equal(got.astype(np.float64), wide.astype(dtype.numpy).astype(np.float64))


@pytest.mark.parametrize("fn", sorted(scalar.UNARY))
def test_unary_of_nothing_and_of_a_scalar(fn: str) -> None:
    dtype = {"not": np.bool_, "bitwise_not": np.int8}.get(fn, np.float32)
    assert run_one(Unary(fn), np.zeros((0, 3), dtype)).shape == (0, 3)
    assert run_one(Unary(fn), np.ones((), dtype)).shape == ()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64])
def test_unary_of_integers_wraps(dtype: type) -> None:
    info = np.iinfo(dtype)
    x = np.array([info.min, info.min + 1, 0, 1, info.max], dtype)
    modulus = 1 << info.bits

    def wrap(n: int) -> int:
        return (n - info.min) % modulus + info.min

    numbers = [int(n) for n in x]
    assert run_one(Unary("neg"), x).tolist() == [wrap(-n) for n in numbers]
    assert run_one(Unary("abs"), x).tolist() == [wrap(abs(n)) for n in numbers]
    assert run_one(Unary("sign"), x).tolist() == [(n > 0) - (n < 0) for n in numbers]
    assert run_one(Unary("relu"), x).tolist() == [max(n, 0) for n in numbers]
    assert run_one(Unary("bitwise_not"), x).tolist() == [wrap(~n) for n in numbers]


def test_predicates_of_small_floats() -> None:
    x = np.array([0, 1, np.inf, -np.inf, np.nan])
    for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2):
        narrow = x.astype(dtype)
        assert run_one(Unary("is_nan"), narrow).tolist() == [False, False, False, False, True]
        assert run_one(IsInf(True, True), narrow).tolist() == [False, False, True, True, False]
        assert run_one(IsInf(True, False), narrow).tolist() == [False, False, True, False, False]
        assert run_one(IsInf(False, True), narrow).tolist() == [False, False, False, True, False]
        assert not run_one(IsInf(False, False), narrow).any()


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "leaky_relu": lambda x: 0.25 * x if x < 0 else x,
    "elu": lambda x: 0.25 * math.expm1(x) if x < 0 else x,
    "selu": lambda x: 1.5 * x if x > 0 else 1.5 * 0.25 * math.expm1(x),
    "celu": lambda x: max(0.0, x) + min(0.0, 0.25 * math.expm1(min(x / 0.25, 1.0))),
    "hard_sigmoid": lambda x: max(0.0, min(1.0, 0.25 * x + 1.5)),
    "thresholded_relu": lambda x: x if x > 0.25 else 0.0,
    "swish": lambda x: x * sigmoid(0.25 * x),
    "shrink": lambda x: x + 0.25 if x < -1.5 else x - 0.25 if x > 1.5 else 0.0,
}


@pytest.mark.parametrize("fn", sorted(ACTIVATIONS))
def test_activations_on_special_values(fn: str) -> None:
    wanted = elementwise(ACTIVATIONS[fn], SPECIAL[:-1], dtype=DType.F64)
    got = run_one(Activation(fn, 0.25, 1.5), SPECIAL)
    np.testing.assert_allclose(got[:-1], wanted, rtol=1e-13, atol=0)
    # A comparison with NaN is false, which leads thresholded_relu and shrink to "otherwise 0".
    assert np.isnan(got[-1]) != (fn in ("thresholded_relu", "shrink"))
    assert run_one(Activation(fn, 0.25, 1.5), np.zeros((2, 0), np.float16)).shape == (2, 0)


def test_shrink_of_integers() -> None:
    x = np.array([-128, -2, -1, 0, 1, 2, 127], np.int8)
    assert run_one(Activation("shrink", 1.0, 1.0), x).tolist() == [-127, -1, 0, 0, 0, 1, 126]


def wrap8(n: int) -> int:
    return (n + 128) % 256 - 128


def truncated(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def shifted_left(a: int, b: int) -> int:
    return a << b if 0 <= b < 8 else 0


def shifted_right(a: int, b: int) -> int:
    return a >> b if 0 <= b < 8 else (-1 if a < 0 else 0)


def power(a: int, b: int) -> int:
    if b >= 0:
        return int(pow(a, b, 256))
    return truncated(1, a**-b)


INTEGER_ORACLES: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": truncated,
    "mod": lambda a, b: a % b if b else 0,
    "fmod": lambda a, b: a - truncated(a, b) * b if b else 0,
    "pow": power,
    "max": max,
    "min": min,
    "bitwise_and": lambda a, b: a & b,
    "bitwise_or": lambda a, b: a | b,
    "bitwise_xor": lambda a, b: a ^ b,
    "shift_left": shifted_left,
    "shift_right": shifted_right,
    "prelu": lambda a, b: a * b if a < 0 else a,
}


@pytest.mark.parametrize("fn", sorted(INTEGER_ORACLES))
def test_every_pair_of_bytes(fn: str) -> None:
    signed = np.arange(-128, 128).astype(np.int8)
    wanted = [[wrap8(INTEGER_ORACLES[fn](a, b)) for b in range(-128, 128)] for a in range(-128, 128)]
    np.testing.assert_array_equal(run_one(Binary(fn), signed[:, None], signed), np.array(wanted, np.int8))
    unsigned = np.arange(256).astype(np.uint8)
    wanted = [[INTEGER_ORACLES[fn](a, b) % 256 for b in range(256)] for a in range(256)]
    np.testing.assert_array_equal(
        run_one(Binary(fn), unsigned[:, None], unsigned), np.array(wanted, np.uint8)
    )


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_extremes_of_wide_integers(dtype: type) -> None:
    info = np.iinfo(dtype)
    low = np.array(info.min, dtype)
    assert run_one(Binary("div"), low, np.array(-1, dtype)) == info.min
    assert run_one(Binary("mod"), low, np.array(-1, dtype)) == 0
    assert run_one(Binary("fmod"), low, np.array(-1, dtype)) == 0
    assert run_one(Binary("div"), low, np.array(0, dtype)) == 0
    assert run_one(Binary("add"), np.array(info.max, dtype), np.array(1, dtype)) == info.min
    wrapped = (3**40 - info.min) % (1 << info.bits) + info.min
    assert run_one(Binary("pow"), np.array(3, dtype), np.array(40, np.uint8)) == wrapped


PAIRS = [0.0, -0.0, 1.0, -1.0, 3.5, -3.5, 1e-310, 1e308, -1e308, math.inf, -math.inf, math.nan]


def float_mod(a: float, b: float) -> float:
    return a % b if b else math.nan


def fmod(a: float, b: float) -> float:
    try:
        return math.fmod(a, b)
    except ValueError:
        return math.nan


def quotient(a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def real_power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:
        return math.nan if a else (math.copysign(math.inf, a) if b % 2 == 1 else math.inf)


def propagating(choose: Callable[[float, float], float]) -> Callable[[float, float], float]:
    return lambda a, b: math.nan if math.isnan(a) or math.isnan(b) else choose(a, b)


FLOAT_ORACLES: dict[str, Callable[[float, float], float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": quotient,
    "pow": real_power,
    "mod": float_mod,
    "fmod": fmod,
    "max": propagating(max),
    "min": propagating(min),
    "prelu": lambda a, b: a * b if a < 0 else a,
}


@pytest.mark.parametrize("fn", sorted(FLOAT_ORACLES))
def test_every_pair_of_special_floats(fn: str) -> None:
    x = np.array(PAIRS)
    wanted = elementwise(FLOAT_ORACLES[fn], x[:, None], x, dtype=DType.F64)
    np.testing.assert_allclose(run_one(Binary(fn), x[:, None], x), wanted, rtol=1e-14, atol=0)


@pytest.mark.parametrize("fn", ["add", "sub", "mul", "div", "max", "min"])
@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16], ids=lambda t: t.text)
def test_narrow_arithmetic_rounds_once(fn: str, dtype: DType) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(2000).astype(dtype.numpy) for _ in range(2))
    wide = elementwise(FLOAT_ORACLES[fn], a.astype(np.float64), b.astype(np.float64), dtype=DType.F64)
    wanted = wide.astype(np.float16) if dtype is DType.F16 else wide.astype(np.float32).astype(dtype.numpy)
    np.testing.assert_array_equal(run_one(Binary(fn), a, b), wanted)


def test_power_of_mixed_types_has_the_type_of_the_base() -> None:
    base = np.array([-2, 0, 2, 3], np.int32)
    assert run_one(Binary("pow"), base, np.array(2.0, np.float32)).tolist() == [4, 0, 4, 9]
    assert run_one(Binary("pow"), base, np.array(0.5, np.float64)).tolist() == [-(2**31), 0, 1, 1]
    assert run_one(Binary("pow"), base, np.array(-1.0, np.float32)).tolist() == [0, -(2**31), 0, 0]
    got = run_one(Binary("pow"), np.array([1.5, 2.0], np.float16), np.array([3, -2], np.int64))
    assert got.dtype == np.float16 and got.tolist() == [3.375, 0.25]


def test_boolean_functions() -> None:
    x, y = np.array([[False], [True]]), np.array([False, True])
    assert run_one(Binary("and"), x, y).tolist() == [[False, False], [False, True]]
    assert run_one(Binary("or"), x, y).tolist() == [[False, True], [True, True]]
    assert run_one(Binary("xor"), x, y).tolist() == [[False, True], [True, False]]
    assert run_one(Unary("not"), y).tolist() == [True, False]


COMPARISONS = {"eq": operator.eq, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}


@pytest.mark.parametrize("fn", sorted(COMPARISONS))
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8])
def test_comparisons(fn: str, dtype: type) -> None:
    numbers: list[float] = [0, 1, 2, 250] if dtype is np.uint8 else [-1, 0, 1, 3]
    if dtype not in (np.int64, np.uint8):
        numbers += [math.nan, math.inf]
    x = np.array(numbers).astype(dtype)
    wanted = [[COMPARISONS[fn](a, b) for b in numbers] for a in numbers]
    assert run_one(Compare(fn), x[:, None], x).tolist() == wanted


def test_equality_of_bools_and_strings() -> None:
    assert run_one(Compare("eq"), np.array([True, False]), np.array(True)).tolist() == [True, False]
    text = np.array(["a", "b"], dtype=object)
    assert run_one(Compare("eq"), text, text[::-1]).tolist() == [False, False]


def test_clip() -> None:
    x = np.array([-np.inf, -1, -0.0, 0.5, 3, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(run_one(Clip(0.0, 1.0), x), np.float32([0, 0, 0, 0.5, 1, 1, np.nan]))
    np.testing.assert_array_equal(
        run_one(Clip(None, 1.0), x), np.float32([-np.inf, -1, 0, 0.5, 1, 1, np.nan])
    )
    assert run_one(Clip(2.0, -2.0), x)[:-1].tolist() == [-2.0] * 6
    integers = np.array([-(2**63), 2**63 - 1, 5], np.int64)
    assert run_one(Clip(-(2**62) - 1, 2**62 + 1), integers).tolist() == [-(2**62) - 1, 2**62 + 1, 5]
    assert run_one(Clip(), integers).tolist() == integers.tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.5, np.nan]),
        np.array([1, 2], np.uint8),
        np.array([True, False]),
        np.array(["a", "b"], dtype=object),
        np.array([1j, 2]),
        np.array([1, 2]).astype(ml_dtypes.int4),
    ],
)
def test_where_of_any_type(array: np.ndarray) -> None:
    got = run_one(Where(), np.array([[True], [False]]), array, array[::-1].copy())
    np.testing.assert_array_equal(got, np.stack([array, array[::-1]]))


@pytest.mark.parametrize(
    "source", [dtype for dtype in DType if dtype is not DType.STRING], ids=lambda t: t.text
)
def test_bit_casts_are_inverse(source: DType) -> None:
    stored = max(source.bits, 8)
    raw = np.arange(256, dtype=np.uint8).reshape(-1, stored // 8)
    bits = raw.reshape(-1).view(source.numpy) if source.bits >= 8 else None
    for to in (dtype for dtype in DType if dtype.bits == source.bits):
        if source.bits < 8:
            codes = np.arange(1 << source.bits, dtype=np.uint8)
            unsigned = {4: DType.U4, 2: DType.U2}[source.bits]
            bits = run_one(BitCast(source), codes.astype(unsigned.numpy))
        if source is DType.BOOL or to is DType.BOOL:
            bits = (np.arange(8) % 2).astype(source.numpy) if source.bits == 8 else bits
        assert bits is not None
        there = run_one(BitCast(to), bits)
        back = run_one(BitCast(source), there)
        assert back.tobytes() == bits.tobytes()


SHAPES = npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0)


@given(SHAPES, st.sampled_from(["add", "max", "pow", "prelu"]))
@settings(max_examples=60)
def test_binary_broadcasts_as_numpy(shapes: npst.BroadcastableShapes, fn: str) -> None:
    left, right = (
        np.arange(math.prod(shape), dtype=np.float64).reshape(shape) for shape in shapes.input_shapes
    )
    got = run_one(Binary(fn), left, right)
    wanted = elementwise(FLOAT_ORACLES[fn], left, right, dtype=DType.F64)
    assert got.shape == shapes.result_shape
    np.testing.assert_allclose(got, wanted, rtol=1e-14)


@given(npst.mutually_broadcastable_shapes(num_shapes=3, max_dims=4, max_side=3, min_side=0))
@settings(max_examples=40)
def test_where_broadcasts_three_operands(shapes: npst.BroadcastableShapes) -> None:
    condition, x, y = (np.arange(math.prod(shape)).reshape(shape) for shape in shapes.input_shapes)
    got = run_one(Where(), condition % 2 == 0, x, -y)
    np.testing.assert_array_equal(got, np.where(condition % 2 == 0, x, -y))


def test_symbolic_shapes_broadcast() -> None:
    n, m = Symbol("n"), Symbol("m")

    def shape(left: tuple, right: tuple) -> tuple:
        (result,) = Binary("add").infer([TensorType(DType.F32, left), TensorType(DType.F32, right)])
        return result.shape

    assert shape((n, 4), (1, 4)) == (n, 4)
    assert shape((n, 4), ()) == (n, 4)
    assert shape((n,), (n,)) == (n,)
    assert shape((3, 1), (n,)) == (3, n)
    assert shape((n,), (7,)) == (7,)
    assert shape((n,), (m,))[0] not in (n, m)


F32, I32, BOOL, F8 = (TensorType(dtype, (2,)) for dtype in (DType.F32, DType.I32, DType.BOOL, DType.F8E5M2))


@pytest.mark.parametrize(
    ("op", "operands", "reason"),
    [
        (Unary("exp"), [I32], "exp must be of one of the types"),
        (Unary("not"), [F32], "must be of one of the types bool"),
        (Unary("exp"), [F8], "must be of one of the types"),
        (Unary("exp"), [F32, F32], "2 operands are given where 1 are needed"),
        (Unary("exp"), [None], "operand 0 must be a tensor, but is absent"),
        (Binary("add"), [F32, I32], "must be of one element type, but are f32, i32"),
        (Binary("add"), [BOOL, BOOL], "left operand of add"),
        (Binary("and"), [F32, F32], "left operand of and"),
        (Binary("shift_left"), [F32, F32], "left operand of shift_left"),
        (Binary("add"), [F32, TensorType(DType.F32, (3,))], "extents 2 and 3 of axis -1 do not broadcast"),
        (Compare("lt"), [BOOL, BOOL], "the operands of lt must"),
        (Compare("eq"), [BOOL, F32], "one element type"),
        (Where(), [F32, F32, F32], "the condition must"),
        (Where(), [BOOL, F32, I32], "the choices"),
        (Clip(0, 1), [BOOL], "the operand must"),
        (BitCast(DType.I16), [F32], "the bits of f32 cannot be read as i16"),
        (Cast(DType.F32), [TensorType(DType.C64, ())], "c64 cannot be converted to f32"),
        (IsInf(), [I32], "the operand must"),
    ],
)
def test_unfit_operands_are_refused(op: Unary, operands: list, reason: str) -> None:
    with pytest.raises(InferenceError, match=reason):
        op.infer(operands)


@pytest.mark.parametrize(
    "make",
    [lambda: Unary("sine"), lambda: Binary("plus"), lambda: Compare("ne"), lambda: Activation("relu6")],
)
def test_unknown_functions_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="there is no"):
        make()


def test_gelu_keeps_its_negative_tail() -> None:
    x = np.array([-5.0, -10.0, -20.0])
    got = run_one(Unary("gelu"), x)
    # Leading terms of the expansion of the normal distribution's tail.
    tail = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(got, -tail * (1 - 1 / x**2 + 3 / x**4 - 15 / x**6 + 105 / x**8), rtol=3e-4)
    assert cmath.isfinite(complex(got[-1])) and (got < 0).all()
