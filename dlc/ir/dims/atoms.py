"""The makers of atoms other than symbols: look up the node with given operands, or make it with its interval.

Nothing is simplified here; `division` and `order` call these when no rule applies.
"""

from __future__ import annotations

from typing import TypeVar

from dlc.ir.dims.intervals import Interval, floor_division_interval
from dlc.ir.dims.nodes import (
    TABLE,
    Broadcast,
    Dim,
    FloorDiv,
    Max,
    Min,
    Mod,
    bounds,
    intern,
    measure,
    sort_key,
)


def make_floordiv(dividend: Dim, divisor: Dim) -> FloorDiv:
    """The FloorDiv node with exactly these operands, which must be canonical."""
    interval = floor_division_interval(bounds(dividend), bounds(divisor))
    return _make_division(FloorDiv, dividend, divisor, interval)


def make_mod(dividend: Dim, divisor: Dim) -> Mod:
    """The Mod node with exactly these operands, which must be canonical."""
    (low, high), (divisor_low, divisor_high) = bounds(dividend), bounds(divisor)
    interval: Interval = (None, None)
    # A divisor of 0 has no value, so that a lower bound of 0 is as good as one of 1.
    if divisor_low is not None and divisor_low >= 0:
        limits = [] if divisor_high is None else [max(divisor_high - 1, 0)]
        if low is not None and low >= 0 and high is not None:
            limits.append(high)
        interval = (0, min(limits, default=None))
    return _make_division(Mod, dividend, divisor, interval)


_DivisionNode = TypeVar("_DivisionNode", FloorDiv, Mod)


def _make_division(
    kind: type[_DivisionNode], dividend: Dim, divisor: Dim, interval: Interval
) -> _DivisionNode:
    identity = (kind, dividend, divisor)
    found = TABLE.get(identity)
    if found is not None:
        return found  # type: ignore[return-value]
    key = (kind.rank, sort_key(dividend), sort_key(divisor))
    depth, size = measure((dividend, divisor))
    return intern(kind, identity, key, interval, depth + 1, size, dividend=dividend, divisor=divisor)


_SelectionNode = TypeVar("_SelectionNode", bound=Min | Max | Broadcast)


def make_selection(kind: type[_SelectionNode], args: tuple[Dim, ...]) -> _SelectionNode:
    """The Min, Max or Broadcast node with exactly these args, which must be canonical."""
    identity = (kind, args)
    found = TABLE.get(identity)
    if found is not None:
        return found  # type: ignore[return-value]
    lows, highs = zip(*map(bounds, args), strict=True)
    known_lows = [low for low in lows if low is not None]
    known_highs = [high for high in highs if high is not None]
    all_low = len(known_lows) == len(args)
    all_high = len(known_highs) == len(args)
    interval: Interval
    if kind is Min:
        interval = (min(known_lows) if all_low else None, min(known_highs, default=None))
    elif kind is Max:
        interval = (max(known_lows, default=None), max(known_highs) if all_high else None)
    else:
        interval = (min(known_lows) if all_low else None, max(known_highs) if all_high else None)
    key = (kind.rank, len(args), tuple(map(sort_key, args)))
    depth, size = measure(args)
    return intern(kind, identity, key, interval, depth + 1, size, args=args)
