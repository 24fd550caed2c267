"""Looking up the values of keys: numbers by comparisons, tables and binary searches, strings on the host."""

from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.ir.dtypes import DType, from_numpy
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.maps import StringAt, StringIndex
from dlc.ir.ops.movement import Expand
from dlc.ir.ops.pointwise import Binary, Cast, Clip, Compare, Unary, Where

#: So many keys are compared one after the other, without a load.
_FEW = 16
#: A table has at most so many entries for each key.
_SPARSE = 8


def look_up(ctx: NodeContext, x: Value, keys: Array, values: Array, default: Array) -> Value:
    """values[k] for the first k with keys[k] == x, the default where there is none; of the shape of x.

    NaN finds the first NaN.
    """
    if DType.STRING in (x.tensor.dtype, _dtype(values)):
        return _strings(ctx, x, keys, values, default)
    order = np.argsort(keys, kind="stable")
    ascending = keys[order]
    known = ~np.isnan(ascending) if keys.dtype.kind == "f" else np.ones(len(keys), np.bool_)
    # NaN stands at the end.
    missing = order[~known][:1]
    ascending, found = ascending[known], values[order[known]]
    first = np.append(True, ascending[1:] != ascending[:-1])[: len(ascending)]
    ascending, found = ascending[first], found[first]
    result = _numbers(ctx, x, ascending, found, default)
    if len(missing):
        other = _constant(ctx, values[missing[0]])
        result = ctx.add(Where(), ctx.add(Unary("is_nan"), x), other, result)
    return result


def _strings(ctx: NodeContext, x: Value, keys: Array, values: Array, default: Array) -> Value:
    """The look-up of or by strings: the host finds the positions of strings, or strings at positions."""
    if x.tensor.dtype is DType.STRING:
        first = {key: place for place, key in reversed(list(enumerate(keys.tolist())))}
        position, values = ctx.add(StringIndex(tuple(first)), x), values[list(first.values())]
    else:
        position = look_up(ctx, x, keys, np.arange(len(keys)), np.array(len(keys)))
    values = np.append(values, default)
    if _dtype(values) is DType.STRING:
        return ctx.add(StringAt(tuple(values.tolist())), position)
    return ctx.add(Gather(0), _constant(ctx, values), position)


def _numbers(ctx: NodeContext, x: Value, keys: Array, values: Array, default: Array) -> Value:
    """The look-up in ascending keys without NaN."""
    if len(keys) <= _FEW:
        return _compared(ctx, x, keys, values, default)
    if keys.dtype.kind == "i":
        low, high = int(keys[0]) - 1, int(keys[-1]) + 1
        limits = np.iinfo(np.int64)
        if high - low < _SPARSE * len(keys) and limits.min <= low and high <= limits.max:
            return _tabled(ctx, x, keys, values, default)
    return _searched(ctx, x, keys, values, default)


def _compared(ctx: NodeContext, x: Value, keys: Array, values: Array, default: Array) -> Value:
    """One comparison after the other."""
    if not len(keys):
        return ctx.add(Expand(x.tensor.shape), _constant(ctx, default))
    result = _constant(ctx, default)
    for key, value in zip(keys, values):
        equal = ctx.add(Compare("eq"), x, _constant(ctx, key))
        result = ctx.add(Where(), equal, _constant(ctx, value), result)
    return result


def _tabled(ctx: NodeContext, x: Value, keys: Array, values: Array, default: Array) -> Value:
    """A table with an entry for each number from the least key to the greatest, and one on either side."""
    low, high = int(keys[0]) - 1, int(keys[-1]) + 1
    table = np.full(high - low + 1, default, values.dtype)
    table[keys.astype(np.int64) - low] = values
    wide = x if x.tensor.dtype is DType.I64 else ctx.add(Cast(DType.I64), x)
    place = ctx.add(Binary("sub"), ctx.add(Clip(low, high), wide), ctx.const(low, DType.I64))
    return ctx.add(Gather(0), _constant(ctx, table), place)


def _searched(ctx: NodeContext, x: Value, keys: Array, values: Array, default: Array) -> Value:
    """A binary search for the last key that is at most x; keys are filled up with the last one."""
    steps = (len(keys) - 1).bit_length()
    filled = np.append(keys, np.repeat(keys[-1:], (1 << steps) - len(keys)))
    results = np.append(values, np.repeat(values[-1:], len(filled) - len(values)))
    table, place = _constant(ctx, filled), ctx.const(0, DType.I64)
    for step in reversed(range(steps)):
        further = ctx.add(Binary("add"), place, ctx.const(1 << step, DType.I64))
        passes = ctx.add(Compare("le"), ctx.add(Gather(0), table, further), x)
        place = ctx.add(Where(), passes, further, place)
    found = ctx.add(Compare("eq"), ctx.add(Gather(0), table, place), x)
    return ctx.add(
        Where(), found, ctx.add(Gather(0), _constant(ctx, results), place), _constant(ctx, default)
    )


def _dtype(content: Array) -> DType:
    return DType.STRING if content.dtype.kind in "OUS" else from_numpy(content.dtype)


def _constant(ctx: NodeContext, content: Array) -> Value:
    return ctx.const(content, _dtype(np.asarray(content)))
