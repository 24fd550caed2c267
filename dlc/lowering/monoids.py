"""The monoids of Reduce in NumPy: their identities, and how arrays are reduced."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dlc.ir.dtypes import DType
from dlc.ir.operator import Array
from dlc.lowering.kernel import Monoid
from dlc.lowering.scalar import integer_range

ARG_MONOIDS = frozenset({Monoid.ARGMAX, Monoid.ARGMIN, Monoid.ARGMAX_LAST, Monoid.ARGMIN_LAST})
_LARGEST = frozenset({Monoid.ARGMAX, Monoid.ARGMAX_LAST})
_LAST = frozenset({Monoid.ARGMAX_LAST, Monoid.ARGMIN_LAST})


def identity(monoid: Monoid, dtypes: Sequence[DType]) -> tuple[float | int | bool, ...]:
    """The numbers, one a value of the monoid, that change nothing."""
    match monoid:
        case Monoid.SUM:
            return (0,)
        case Monoid.PROD:
            return (1,)
        case Monoid.AND:
            return (True,)
        case Monoid.OR:
            return (False,)
        case Monoid.MAX | Monoid.MIN:
            return (_extreme(monoid is Monoid.MIN, dtypes[0]),)
    index = integer_range(dtypes[1])
    return _extreme(monoid not in _LARGEST, dtypes[0]), -1 if monoid in _LAST else index[1]


def _extreme(greatest: bool, dtype: DType) -> float | int:
    if dtype.is_float:
        return math.inf if greatest else -math.inf
    return integer_range(dtype)[greatest]


def reduce_arrays(monoid: Monoid, values: Sequence[Array], axes: tuple[int, ...]) -> list[Array]:
    """`values` combined over `axes`, which may be empty of points."""
    value = values[0]
    match monoid:
        case Monoid.SUM:
            return [np.asarray(np.sum(value, axis=axes, dtype=value.dtype))]
        case Monoid.PROD:
            return [np.asarray(np.prod(value, axis=axes, dtype=value.dtype))]
        case Monoid.AND:
            return [np.asarray(np.all(value, axis=axes))]
        case Monoid.OR:
            return [np.asarray(np.any(value, axis=axes))]
        case Monoid.MAX | Monoid.MIN:
            combine = np.max if monoid is Monoid.MAX else np.min
            start = _start(value, monoid is Monoid.MIN)
            return [np.asarray(combine(value, axis=axes, initial=start))]
    return _reduce_arg(monoid, values[0], values[1], axes)


def _start(value: Array, greatest: bool) -> float | int:
    if value.dtype.kind == "f":
        return math.inf if greatest else -math.inf
    limits = np.iinfo(value.dtype)
    return int(limits.max if greatest else limits.min)


def _reduce_arg(monoid: Monoid, value: Array, index: Array, axes: tuple[int, ...]) -> list[Array]:
    """The extreme value, NaN beyond all others, and the least (or greatest) index that has it."""
    largest = monoid in _LARGEST
    combine = np.max if largest else np.min
    best = combine(value, axis=axes, keepdims=True, initial=_start(value, not largest))
    chosen = (
        (value == best) | (np.isnan(best) & np.isnan(value)) if value.dtype.kind == "f" else value == best
    )
    limits = np.iinfo(index.dtype)
    if monoid in _LAST:
        place = np.max(np.where(chosen, index, -1), axis=axes, initial=-1)
    else:
        place = np.min(np.where(chosen, index, limits.max), axis=axes, initial=int(limits.max))
    return [np.asarray(best.squeeze(axis=axes)), np.asarray(place).astype(index.dtype)]
