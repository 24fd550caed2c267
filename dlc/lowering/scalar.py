"""The functions of value expressions in NumPy: what the kernel evaluator computes with.

Operands are arrays of the type in which the evaluator works. Functions that hardware rounds once (add, sqrt)
are computed in that type, transcendental ones in float64 and rounded to it. Written from docs/kernel-ir.md,
apart from the graph evaluator and from code generation, so that the three can judge each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dlc.errors import InternalError
from dlc.ir.dtypes import DType, Kind
from dlc.ir.operator import Array
from dlc.ir.ops.conversion import convert as convert_as_onnx
from dlc.ir.ops.scalar import bit_cast, float_power
from dlc.lowering.expr import CastMode

_erf = np.frompyfunc(math.erf, 1, 1)

_EXACT: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "neg": np.negative,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "is_nan": np.isnan,
}
_TRANSCENDENTAL: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "sigmoid": lambda x: np.asarray(1 / (1 + np.exp(-x))),
    "softplus": lambda x: np.asarray(np.logaddexp(0, x)),
    "erf": lambda x: np.asarray(_erf(x), dtype=np.float64),
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
}
_PLAIN: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "mod": np.mod,
    "fmod": np.fmod,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def unary(fn: str, x: Array) -> Array:
    """The function `fn` of expr.UNARY."""
    if fn == "not":
        return np.asarray(np.logical_not(x) if x.dtype == np.bool_ else np.bitwise_not(x))
    if fn in _EXACT:
        return np.asarray(_EXACT[fn](x))
    return np.asarray(_TRANSCENDENTAL[fn](x.astype(np.float64))).astype(x.dtype)


def binary(fn: str, left: Array, right: Array) -> Array:
    """The function `fn` of expr.BINARY; both operands are of one type, which is the result's."""
    if fn in _PLAIN:
        return np.asarray(_PLAIN[fn](left, right))
    integer = left.dtype.kind in "iu"
    match fn:
        case "div":
            return _truncated_quotient(left, right) if integer else np.asarray(np.divide(left, right))
        case "pow":
            if integer:
                return _integer_power(left, right)
            return float_power(left.astype(np.float64), right.astype(np.float64)).astype(left.dtype)
        case "shift_left" | "shift_right":
            return _shift(fn == "shift_left", left, right)
    raise InternalError(f"there is no binary function {fn!r}")


def compare(fn: str, left: Array, right: Array) -> Array:
    """The comparison `fn` of expr.COMPARE."""
    return np.asarray(_COMPARISONS[fn](left, right))


def _truncated_quotient(left: Array, right: Array) -> Array:
    """left / right without fraction; 0 for a divisor of 0. Floor division is one less where signs differ."""
    floor = np.floor_divide(left, right)
    above = (floor * right != left) & ((left < 0) != (right < 0))
    return np.asarray(np.where(right == 0, left.dtype.type(0), floor + above.astype(left.dtype)))


def _integer_power(base: Array, exponent: Array) -> Array:
    """base ** exponent modulo the width; of a negative exponent the truncated value, 0 for base 0."""
    base, exponent = np.broadcast_arrays(base, exponent)
    bits = base.dtype.itemsize * 8

    def power(b: int, n: int) -> int:
        if n < 0:
            return 0 if b not in (1, -1) else b if n % 2 else 1
        number = pow(b, n, 1 << bits)
        return number - (1 << bits) if base.dtype.kind == "i" and number >> (bits - 1) else number

    numbers = [power(int(b), int(n)) for b, n in zip(base.reshape(-1), exponent.reshape(-1))]
    return np.array(numbers, dtype=base.dtype).reshape(base.shape)


def _shift(to_left: bool, left: Array, amount: Array) -> Array:
    bits = left.dtype.itemsize * 8
    outside = (amount < 0) | (amount >= bits)
    inside = np.where(outside, amount.dtype.type(0), amount)
    if to_left:
        return np.asarray(np.where(outside, left.dtype.type(0), np.left_shift(left, inside)))
    signs = np.right_shift(left, left.dtype.type(bits - 1)) if left.dtype.kind == "i" else left * 0
    return np.asarray(np.where(outside, signs, np.right_shift(left, inside)))


def convert(x: Array, source: DType, to: DType, mode: CastMode) -> Array:
    """`x`, whose elements are `source` numbers, as `to` (see CastMode)."""
    if mode is CastMode.BITS:
        return bit_cast(np.ascontiguousarray(x).reshape(x.shape), to)
    if to is DType.BOOL:
        return np.asarray(x != 0)
    if to.is_float:
        return convert_as_onnx(x, to, saturate=mode is CastMode.SATURATE)
    if source.is_float:
        if mode is CastMode.WRAP:
            return convert_as_onnx(x, to)
        return _nearest_integer(np.trunc(x) if mode is CastMode.SATURATE else np.rint(x), to)
    if source.is_integer and source.bits < 8:
        x = x.astype(np.int8)  # ml_dtypes has no conversions between its own integers
    if mode is CastMode.SATURATE and source is not DType.BOOL:
        low, high = integer_range(to)
        least, most = integer_range(source)
        x = np.clip(x, max(low, least), min(high, most))
    return np.asarray(x.astype(to.numpy))


def _nearest_integer(whole: Array, to: DType) -> Array:
    """Floats without fraction as integers; the nearest number of the type where they are out of range."""
    low, high = integer_range(to)
    wide = whole.astype(np.float64)
    above, below = wide >= float(high + 1), wide < float(low)
    inside = ~(above | below | np.isnan(wide))
    carrier = np.uint64 if to is DType.U64 else np.int64
    numbers = np.where(inside, wide, 0.0).astype(carrier)
    numbers = np.where(above, carrier(high), np.where(below, carrier(low), numbers))
    return np.asarray(numbers.astype(to.numpy))


def integer_range(dtype: DType) -> tuple[int, int]:
    """The smallest and the largest number of an integer type."""
    if dtype.kind is Kind.SIGNED:
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1
