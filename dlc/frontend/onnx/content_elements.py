"""Arithmetic on single elements of contents: integers as Dims, truth values, and floats that stay exact.

Every function returns None where the result is not known, and None for an operand that is None. Exporters
compute sizes in float, as in ``floor(height * 0.5)``. Such an element is a :class:`Ratio` as long as the
float computation gives what exact arithmetic gives, for extents below a bound that becomes a guard of the
graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from dlc.ir.dims import (
    Dim,
    DimExpr,
    Guard,
    Relation,
    ceildiv,
    exact_quotient,
    floordiv,
    is_nonnegative,
    maximum,
    minimum,
    mod,
    to_text,
)
from dlc.ir.dtypes import DType, Kind

#: Constants that multiply an extent have at most this numerator and denominator.
_LARGEST_FACTOR = 256
_LARGEST_POWER = 4


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The float nearest to ``numerator / denominator``; `rounded` unless the quotient is itself a float."""

    numerator: Dim
    denominator: int
    rounded: bool = False


Element: TypeAlias = "Dim | bool | Fraction | Ratio | None"


def is_integer(element: Element) -> bool:
    """Whether `element` is an integer, known or symbolic."""
    return type(element) is int or isinstance(element, DimExpr)


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """The functions on elements of one operator: `dtype` is that of its operands, `assume` takes guards."""

    dtype: DType
    assume: Callable[[Guard], bool]

    def binary(self, fn: str, left: Element, right: Element) -> Element:
        """`fn` of a Binary operator."""
        if left is None or right is None:
            return None
        if isinstance(left, bool) and isinstance(right, bool):
            return {"and": left and right, "or": left or right, "xor": left is not right}.get(fn)
        if is_integer(left) and is_integer(right):
            result = _integer_binary(fn, left, right)  # type: ignore[arg-type]
            return self._floor_quotient(left, right) if result is None and fn == "div" else result  # type: ignore[arg-type]
        if isinstance(left, (Fraction, Ratio)) and isinstance(right, (Fraction, Ratio)):
            return self._float_binary(fn, left, right)
        return None

    def _floor_quotient(self, left: Dim, right: Dim) -> Dim | None:
        """left / right, which rounds towards zero, where `left` is not known to be at least 0.

        If its sign is open, extents are meant, so it is assumed not to be negative.
        """
        if not isinstance(right, int) or right <= 0:
            return None
        if Guard(Relation.LE, left, 0, "").known():
            return -1 * floordiv(-1 * left, right)
        message = f"{to_text(left)} is divided by {right} to give an extent and must not be negative"
        return floordiv(left, right) if self.assume(Guard(Relation.LE, 0, left, message)) else None

    def unary(self, fn: str, x: Element) -> Element:
        """`fn` of a Unary operator."""
        if isinstance(x, bool):
            return not x if fn == "not" else None
        match fn:
            case "neg":
                return self.binary("mul", x, -1 if is_integer(x) else Fraction(-1))
            case "abs":
                return self.binary("max", x, self.unary("neg", x))
            case "relu":
                return self.binary("max", x, 0 if is_integer(x) else Fraction(0))
            case "floor" | "ceil" if isinstance(x, (Fraction, Ratio)):
                whole = self._rounded_to_integer(x, up=fn == "ceil")
                return None if whole is None else self._ratio(whole, 1)
        return None

    def compare(self, fn: str, left: Element, right: Element) -> bool | None:
        """`fn` of a Compare operator, where the ranges of the symbols decide it."""
        if fn in ("gt", "ge"):
            return self.compare({"gt": "lt", "ge": "le"}[fn], right, left)
        if isinstance(left, bool) and isinstance(right, bool):
            return left is right if fn == "eq" else None
        if isinstance(left, (Fraction, Ratio)) and isinstance(right, (Fraction, Ratio)):
            left, right = _common_numerators(left, right)
        if not is_integer(left) or not is_integer(right):
            return None
        relation = {"eq": Relation.EQ, "lt": Relation.LT, "le": Relation.LE}[fn]
        return Guard(relation, left, right, "").known()  # type: ignore[arg-type]

    def cast(self, x: Element, to: DType) -> Element:
        """The element after conversion to `to`."""
        if x is None or (to in (DType.BOOL,) and not isinstance(x, (bool, int))):
            return None
        if to is DType.BOOL:
            return bool(x)
        if isinstance(x, bool):
            x = int(x)
        if to.is_integer:
            if isinstance(x, Fraction):  # towards zero
                x = int(x)
            whole = self._rounded_to_integer(x) if isinstance(x, Ratio) else x
            return whole if fits(whole, to) else None
        if to not in (DType.F32, DType.F64):
            return None
        target = Arithmetic(to, self.assume)
        if isinstance(x, Ratio):
            return None if x.rounded and to is not self.dtype else x
        return target._ratio(x, 1) if not isinstance(x, Fraction) else target._representable(x)

    # --- floats

    def _representable(self, x: Fraction) -> Fraction | None:
        """`x` if it is a float of this type."""
        return x if Fraction(float(self.dtype.numpy.type(float(x)))) == x else None

    def _ratio(self, numerator: Dim, denominator: int, rounded: bool = False) -> Element:
        """The float nearest to ``numerator / denominator``."""
        if isinstance(numerator, int):
            exact = Fraction(numerator, denominator)
            return self._representable(exact) if not rounded else None
        while denominator % 2 == 0 and (half := exact_quotient(numerator, 2)) is not None:
            numerator, denominator = half, denominator // 2
        whole = exact_quotient(numerator, denominator)
        if whole is not None:
            return Ratio(whole, 1)
        return Ratio(numerator, denominator, rounded)

    def _float_binary(self, fn: str, left: Fraction | Ratio, right: Fraction | Ratio) -> Element:
        if fn == "div":
            return self._float_division(left, right)
        if not _is_exact(left) or not _is_exact(right):
            return None
        a, b = _parts(left), _parts(right)
        match fn:
            case "mul":
                return self._ratio(a[0] * b[0], a[1] * b[1])
            case "add":
                return self._ratio(a[0] * b[1] + b[0] * a[1], a[1] * b[1])
            case "sub":
                return self._ratio(a[0] * b[1] - b[0] * a[1], a[1] * b[1])
            case "max" | "min":
                x, y = _common_numerators(left, right)
                return self._ratio((maximum if fn == "max" else minimum)(x, y), a[1] * b[1])
        return None

    def _float_division(self, left: Fraction | Ratio, right: Fraction | Ratio) -> Element:
        if not _is_exact(left) or not _is_exact(right):
            return None
        (a, b), (c, d) = _parts(left), _parts(right)
        numerator, denominator = a * d, b * c
        if isinstance(denominator, DimExpr):
            # A quotient of two extents is known when one is a multiple of the other; at extent 0 it is not
            # used.
            for high, low, invert in ((numerator, denominator, False), (denominator, numerator, True)):
                factor = exact_quotient(high, low) if isinstance(low, DimExpr) else None
                if isinstance(factor, int) and factor > 0:
                    kind = self.dtype.numpy.type
                    return Fraction(float(kind(1) / kind(factor))) if invert else Fraction(factor)
            return None
        if denominator <= 0:
            return None
        if denominator & (denominator - 1) == 0:
            return self._ratio(numerator, denominator)
        # One correctly rounded division of integers: still on the right side of every integer.
        return self._ratio(numerator, denominator, rounded=True) if b == 1 else None

    def _rounded_to_integer(self, x: Fraction | Ratio, up: bool = False) -> Dim | None:
        """The integer below or above x; below is also truncation, as x must not be negative unless exact."""
        if isinstance(x, Fraction):
            return -(-x.numerator // x.denominator) if up else x.numerator // x.denominator
        if not is_nonnegative(x.numerator):
            return None
        bound = 1 << (22 if self.dtype is DType.F32 else 51)
        message = f"an extent is computed in {self.dtype.text}, which is exact up to {bound} only"
        if not self.assume(Guard(Relation.LE, x.numerator, bound, message)):
            return None
        return (ceildiv if up else floordiv)(x.numerator, x.denominator)


def _parts(x: Fraction | Ratio) -> tuple[Dim, int]:
    return x.numerator, x.denominator


def _is_exact(x: Fraction | Ratio) -> bool:
    """Whether arithmetic may go on with x: an extent times a short constant, or such a constant."""
    if isinstance(x, Ratio):
        return not x.rounded
    return abs(x.numerator) <= _LARGEST_FACTOR and x.denominator <= _LARGEST_FACTOR


def _common_numerators(left: Fraction | Ratio, right: Fraction | Ratio) -> tuple[Dim, Dim]:
    """The numerators over the product of both denominators."""
    (a, b), (c, d) = _parts(left), _parts(right)
    return a * d, c * b


def _integer_binary(fn: str, left: Dim, right: Dim) -> Dim | None:
    """`fn` of two integers, symbolic or not; None where their signs would have to be known."""
    match fn:
        case "add":
            return left + right
        case "sub":
            return left - right
        case "mul":
            return left * right
        case "max":
            return maximum(left, right)
        case "min":
            return minimum(left, right)
        case "div":
            return _truncated_quotient(left, right)
        case "mod" if _is_divisor(right):
            return mod(left, right)
        case "fmod" if _is_divisor(right) and is_nonnegative(left):
            return mod(left, right)
        case "pow" if isinstance(right, int) and 0 <= right <= _LARGEST_POWER:
            result: Dim = 1
            for _ in range(right):
                result = result * left
            return result
    return None


def _is_divisor(dim: Dim) -> bool:
    return is_nonnegative(dim) and dim != 0


def _truncated_quotient(left: Dim, right: Dim) -> Dim | None:
    if isinstance(left, int) and isinstance(right, int):
        if right == 0:
            return None
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    exact = exact_quotient(left, right) if right != 0 else None
    if exact is not None:
        return exact
    return floordiv(left, right) if is_nonnegative(left) and _is_divisor(right) else None


def fits(element: Element, dtype: DType) -> bool:
    """Whether the integer type `dtype` holds an integer; wide types are taken to hold every extent."""
    if isinstance(element, int):
        signed = dtype.kind is Kind.SIGNED
        low, high = (-(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1))) if signed else (0, 1 << dtype.bits)
        return low <= element < high
    if isinstance(element, DimExpr):
        return dtype.bits >= 32 and (dtype.kind is Kind.SIGNED or is_nonnegative(element))
    return True


def zero(dtype: DType) -> Element:
    """The element that fills where there is none."""
    if dtype is DType.BOOL:
        return False
    return Fraction(0) if dtype.is_float else 0


def array_of(
    elements: list[Element], shape: tuple[int, ...]
) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    """An object array of `shape`; NumPy would take some elements apart if it made it."""
    content = np.empty(len(elements), dtype=object)
    content[:] = elements
    return content.reshape(shape)
