"""Pointwise operators as expressions over the primitive functions of the kernel IR.

Formulas follow the ONNX standard's definitions; where a formula is rearranged it is to avoid overflow or
cancellation, and the comment says so. Operands are already in arithmetic type.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from dlc.ir.dtypes import DType
from dlc.lowering.draft import binary, cast, const, unary
from dlc.lowering.expr import Binary, CastMode, Compare, Const, Expr, Select


def compare(fn: str, left: Expr, right: Expr | float | int) -> Expr:
    """A comparison; a Python number becomes a constant of the left operand's type."""
    other = right if isinstance(right, Expr) else const(right, left.dtype)
    return Compare(DType.BOOL, fn, left, other)


def select(condition: Expr, then: Expr, otherwise: Expr) -> Expr:
    """`then` where the condition holds, else `otherwise`."""
    return Select(then.dtype, condition, then, otherwise)


def relu(x: Expr) -> Expr:
    """0 where x < 0, else x: keeps NaN and -0."""
    return select(compare("lt", x, 0), const(0, x.dtype), x)


def gelu(x: Expr) -> Expr:
    """x * (1 + erf(x / sqrt 2)) / 2."""
    return binary(
        "mul", binary("mul", x, 0.5), binary("add", unary("erf", binary("mul", x, math.sqrt(0.5))), 1.0)
    )


def gelu_tanh(x: Expr) -> Expr:
    """x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2."""
    cubic = binary("mul", binary("mul", x, x), x)
    inner = binary("mul", binary("add", x, binary("mul", cubic, 0.044715)), math.sqrt(2 / math.pi))
    return binary("mul", binary("mul", x, 0.5), binary("add", unary("tanh", inner), 1.0))


def softsign(x: Expr) -> Expr:
    """x / (1 + |x|)."""
    return binary("div", x, binary("add", unary("abs", x), 1.0))


def hard_sigmoid(x: Expr, alpha: float, beta: float) -> Expr:
    """max(0, min(1, alpha x + beta))."""
    return clip(binary("add", binary("mul", x, alpha), beta), 0.0, 1.0)


def clip(x: Expr, low: float | int | None, high: float | int | None) -> Expr:
    """x bounded; NaN stays."""
    if low is not None:
        x = select(compare("lt", x, low), const(low, x.dtype), x)
    if high is not None:
        x = select(compare("gt", x, high), const(high, x.dtype), x)
    return x


def expm1_times(x: Expr, scale: float) -> Expr:
    """scale * (exp(x) - 1)."""
    return binary("mul", binary("sub", unary("exp", x), 1.0), scale)


#: Unary operators that are not primitive functions of the kernel IR.
UNARY_FORMULAS: dict[str, Callable[[Expr], Expr]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": lambda x: binary("mul", x, unary("sigmoid", x)),
    "softsign": softsign,
    "hard_swish": lambda x: binary("mul", x, hard_sigmoid(x, 1 / 6, 0.5)),
    "mish": lambda x: binary("mul", x, unary("tanh", unary("softplus", x))),
    "bitwise_not": lambda x: unary("not", x),
}


def activation(fn: str, x: Expr, alpha: float, beta: float) -> Expr:
    """The parametrized activations of dlc.ir.ops.pointwise.Activation."""
    match fn:
        case "leaky_relu":
            return select(compare("lt", x, 0), binary("mul", x, alpha), x)
        case "elu":
            return select(compare("lt", x, 0), expm1_times(x, alpha), x)
        case "selu":
            return binary("mul", select(compare("le", x, 0), expm1_times(x, alpha), x), beta)
        case "celu":
            return select(compare("lt", x, 0), expm1_times(binary("div", x, alpha), alpha), x)
        case "hard_sigmoid":
            return hard_sigmoid(x, alpha, beta)
        case "thresholded_relu":
            return select(compare("gt", x, alpha), x, const(0, x.dtype))
        case "swish":
            return binary("mul", x, unary("sigmoid", binary("mul", x, alpha)))
        case "shrink" if x.dtype.is_integer:
            return cast(activation(fn, cast(x, DType.F64), alpha, beta), x.dtype, CastMode.WRAP)
        case "shrink":
            low = select(compare("lt", x, -beta), binary("add", x, alpha), const(0, x.dtype))
            return select(compare("gt", x, beta), binary("sub", x, alpha), low)
    raise KeyError(fn)


def binary_formula(fn: str, left: Expr, right: Expr) -> Expr:
    """The binary operators of dlc.ir.ops.pointwise.Binary."""
    match fn:
        case "prelu":
            return select(compare("lt", left, 0), binary("mul", left, right), left)
        case "bitwise_and" | "bitwise_or" | "bitwise_xor":
            return Binary(left.dtype, fn.removeprefix("bitwise_"), left, right)
        case "pow":
            return power(left, right)
    return Binary(left.dtype, fn, left, right)


def power(base: Expr, exponent: Expr) -> Expr:
    """base ** exponent in the base's type; small constant exponents become multiplications and roots."""
    if isinstance(exponent, Const):
        match float(exponent.value):
            case 1.0:
                return base
            case 2.0:
                return binary("mul", base, base)
            case 3.0:
                return binary("mul", binary("mul", base, base), base)
            case -1.0 if base.dtype.is_float:
                return unary("reciprocal", base)
    if base.dtype.is_float or exponent.dtype is base.dtype:
        return Binary(base.dtype, "pow", base, cast(exponent, base.dtype))
    # An integer base with another exponent type: computed in f64, which holds every 32-bit result exactly.
    wide = Binary(DType.F64, "pow", cast(base, DType.F64), cast(exponent, DType.F64))
    return cast(wide, base.dtype, CastMode.WRAP)
