"""What is known about the order of dims, and the atoms that depend on it: minimum, maximum, broadcast."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from dlc.ir.dims.atoms import make_selection
from dlc.ir.dims.nodes import (
    Broadcast,
    Dim,
    DimExpr,
    Max,
    Min,
    add_scaled,
    as_dim,
    bounds,
    scale,
    sort_key,
)
from dlc.ir.dims.proofs import prove_nonnegative

#: Up to this number of arguments, minimum and maximum compare each pair of them.
_PAIRWISE_LIMIT = 16
#: Results that minimum and maximum remember; it bounds what they keep alive.
_REMEMBERED = 2048


def is_nonnegative(dim: Dim) -> bool:
    """Whether `dim` >= 0 is provable from the ranges of its symbols."""
    return known_le(0, dim)


def is_positive(dim: Dim) -> bool:
    """Whether `dim` >= 1 is provable from the ranges of its symbols."""
    return known_le(1, dim)


def known_equal(left: Dim, right: Dim) -> bool:
    """Whether the two are provably equal for all values of their symbols; False also means "not known"."""
    if left is right:
        return True
    difference = add_scaled(left, right, -1)
    return prove_nonnegative(difference) and prove_nonnegative(scale(difference, -1))


def known_lt(left: Dim, right: Dim) -> bool:
    """Whether ``left < right`` is provable from the ranges of the symbols."""
    return known_le(add_scaled(left, 1, 1), right)


def known_le(left: Dim, right: Dim) -> bool:
    """Whether ``left <= right`` is provable from the ranges of the symbols; False also means "not known"."""
    left_high, right_low = bounds(left)[1], bounds(right)[0]
    if left_high is not None and right_low is not None and left_high <= right_low:
        return True
    if not isinstance(left, DimExpr) and not isinstance(right, DimExpr):
        return False
    return prove_nonnegative(add_scaled(right, left, -1))


def minimum(first: Dim, second: Dim, *rest: Dim) -> Dim:
    """The smallest of the arguments; one that is provably not smaller than another one is dropped."""
    return _extreme(Min, tuple(_distinct(Min, (first, second, *rest))))


def maximum(first: Dim, second: Dim, *rest: Dim) -> Dim:
    """The largest of the arguments; one that is provably not larger than another one is dropped."""
    return _extreme(Max, tuple(_distinct(Max, (first, second, *rest))))


@lru_cache(maxsize=_REMEMBERED)
def _extreme(kind: type[Min] | type[Max], args: tuple[Dim, ...]) -> Dim:
    if len(args) <= _PAIRWISE_LIMIT:
        args = _undominated(args, known_le if kind is Min else lambda left, right: known_le(right, left))
    return args[0] if len(args) == 1 else make_selection(kind, args)


def broadcast(first: Dim, second: Dim, *rest: Dim) -> Dim:
    """The extent that compatible extents (equal, or 1) broadcast to: the one that is not 1, or 1 if all are.

    An argument that is provably not 1 is the result, so that ``broadcast(n, 512)`` is 512 and
    ``broadcast(n, 0)`` is 0, and ``broadcast(n, min(n, 128))`` is n: the caller states by a Guard that the
    extents are compatible. For extents that are not, the value is that of one of the arguments.
    """
    args = [arg for arg in _distinct(Broadcast, (first, second, *rest)) if arg != 1]
    # An int first: it says more than an expression that must equal it.
    for arg in reversed(args):
        low, high = bounds(arg)
        if (low is not None and low > 1) or (high is not None and high < 1):
            return arg
    args = [arg for arg in args if not any(_is_clamped(arg, other) for other in args)]
    match args:
        case []:
            return 1
        case [arg]:
            return arg
    return make_selection(Broadcast, tuple(args))


def _is_clamped(dim: Dim, other: Dim) -> bool:
    """Whether `dim` is ``min(other, bounds...)`` with bounds of at least 1.

    As extents that broadcast together, the two are equal, or `dim` is 1; the result is `other` either way.
    """
    match dim:
        case Min(args):
            return other in args and all(known_le(1, arg) for arg in args if arg is not other)
    return False


def _distinct(kind: type[Min] | type[Max] | type[Broadcast], dims: Iterable[object]) -> list[Dim]:
    """The arguments without repetitions, those of nested nodes of `kind` included, ordered by key."""
    flat: dict[Dim, None] = {}
    for value in dims:
        dim = as_dim(value)
        flat.update(dict.fromkeys(dim.args if isinstance(dim, kind) else (dim,)))
    ints = [dim for dim in flat if not isinstance(dim, DimExpr)]
    if len(ints) > 1 and kind is not Broadcast:
        extreme = min(ints) if kind is Min else max(ints)
        flat = {dim: None for dim in flat if isinstance(dim, DimExpr) or dim == extreme}
    return sorted(flat, key=sort_key)


def _undominated(args: Sequence[Dim], wins: Callable[[Dim, Dim], bool]) -> tuple[Dim, ...]:
    """`args` without those against which another wins; of two that win against each other the first stays."""
    kept: list[Dim] = []
    for arg in args:
        if any(wins(other, arg) for other in kept):
            continue
        kept = [other for other in kept if not wins(arg, other)]
        kept.append(arg)
    return tuple(kept)
