"""Value expressions of the kernel IR: immutable, interned, typed.

An expression computes one element. It reads parameters (`Load`) and locals (`Read`) at indices, which are
Dims over the kernel's axes or, where they come from data, integer expressions. Two structurally equal
expressions are one object, so identity is equality and work on a shared subtree is done once.

docs/kernel-ir.md defines every construct; `dlc.lowering.text` prints them.
"""

from __future__ import annotations

import dataclasses
import enum
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from dlc.ir.dims import Dim, is_nonnegative, substitute as substitute_dim, to_text
from dlc.ir.dtypes import DType

_TABLE: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


def _key(field: Any) -> Any:
    """A dictionary key for a field: floats by bits (nan is nan, 0.0 is not -0.0), bool apart from int."""
    if isinstance(field, float):
        return ("float", field.hex())
    if isinstance(field, bool):
        return ("bool", field)
    return field


class _Interned(type):
    """Metaclass that returns the one instance of each structure."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        instance = super().__call__(*args, **kwargs)
        key = (cls, *(_key(getattr(instance, name)) for name in cls.__match_args__))  # type: ignore[attr-defined]
        return _TABLE.setdefault(key, instance)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Expr(metaclass=_Interned):
    """Base of all expressions; `dtype` is the type of the element."""

    dtype: DType

    def __repr__(self) -> str:
        from dlc.lowering.text import expression_text

        return expression_text(self)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Const(Expr):
    """A number (bool, int or float according to dtype); a float counts as rounded to dtype."""

    value: float | int | bool


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Iota(Expr):
    """The number of an index expression, as an integer of `dtype`; it wraps where it does not fit."""

    index: Dim


@dataclasses.dataclass(frozen=True)
class InRange:
    """The condition low <= index < high, of which masks are conjunctions."""

    index: Dim
    low: Dim
    high: Dim

    def __str__(self) -> str:
        return f"{to_text(self.low)} <= {to_text(self.index)} < {to_text(self.high)}"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Load(Expr):
    """An element of parameter `param`, at a logical index.

    Where a condition of `mask` fails, nothing is read and the value is `other`. An index entry that is an
    Expr comes from data: where the mask holds it is checked against the extent, and never wrapped.
    """

    param: str
    index: tuple[Dim | Expr, ...]
    mask: tuple[InRange, ...] = ()
    other: Expr | None = None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Read(Expr):
    """An element of the local tensor `local`; where a condition of `mask` fails, the value is `other`."""

    local: str
    index: tuple[Dim, ...]
    mask: tuple[InRange, ...] = ()
    other: Expr | None = None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Unary(Expr):
    """A function (names in `UNARY`) of one operand, in its type; `is_nan` gives bool."""

    fn: str
    operand: Expr


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Binary(Expr):
    """A function (names in `BINARY`) of two operands of one dtype, which is the result's."""

    fn: str
    left: Expr
    right: Expr


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Compare(Expr):
    """A comparison (names in `COMPARE`) of two operands of one dtype, as bool; false on NaN, except ne."""

    fn: str
    left: Expr
    right: Expr


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Select(Expr):
    """`then` where `condition`, else `otherwise`; both are evaluated, faults of an index included."""

    condition: Expr
    then: Expr
    otherwise: Expr


class CastMode(enum.Enum):
    """How a conversion to an integer type rounds, and what it does with a number out of range.

    WRAP keeps the low bits of an integer; a float's fraction is dropped and, out of range, what ONNX's Cast
    gives on x86-64 (docs/semantics.md). SATURATE drops a float's fraction, RNE rounds it half to even; both
    give the nearest number that the type has, and 0 for NaN. Between integers RNE is WRAP. To a float type
    all modes round to nearest even, and beyond the range of an 8-bit float SATURATE gives the largest number,
    the others infinity or NaN; to bool they give false for 0 and true for all else, NaN included. BITS reads
    the same bits as another type of the same width.
    """

    WRAP = "wrap"
    SATURATE = "saturate"
    RNE = "rne"
    BITS = "bits"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Cast(Expr):
    """The operand converted to `dtype`; `mode` matters for integers, see CastMode."""

    operand: Expr
    mode: CastMode = CastMode.RNE


