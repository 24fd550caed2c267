"""Arithmetic on inclusive integer intervals (lo, hi), where None stands for no bound on that side."""

from __future__ import annotations

from typing import TypeAlias

Interval: TypeAlias = tuple[int | None, int | None]


def scaled(lo: int | None, hi: int | None, factor: int) -> Interval:
    """The interval of ``factor * x`` for x in lo..hi and a non-zero `factor`."""
    if factor < 0:
        lo, hi = hi, lo
    return None if lo is None else lo * factor, None if hi is None else hi * factor


def product_interval(left: Interval, right: Interval) -> Interval:
    """The interval of ``x * y`` for independent x in `left` and y in `right`."""
    (a, b), (c, d) = left, right
    if a is not None and c is not None and a >= 0 and c >= 0:
        # Either extent may be 0 throughout, which bounds the product whatever the other is.
        high = b * d if b is not None and d is not None else 0 if b == 0 or d == 0 else None
        return a * c, high
    ends, other_ends = ((a, -1), (b, 1)), ((c, -1), (d, 1))
    corners = [_corner(x, x_side, y, y_side) for x, x_side in ends for y, y_side in other_ends]
    finite = [value for value, _ in corners if value is not None]
    signs = {sign for value, sign in corners if value is None}
    return None if -1 in signs else min(finite), None if 1 in signs else max(finite)


def _corner(x: int | None, x_side: int, y: int | None, y_side: int) -> tuple[int | None, int]:
    """The product of two ends: its value, or None with a sign for infinite; a None has the sign `side`."""
    if x is not None and y is not None:
        return x * y, 0
    if x == 0 or y == 0:
        return 0, 0
    x_sign = x_side if x is None else (1 if x > 0 else -1)
    y_sign = y_side if y is None else (1 if y > 0 else -1)
    return None, x_sign * y_sign


def power_interval(base: Interval, exponent: int) -> Interval:
    """The interval of ``x ** exponent`` for x in `base` and `exponent` >= 1."""
    lo, hi = base
    if exponent % 2 == 1 or (lo is not None and lo >= 0):
        return None if lo is None else lo**exponent, None if hi is None else hi**exponent
    if hi is not None and hi <= 0:
        return hi**exponent, None if lo is None else lo**exponent
    return 0, None if lo is None or hi is None else max(-lo, hi) ** exponent


def floor_division_interval(dividend: Interval, divisor: Interval) -> Interval:
    """The interval of ``x // y``; unbounded unless y is known to be non-negative (at 0 there is no value)."""
    (lo, hi), (divisor_lo, divisor_hi) = dividend, divisor
    if divisor_lo is None or divisor_lo < 0:
        return None, None
    smallest = max(divisor_lo, 1)
    largest = None if divisor_hi is None else max(divisor_hi, 1)
    if lo is None:
        low = None
    elif lo < 0:
        low = lo // smallest
    else:
        low = 0 if largest is None else lo // largest
    if hi is None:
        high = None
    elif hi >= 0:
        high = hi // smallest
    else:
        high = -1 if largest is None else hi // largest
    return low, high
