"""Proofs about stores: that the points of one store, or of two stores, never hit the same element."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from math import gcd

from dlc.ir.dims import (
    Dim,
    DimExpr,
    FloorDiv,
    Mod,
    Symbol,
    factors_of,
    floordiv,
    free_symbols,
    is_nonnegative,
    linear,
    sort_key,
    substitute,
    terms_of,
)
from dlc.lowering.ranges import Space

#: Axes up to this extent may be split into their points.
_SHORT = 4


def is_injective(index: Sequence[Dim], space: Space) -> bool:
    """Whether different points of `space` provably have different indices.

    The axes are found one after the other: from an entry in which those not yet found stand like the digits
    of a number, each place value greater than what the smaller digits can add up to.
    """
    left = {axis for axis, extent in space.extents.items() if extent != 1}
    entries = _determined(index)
    progress = True
    while left and progress:
        progress = False
        for entry in entries:
            found = _digits(entry, left, space)
            if found:
                left -= found
                progress = True
    return not left


def _determined(index: Sequence[Dim]) -> list[Dim]:
    """The entries, and what they determine together: x, where x // n and x % n are there."""
    known = dict.fromkeys(index)
    size = 0
    while size < len(known):
        size = len(known)
        for entry in list(known):
            if not isinstance(entry, Mod):
                continue
            if floordiv(entry.dividend, entry.divisor) in known:
                known[entry.dividend] = None
            # The quotient may have lost a multiple of the divisor that the remainder does not show.
            whole = (other * entry.divisor + entry for other in index if other is not entry)
            known.update((dim, None) for dim in whole if not any(map(_divides, terms_of(dim)[0])))
    return list(known)


def _divides(term: tuple[DimExpr, int]) -> bool:
    return any(isinstance(factor, FloorDiv | Mod) for factor in factors_of(term[0]))


def _digits(entry: Dim, left: set[str], space: Space) -> set[str]:
    """The axes of `left` that the number `entry` determines, if the other axes are known."""
    axes = sorted((s for s in free_symbols(entry) if s.name in left), key=sort_key)
    places: list[tuple[Symbol, Dim]] = []
    for axis in axes:
        split = linear(entry, axis)
        if split is None:
            return set()
        place = split[0]
        if any(symbol.name in space.extents for symbol in free_symbols(place)):
            # Its sign, say, depends on another axis, which must be known already.
            alone = len(axes) == 1 and _never_zero_by_cases(place, space)
            return {axis.name} if alone else set()
        # An axis that counts down is as good as one that counts up.
        places.append((axis, place if is_nonnegative(place) else -place))
    reach: Dim = 0
    while places:
        position = _next_digit(places, reach, space)
        if position is None:
            return set()
        axis, place = places.pop(position)
        reach = reach + place * (space.extents[axis.name] - 1)
    return {axis.name for axis in axes}


def _never_zero_by_cases(place: Dim, space: Space) -> bool:
    """Whether a place value is a number other than 0 at every point of the short axes that it depends on."""
    axes = sorted((s for s in free_symbols(place) if s.name in space.extents), key=sort_key)
    lines = []
    for axis in axes:
        extent = space.extents[axis.name]
        if not isinstance(extent, int) or extent > _SHORT:
            return False
        lines.append(range(extent))
    for point in itertools.product(*lines):
        value = substitute(place, {axis.name: at for axis, at in zip(axes, point)})
        if not isinstance(value, int) or value == 0:
            return False
    return True


def _next_digit(places: Sequence[tuple[Symbol, Dim]], reach: Dim, space: Space) -> int | None:
    """A digit whose place value is beyond `reach` and that leaves the others beyond it; None: none is."""
    for position, (axis, place) in enumerate(places):
        if not space.nonnegative(place - reach - 1):
            continue
        following = reach + place * (space.extents[axis.name] - 1)
        others = [other for _, other in (*places[:position], *places[position + 1 :])]
        if all(space.nonnegative(other - following - 1) for other in others):
            return position
    return None


def are_disjoint(first: Sequence[Dim], one: Space, second: Sequence[Dim], other: Space) -> bool:
    """Whether provably no index of the first store, over `one`, is one of the second, over `other`."""
    renamed: dict[str, Dim] = {name: Symbol(f"{name}.second", 0, None) for name in other.extents}
    extents = {**one.extents, **{f"{name}.second": extent for name, extent in other.extents.items()}}
    both = dataclasses.replace(one, extents=extents)
    differences = [a - substitute(b, renamed) for a, b in zip(first, second, strict=True)]
    return any(both.nonnegative(d - 1) or both.nonnegative(-d - 1) or _never_zero(d) for d in differences)


def _never_zero(difference: Dim) -> bool:
    """Whether what divides the terms of a sum does not divide its constant."""
    terms, constant = terms_of(difference)
    divisor = gcd(*(factor for _, factor in terms))
    return divisor > 1 and constant % divisor != 0
