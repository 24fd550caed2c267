"""Reference evaluation of the pointwise functions in NumPy.

Functions that round once in hardware (add, sqrt, ...) compute in the operands' type, f16 and bf16 in float32.
Transcendental functions compute in float64 whatever the type, so that their results are correctly rounded in
practice and can judge an approximation. Formulas are applied literally where the standard gives one: what it
makes of infinities (silu(-inf) = -inf * 0 = NaN) is the meaning.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dlc.ir.dtypes import DType, Kind, from_numpy
from dlc.ir.operator import Array, compute_dtype
from dlc.ir.ops.conversion import convert

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf(x: Array) -> Array:
    """The error function, in float64."""
    return np.asarray(_erf(x), dtype=np.float64)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), in the type of `x`."""
    return np.asarray(1 / (1 + np.exp(-x)))


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) without overflow, in the type of `x`."""
    return np.asarray(np.logaddexp(0, x))


def gelu(x: Array) -> Array:
    """x/2 (1 + erf(x / sqrt 2)); by erfc, since 1 + erf cancels in the negative tail."""
    return np.asarray(x * 0.5 * np.asarray(_erfc(-x / math.sqrt(2)), dtype=np.float64))


def gelu_tanh(x: Array) -> Array:
    """x/2 (1 + tanh(t)), t = sqrt(2 / pi) (x + 0.044715 x^3); as x sigmoid(2t), which does not cancel."""
    return np.asarray(x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


_EXACT: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "neg": np.negative,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "sqrt": np.sqrt,
    "reciprocal": lambda x: np.asarray(1 / x),
    "relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "not": np.logical_not,
    "bitwise_not": np.bitwise_not,
    "is_nan": np.isnan,
}
_TRANSCENDENTAL: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": erf,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "softsign": lambda x: np.asarray(x / (1 + np.abs(x))),
    "silu": lambda x: np.asarray(x * sigmoid(x)),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "hard_swish": lambda x: np.asarray(x * np.clip(x / 6 + 0.5, 0, 1)),
    "mish": lambda x: np.asarray(x * np.tanh(softplus(x))),
}
UNARY = frozenset(_EXACT) | frozenset(_TRANSCENDENTAL)
"""The names of the unary functions."""


def unary(fn: str, x: Array) -> Array:
    """The function `fn` of UNARY on every element, in the type of `x` (is_nan: bool)."""
    with np.errstate(all="ignore"):
        if fn in _TRANSCENDENTAL:
            return convert(np.asarray(_TRANSCENDENTAL[fn](x.astype(np.float64))), from_numpy(x.dtype))
        result = np.asarray(_EXACT[fn](x.astype(compute_dtype(x.dtype), copy=False)))
        return result if fn == "is_nan" else convert(result, from_numpy(x.dtype))


def activation(fn: str, x: Array, alpha: float, beta: float) -> Array:
    """The activation `fn` (see pointwise.Activation) on every element, in the type of `x`."""
    with np.errstate(all="ignore"):
        return convert(np.asarray(_activation(fn, x.astype(np.float64), alpha, beta)), from_numpy(x.dtype))


def _activation(fn: str, x: Array, alpha: float, beta: float) -> Array:
    match fn:
        case "leaky_relu":
            return np.where(x < 0, alpha * x, x)
        case "elu":
            return np.where(x < 0, alpha * np.expm1(x), x)
        case "selu":
            return np.where(x > 0, beta * x, beta * alpha * np.expm1(x))
        case "celu":
            return np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(x / alpha))
        case "hard_sigmoid":
            return np.clip(alpha * x + beta, 0, 1)
        case "thresholded_relu":
            return np.where(x > alpha, x, 0)
        case "swish":
            return x * sigmoid(alpha * x)
        case "shrink":
            return np.where(x < -beta, x + alpha, np.where(x > beta, x - alpha, 0))
    raise ValueError(f"there is no activation {fn!r}")


def binary(fn: str, left: Array, right: Array) -> Array:
    """The function `fn` (see pointwise.Binary) on broadcast operands, in the type of `left`."""
    dtype = from_numpy(left.dtype)
    with np.errstate(all="ignore"):
        if fn == "pow":
            return convert(_power(left, right), dtype)
        wide = compute_dtype(left.dtype)
        return convert(_binary(fn, left.astype(wide, copy=False), right.astype(wide, copy=False)), dtype)


def _binary(fn: str, left: Array, right: Array) -> Array:
    integer = np.issubdtype(left.dtype, np.integer)
    match fn:
        case "div" if integer:
            return _integer_divide(left, right)
        case "shift_left" | "shift_right":
            return _shift(fn, left, right)
        case "prelu":
            return np.asarray(np.where(left < 0, left * right, left))
    return np.asarray(_UFUNCS[fn](left, right))


_UFUNCS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "mod": np.mod,
    "fmod": np.fmod,
    "max": np.maximum,
    "min": np.minimum,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "bitwise_and": np.bitwise_and,
    "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor,
}


def _integer_divide(left: Array, right: Array) -> Array:
    """The quotient truncated toward zero; 0 for a zero divisor, and the minimum by -1 wraps."""
    floor = np.floor_divide(left, right)
    inexact = floor * right != left
    quotient = floor + (inexact & ((left < 0) != (right < 0))).astype(left.dtype)
    return np.asarray(np.where(right == 0, left.dtype.type(0), quotient))


def _shift(fn: str, left: Array, amount: Array) -> Array:
    """Shifts; an amount outside [0, bits) moves every bit out, leaving zeros or copies of the sign."""
    bits = left.dtype.itemsize * 8
    outside = (amount < 0) | (amount >= bits)
    inside = np.where(outside, amount.dtype.type(0), amount)
    if fn == "shift_left":
        return np.asarray(np.where(outside, left.dtype.type(0), np.left_shift(left, inside)))
    rest = np.where(left < 0, -1, 0).astype(left.dtype)
    return np.asarray(np.where(outside, rest, np.right_shift(left, inside)))


def _power(base: Array, exponent: Array) -> Array:
    """base ** exponent. Of two integers: modulo the width of `base`; a negative exponent gives the truncated
    reciprocal, 0 for a zero base. Otherwise in float64, to be converted as by Cast."""
    if not (np.issubdtype(base.dtype, np.integer) and np.issubdtype(exponent.dtype, np.integer)):
        return float_power(base.astype(np.float64), exponent.astype(np.float64))
    negative = exponent < 0
    magnitude = np.where(negative, exponent.dtype.type(0), exponent).astype(np.uint64)
    power = np.power(base.astype(np.int64).astype(np.uint64), magnitude).astype(base.dtype)
    minus_one = base.dtype.type(1) - (exponent % 2 != 0).astype(base.dtype) * base.dtype.type(2)
    reciprocal = np.where(base == 1, base.dtype.type(1), base.dtype.type(0))
    if np.issubdtype(base.dtype, np.signedinteger):
        reciprocal = np.where(base == -1, minus_one, reciprocal)
    return np.asarray(np.where(negative, reciprocal, power))


def float_power(base: Array, exponent: Array) -> Array:
    """IEEE pow. NumPy takes the square root for an exponent of 0.5 that broadcasts: wrong at -0 and -inf."""
    root = np.sqrt(np.where(base == -np.inf, np.inf, base)) + 0.0
    return np.asarray(np.where(exponent == 0.5, root, np.power(base, exponent)))


def bit_cast(x: Array, to: DType) -> Array:
    """The bits of a contiguous array read as `to` of the same width; sub-byte types take one byte each."""
    if to.bits >= 8:
        return x.view(to.numpy)
    mask = (1 << to.bits) - 1
    bits = x.view(np.uint8) & mask
    if to.kind is Kind.SIGNED:
        sign = 1 << (to.bits - 1)
        return ((bits ^ sign).astype(np.int8) - np.int8(sign)).astype(to.numpy)
    return bits.view(to.numpy)
