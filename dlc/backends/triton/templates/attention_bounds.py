"""Conditions on the number of a key, taken out of the formula of a score: which keys a query sees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from dlc.ir.dims import Symbol, free_symbols, linear
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import expr_dims

NEVER = e.Const(DType.F32, -math.inf)


@dataclasses.dataclass(frozen=True)
class KeyBound:
    """A condition on the number of a key: below `bound`, or from `bound` on if `lower`; `bound` is an integer
    expression that does not depend on the key.
    """

    bound: e.Expr
    lower: bool


def split_bounds(x: e.Expr, keys: list[Symbol]) -> tuple[e.Expr, tuple[KeyBound, ...]]:
    """`x` without the conditions on the key's number that make it -inf, and these conditions."""
    if len(keys) != 1:
        return x, ()
    match x:
        case e.Select(_, condition, score, otherwise) if otherwise is NEVER:
            pass
        case _:
            return x, ()
    score, bounds = split_bounds(score, keys)
    for part in _conjuncts(condition):
        bound = _bound(part, keys[0])
        if bound is not None:
            bounds = (*bounds, bound)
        else:
            score = e.Select(DType.F32, part, score, NEVER)
    return score, bounds


def _conjuncts(condition: e.Expr) -> Iterator[e.Expr]:
    match condition:
        case e.Binary(_, "and", left, right):
            yield from _conjuncts(left)
            yield from _conjuncts(right)
        case _:
            yield condition


_MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}


def _bound(part: e.Expr, key: Symbol) -> KeyBound | None:
    """A comparison of the key's number, or that and another one, with what does not depend on it."""
    if not isinstance(part, e.Compare) or part.fn not in _MIRRORED:
        return None
    fn, left, right = part.fn, part.left, part.right
    if key.name in symbols_of(right):
        fn, left, right = _MIRRORED[fn], right, left
    if not isinstance(left, e.Iota) or left.dtype is not DType.I64 or key.name in symbols_of(right):
        return None
    affine = linear(left.index, key)
    if affine is None or affine[0] != 1:
        return None
    rest = affine[1] * -1 + (1 if fn in ("le", "gt") else 0)
    bound = right if rest == 0 else e.Binary(DType.I64, "add", right, e.Iota(DType.I64, rest))
    return KeyBound(bound, lower=fn in ("ge", "gt"))


def symbols_of(value: e.Expr) -> set[str]:
    """The names of the axes and symbols on which a value depends."""
    return {symbol.name for dim in expr_dims(value) for symbol in free_symbols(dim)}
