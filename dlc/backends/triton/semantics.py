"""Scalar operations of the kernel IR as Triton source that means exactly the same, compiled and interpreted.

docs/kernel-ir.md says what they mean. Operands are texts of Triton tensors, or of scalars that are tensors
without axes, of the type that holds the elements (`REGISTER_TYPES`). A text stands as an operand of anything:
it is a name, a call or in parentheses, and so is each result.

What generated code relies on:

* Division, square root and reciprocal round to nearest: Triton's ``/`` and ``sqrt`` of f32 do not.
* Transcendental functions are libdevice's, within 4 ulp (CUDA C++ Programming Guide, Mathematical Functions).
  Triton's ``exp`` is ex2(x * log2(e)), whose error grows with the magnitude of x to some 40 ulp.
* Code has to be compiled with ``enable_reflect_ftz=False``: libdevice, and Triton's floor and ceil, flush
  denormals otherwise, so that ceil(1e-40) were 0.
"""

from __future__ import annotations

from dlc.backends.triton.conversions import cast
from dlc.backends.triton.elements import REGISTER_TYPES, NotInTriton, constant, register_type
from dlc.backends.triton.helpers import HELPERS, helpers_of
from dlc.ir.dtypes import DType, Kind
from dlc.lowering.verify_types import is_arithmetic

__all__ = [
    "HELPERS",
    "LIBDEVICE",
    "REGISTER_TYPES",
    "NotInTriton",
    "binary",
    "cast",
    "compare",
    "constant",
    "helpers_of",
    "register_type",
    "select",
    "unary",
]

#: Functions of one operand that are libdevice's.
_TRANSCENDENTAL = frozenset(
    "exp log log1p erf sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh".split()
)
#: The functions of libdevice that generated code calls.
LIBDEVICE = _TRANSCENDENTAL | {"fmod", "pow", "rint"}

_OPERATORS = {"add": "+", "sub": "-", "mul": "*"}
_BITWISE = {"and": "&", "or": "|", "xor": "^"}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def _has_bits(dtype: DType) -> bool:
    """Whether there are bitwise functions of `dtype`."""
    return dtype is DType.BOOL or (dtype.is_integer and is_arithmetic(dtype))


def unary(fn: str, dtype: DType, operand: str) -> str:
    """The function `fn` of expr.UNARY, of an operand of `dtype`."""
    if fn == "not" and _has_bits(dtype):
        # Triton 3.6 does not interpret ~ of unsigned numbers.
        ones = 2**dtype.bits - 1
        return f"({operand} ^ {ones})" if dtype.kind is Kind.UNSIGNED else f"(~{operand})"
    if is_arithmetic(dtype):
        text = _float_unary(fn, dtype, operand) if dtype.is_float else _integer_unary(fn, dtype, operand)
        if text is not None:
            return text
    raise NotInTriton(f"Triton has no {fn} of {dtype.text}")


def _float_unary(fn: str, dtype: DType, x: str) -> str | None:
    single = dtype is DType.F32
    if fn in _TRANSCENDENTAL:
        return f"libdevice.{fn}({x})"
    match fn:
        case "abs" | "floor" | "ceil":
            return f"tl.{fn}({x})"
        case "neg":
            return f"({x} * -1.0)"
        case "sign":
            return f"sign_of_float({x})"
        case "round":
            return f"libdevice.rint({x})"
        case "sqrt":
            return f"tl.sqrt_rn({x})" if single else f"tl.sqrt({x})"
        case "reciprocal":
            return f"tl.div_rn(1.0, {x})" if single else f"(1.0 / {x})"
        case "is_nan" | "softplus":
            return f"{fn}({x})"
        case "sigmoid":
            return f"sigmoid_{dtype.text}({x})"
    return None


def _integer_unary(fn: str, dtype: DType, x: str) -> str | None:
    match fn:
        case "abs":
            return f"tl.abs({x})" if dtype.kind is Kind.SIGNED else x
        case "neg":
            return f"(0 - {x})"
        case "sign":
            return f"sign_of_integer({x})"
    return None


def binary(fn: str, dtype: DType, left: str, right: str) -> str:
    """The function `fn` of expr.BINARY, of two operands of `dtype`."""
    if fn in _BITWISE and _has_bits(dtype):
        return f"({left} {_BITWISE[fn]} {right})"
    if is_arithmetic(dtype):
        if fn in _OPERATORS:
            return f"({left} {_OPERATORS[fn]} {right})"
        choose = _float_binary if dtype.is_float else _integer_binary
        text = choose(fn, dtype, left, right)
        if text is not None:
            return text
    raise NotInTriton(f"Triton has no {fn} of {dtype.text}")


def _float_binary(fn: str, dtype: DType, a: str, b: str) -> str | None:
    match fn:
        case "div":
            return f"tl.div_rn({a}, {b})" if dtype is DType.F32 else f"({a} / {b})"
        case "max" | "min":
            return f"tl.{fn}imum({a}, {b}, propagate_nan=tl.PropagateNan.ALL)"
        case "fmod" | "pow":
            return f"libdevice.{fn}({a}, {b})"
        case "mod":
            return f"mod_float({a}, {b})"
    return None


def _integer_binary(fn: str, dtype: DType, a: str, b: str) -> str | None:
    sign = "signed" if dtype.kind is Kind.SIGNED else "unsigned"
    match fn:
        case "max" | "min":
            return f"tl.{fn}imum({a}, {b})"
        case "div" | "fmod" | "pow" | "shift_right":
            return f"{fn}_{sign}({a}, {b})"
        case "mod":
            return f"mod_signed({a}, {b})" if sign == "signed" else f"fmod_unsigned({a}, {b})"
        case "shift_left":
            return f"shift_left({a}, {b})"
    return None


def compare(fn: str, dtype: DType, left: str, right: str) -> str:
    """The comparison `fn` of expr.COMPARE, of two operands of `dtype`, as a bool."""
    if not (is_arithmetic(dtype) or (dtype is DType.BOOL and fn in ("eq", "ne"))):
        raise NotInTriton(f"Triton does not compare {dtype.text}")
    return f"({left} {_COMPARISONS[fn]} {right})"


def select(condition: str, then: str, otherwise: str) -> str:
    """`then` where `condition`, else `otherwise`, which are of one type."""
    return f"tl.where({condition}, {then}, {otherwise})"
