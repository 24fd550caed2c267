"""How the monoids of Reduce start, combine and collapse lanes."""

from __future__ import annotations

import math

from dlc.backends.cpu import arithmetic, types as t
from dlc.backends.cpu.access import register_type
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Monoid

_ARG = {Monoid.ARGMAX, Monoid.ARGMIN, Monoid.ARGMAX_LAST, Monoid.ARGMIN_LAST}
_LAST = {Monoid.ARGMAX_LAST, Monoid.ARGMIN_LAST}


def identity(monoid: Monoid, dtypes: tuple[DType, ...]) -> tuple[float | int, ...]:
    """The number(s) that change nothing."""
    dtype = dtypes[0]
    match monoid:
        case Monoid.SUM | Monoid.OR:
            return (0,)
        case Monoid.PROD | Monoid.AND:
            return (1,)
        case Monoid.MAX:
            return (-math.inf if dtype.is_float else arithmetic.integer_range(dtype)[0],)
        case Monoid.MIN:
            return (math.inf if dtype.is_float else arithmetic.integer_range(dtype)[1],)
    largest = monoid in (Monoid.ARGMAX, Monoid.ARGMAX_LAST)
    extreme = identity(Monoid.MAX if largest else Monoid.MIN, dtypes)[0]
    return (extreme, -1 if monoid in _LAST else (1 << 63) - 1)


def start(b: FunctionBuilder, monoid: Monoid, dtypes: tuple[DType, ...], lanes: int) -> list[t.Value]:
    """The identity as values: scalars, or in every lane."""
    values = []
    for dtype, number in zip(dtypes, identity(monoid, dtypes), strict=True):
        element = register_type(dtype)
        values.append(b.const(t.vector(lanes, element) if lanes > 1 else element, number))
    return values


def combine(
    b: FunctionBuilder, monoid: Monoid, dtypes: tuple[DType, ...], left: list[t.Value], right: list[t.Value]
) -> list[t.Value]:
    """left (monoid) right."""
    dtype = dtypes[0]
    match monoid:
        case Monoid.SUM:
            return [arithmetic.binary(b, "or" if dtype is DType.BOOL else "add", dtype, left[0], right[0])]
        case Monoid.PROD:
            return [arithmetic.binary(b, "and" if dtype is DType.BOOL else "mul", dtype, left[0], right[0])]
        case Monoid.MAX | Monoid.MIN:
            return [arithmetic.binary(b, monoid.value, dtype, left[0], right[0])]
        case Monoid.AND | Monoid.OR:
            return [arithmetic.binary(b, monoid.value, DType.BOOL, left[0], right[0])]
    return _combine_arg(b, monoid, dtype, left, right)


def _combine_arg(
    b: FunctionBuilder, monoid: Monoid, dtype: DType, left: list[t.Value], right: list[t.Value]
) -> list[t.Value]:
    """The more extreme value; of equal ones (two NaNs are equal) the one of smaller, or larger, index."""
    largest = monoid in (Monoid.ARGMAX, Monoid.ARGMAX_LAST)
    better = arithmetic.compare(b, "gt" if largest else "lt", dtype, right[0], left[0])
    equal = arithmetic.compare(b, "eq", dtype, right[0], left[0])
    if dtype.is_float:
        left_nan, right_nan = b.fcmp("uno", left[0], left[0]), b.fcmp("uno", right[0], right[0])
        better = b.and_(b.or_(better, right_nan), b.not_(left_nan))
        equal = b.or_(equal, b.and_(left_nan, right_nan))
    earlier = b.icmp("sgt" if monoid in _LAST else "slt", right[1], left[1])
    take = b.or_(better, b.and_(equal, earlier))
    return [b.select(take, new, old) for old, new in zip(left, right, strict=True)]


def collapse(
    b: FunctionBuilder, monoid: Monoid, dtypes: tuple[DType, ...], values: list[t.Value]
) -> list[t.Value]:
    """The lanes combined into one scalar each, by halves: lane i with lane i + n/2."""
    while values[0].type.lanes > 2:
        half = values[0].type.lanes // 2
        low = [b.slice(v, 0, half) for v in values]
        high = [b.slice(v, half, half) for v in values]
        values = combine(b, monoid, dtypes, low, high)
    return combine(b, monoid, dtypes, [b.extract(v, 0) for v in values], [b.extract(v, 1) for v in values])