#: Functions of one float; `abs neg sign` are for integers too, `not` is for bool and integers (bits) only.
UNARY = frozenset({"abs", "neg", "sign", "floor", "ceil", "round", "sqrt", "reciprocal", "is_nan", "not"}) | {
    *("exp", "log", "log1p", "sigmoid", "softplus", "erf"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
}

#: Functions of two operands. On integers add, sub, mul and pow wrap, `div` truncates, and `div`, `mod` and
#: `fmod` by 0 give 0; `mod` has the divisor's sign and `fmod` the dividend's. `max` and `min` propagate NaN.
#: `and or xor` are for bool and for integers (bits). A shift by an amount outside [0, bits) moves every bit
#: out, leaving zeros or, to the right, copies of the sign.
BINARY = frozenset({"add", "sub", "mul", "div", "pow", "mod", "fmod", "max", "min"}) | {
    *("and", "or", "xor", "shift_left", "shift_right")
}

COMPARE = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})

Index: TypeAlias = Dim | Expr


def children(expr: Expr) -> tuple[Expr, ...]:
    """The operands of an expression, data-dependent indices included."""
    match expr:
        case Unary(_, _, operand) | Cast(_, operand, _):
            return (operand,)
        case Binary(_, _, left, right) | Compare(_, _, left, right):
            return (left, right)
        case Select(_, condition, then, otherwise):
            return (condition, then, otherwise)
        case Load(_, _, index, _, other):
            data = tuple(entry for entry in index if isinstance(entry, Expr))
            return data if other is None else (*data, other)
        case Read(other=Expr() as other):
            return (other,)
    return ()


def walk(*roots: Expr) -> Iterator[Expr]:
    """Every distinct subexpression of the roots once, operands first."""
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        expr, ready = stack.pop()
        if expr in seen:
            continue
        if ready:
            seen.add(expr)
            yield expr
            continue
        stack.append((expr, True))
        stack.extend((child, False) for child in reversed(children(expr)) if child not in seen)


def rewrite(root: Expr, leaf: Callable[[Expr], Expr | None], dim: Callable[[Dim], Dim] | None = None) -> Expr:
    """`root` rebuilt bottom-up: `leaf` may replace any node (seen with new operands), `dim` maps Dims."""
    done: dict[Expr, Expr] = {}
    move = dim or (lambda d: d)

    def entry(index: Index) -> Index:
        return done[index] if isinstance(index, Expr) else move(index)

    for expr in walk(root):
        new: Expr
        match expr:
            case Unary(dtype, fn, operand):
                new = Unary(dtype, fn, done[operand])
            case Cast(dtype, operand, mode):
                new = Cast(dtype, done[operand], mode)
            case Binary(dtype, fn, left, right):
                new = Binary(dtype, fn, done[left], done[right])
            case Compare(dtype, fn, left, right):
                new = Compare(dtype, fn, done[left], done[right])
            case Select(dtype, condition, then, otherwise):
                new = Select(dtype, done[condition], done[then], done[otherwise])
            case Load(dtype, param, index, mask, other):
                mask = map_mask(mask, move)
                instead = done[other] if mask and other is not None else None
                new = Load(dtype, param, tuple(map(entry, index)), mask, instead)
            case Read(dtype, local, dims, mask, other):
                mask = map_mask(mask, move)
                instead = done[other] if mask and other is not None else None
                new = Read(dtype, local, tuple(map(move, dims)), mask, instead)
            case Iota(dtype, index_dim):
                new = Iota(dtype, move(index_dim))
            case _:
                new = expr
        replaced = leaf(new)
        done[expr] = new if replaced is None else replaced
    return done[root]


def substitute(root: Expr, axes: Mapping[str, Dim]) -> Expr:
    """`root` with symbols (axes) replaced in every index."""
    return rewrite(root, lambda _: None, lambda d: substitute_dim(d, axes))


def map_mask(mask: tuple[InRange, ...], dim: Callable[[Dim], Dim]) -> tuple[InRange, ...]:
    """The mask with every Dim mapped, simplified."""
    return simplify_mask(tuple(InRange(dim(m.index), dim(m.low), dim(m.high)) for m in mask))


def simplify_mask(mask: tuple[InRange, ...]) -> tuple[InRange, ...]:
    """The mask without conditions that hold by the ranges of their symbols, and without repetitions."""
    kept: dict[InRange, None] = {}
    for m in mask:
        if not (is_nonnegative(m.index - m.low) and is_nonnegative(m.high - m.index - 1)):
            kept[m] = None
    return tuple(kept)
