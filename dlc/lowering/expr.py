"""Value expressions of the kernel IR: immutable, interned, typed.

An expression computes one element. It reads parameters (`Load`) and locals (`Read`) at indices, which are Dims
over the kernel's axes or, where they come from data, integer expressions. Two structurally equal expressions are
one object, so identity is equality and work on a shared subtree is done once.
"""
from __future__ import annotations

import dataclasses
import enum
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from dlc.ir.dims import Dim, substitute as substitute_dim, to_text
from dlc.ir.dtypes import DType

_TABLE: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()


def _key(field: Any) -> Any:
    """A dictionary key for a field: floats by bits (nan equals nan, 0.0 differs from -0.0), bool apart from int."""
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


@dataclasses.dataclass(frozen=True, eq=False)
class Expr(metaclass=_Interned):
    """Base of all expressions; `dtype` is the type of the element."""

    dtype: DType


@dataclasses.dataclass(frozen=True, eq=False)
class Const(Expr):
    """A number (bool, int or float according to dtype)."""

    value: float | int | bool

    def __str__(self) -> str:
        return f"{self.value!r}:{self.dtype.text}"


@dataclasses.dataclass(frozen=True, eq=False)
class Iota(Expr):
    """The number of an index expression, as an integer of `dtype`."""

    index: Dim

    def __str__(self) -> str:
        return f"iota({to_text(self.index)}):{self.dtype.text}"


@dataclasses.dataclass(frozen=True)
class InRange:
    """The condition low <= index < high, of which masks are conjunctions."""

    index: Dim
    low: Dim
    high: Dim

    def __str__(self) -> str:
        return f"{to_text(self.low)} <= {to_text(self.index)} < {to_text(self.high)}"


@dataclasses.dataclass(frozen=True, eq=False)
class Load(Expr):
    """An element of parameter `param`, at a logical index.

    Where a condition of `mask` fails, nothing is read and the value is `other`. An index entry that is an Expr
    comes from data: code generation checks it against the extent (negative ones are not wrapped here).
    """

    param: str
    index: tuple[Dim | Expr, ...]
    mask: tuple[InRange, ...] = ()
    other: Expr | None = None

    def __str__(self) -> str:
        mask = f" if {' and '.join(map(str, self.mask))} else {self.other}" if self.mask else ""
        return f"{self.param}[{', '.join(map(index_text, self.index))}]" + (f"({mask.strip()})" if mask else "")


@dataclasses.dataclass(frozen=True, eq=False)
class Read(Expr):
    """An element of the local tensor `local`."""

    local: str
    index: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"{self.local}[{', '.join(map(to_text, self.index))}]" if self.index else self.local


@dataclasses.dataclass(frozen=True, eq=False)
class Unary(Expr):
    """A function of one operand; names are those of `UNARY`."""

    fn: str
    operand: Expr

    def __str__(self) -> str:
        return f"{self.fn}({self.operand})"


@dataclasses.dataclass(frozen=True, eq=False)
class Binary(Expr):
    """A function of two operands of one dtype; names are those of `BINARY`."""

    fn: str
    left: Expr
    right: Expr

    def __str__(self) -> str:
        return f"{self.fn}({self.left}, {self.right})"


@dataclasses.dataclass(frozen=True, eq=False)
class Compare(Expr):
    """eq, ne, lt, le, gt or ge of two operands of one dtype; ordered: false on NaN, except ne."""

    fn: str
    left: Expr
    right: Expr

    def __str__(self) -> str:
        return f"{self.fn}({self.left}, {self.right})"


@dataclasses.dataclass(frozen=True, eq=False)
class Select(Expr):
    """`then` where `condition`, else `otherwise`; both are evaluated."""

    condition: Expr
    then: Expr
    otherwise: Expr

    def __str__(self) -> str:
        return f"select({self.condition}, {self.then}, {self.otherwise})"


class CastMode(enum.Enum):
    """What a conversion does with numbers that the target type does not have."""

    WRAP = "wrap"
    SATURATE = "saturate"
    RNE = "rne"


@dataclasses.dataclass(frozen=True, eq=False)
class Cast(Expr):
    """The operand converted to `dtype`. To floats: rounded to nearest even. To integers: truncated, then `mode`."""

    operand: Expr
    mode: CastMode = CastMode.RNE

    def __str__(self) -> str:
        return f"cast({self.operand}, {self.dtype.text}, {self.mode.value})"


#: Functions of one operand, on floats unless said: `abs neg sign` also on integers, `not` on bool and integers (bits).
UNARY = frozenset(
    "abs neg sign floor ceil round exp log sqrt reciprocal sin cos tan asin acos atan sinh cosh asinh acosh atanh"
    " erf tanh sigmoid softplus log1p not is_nan".split())

#: Functions of two operands. `div` truncates on integers, `mod` has the divisor's sign and `fmod` the dividend's;
#: `max` and `min` propagate NaN; `and or xor` are bitwise on integers; shifts by the width or more give 0.
BINARY = frozenset("add sub mul div pow mod fmod max min and or xor shift_left shift_right".split())

COMPARE = frozenset("eq ne lt le gt ge".split())

Index: TypeAlias = Dim | Expr


def index_text(index: Index) -> str:
    """An index entry as text."""
    return str(index) if isinstance(index, Expr) else to_text(index)


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
    """`root` rebuilt bottom-up: `leaf` may replace any node (given with rebuilt operands), `dim` maps every Dim."""
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
                new = Load(dtype, param, tuple(map(entry, index)),
                           simplify_mask(tuple(InRange(move(m.index), move(m.low), move(m.high)) for m in mask)),
                           None if other is None else done[other])
            case Read(dtype, local, index_dims):
                new = Read(dtype, local, tuple(map(move, index_dims)))
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


def simplify_mask(mask: tuple[InRange, ...]) -> tuple[InRange, ...]:
    """The mask without conditions that always hold and without repetitions."""
    from dlc.ir.dims import is_nonnegative
    kept: dict[InRange, None] = {}
    for m in mask:
        if not (is_nonnegative(m.index - m.low) and is_nonnegative(m.high - m.index - 1)):
            kept[m] = None
    return tuple(kept)
