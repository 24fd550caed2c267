"""Kernels of Resize: tables of positions and weights an axis, then loads through them.

Where mode "nearest" enlarges by a whole number, or takes every k-th element, positions are index arithmetic
and need no table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dlc.ir.dims import Dim, Symbol, known_equal
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node, Value
from dlc.ir.ops.resize import Resize
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, cast, const
from dlc.lowering.expr import Index
from dlc.lowering.kernel import AxisKind, Monoid
from dlc.lowering.rules.conversion import convert
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.registry import rule
from dlc.lowering.rules.resize_tables import ResizedAxis, Table, axis_table, shared_scale, whole_stride

#: Most loads for an element, of all axes together, that are made at once, not one axis after the other,
#: where channels are the vector axis. Elsewhere loads through a table gather, and fewer of them are better.
_AT_ONCE = 16
#: Most taps of an axis that are written out.
_UNROLLED = 4


@rule(Resize)
def resize(draft: Draft, node: Node) -> None:
    """y[i] = sum over taps of weight[i, tap] * x[position[i, tap]], one axis after the other."""
    assert isinstance(node.op, Resize)
    axes = _resized_axes(draft, node.op)
    if node.op.mode == "nearest":
        _pick(draft, node.op, axes)
    else:
        _interpolate(draft, node.op, axes)


def _resized_axes(draft: Draft, op: Resize) -> list[ResizedAxis]:
    """The axes that do not simply keep their elements."""
    x, target = draft.operand(0).tensor, draft.node.outputs[0].tensor
    result = []
    for axis, (extent, size, scale) in enumerate(zip(x.shape, target.shape, op.scales, strict=True)):
        shared = shared_scale(op, x.shape, axis)
        plain = known_equal(extent, size) and scale in (None, 1.0) and shared is None
        if op.crops:
            roi = draft.operand(1).data
            plain = plain and roi is not None and (roi[axis], roi[axis + x.rank]) == (0, 1)
        if not plain:
            result.append(ResizedAxis(axis, extent, size, scale, shared))
    return result


def _pick(draft: Draft, op: Resize, axes: Sequence[ResizedAxis]) -> None:
    """Mode "nearest": one load."""
    x, target = draft.operand(0), draft.node.outputs[0]
    strides = {axis.axis: whole_stride(op, axis) for axis in axes}
    tables = {axis.axis: axis_table(draft, op, axis) for axis in axes if strides[axis.axis] is None}
    points = draft.axes_of(target.tensor.shape)
    index: list[Index] = list(points)
    for axis, stride in strides.items():
        at = points[axis]
        index[axis] = draft.load(tables[axis].positions, [at, 0]) if stride is None else stride.at(at)
    draft.store(target, points, _extrapolated(draft, op, tables, points, draft.load(x, index)))


def _interpolate(draft: Draft, op: Resize, axes: Sequence[ResizedAxis]) -> None:
    """Modes "linear" and "cubic": all axes at once, or each but the last into a temporary."""
    source, target = draft.operand(0), draft.node.outputs[0]
    dtype = source.tensor.dtype
    wide = DType.F64 if dtype.bits > 32 else DType.F32
    tables = {axis.axis: axis_table(draft, op, axis) for axis in axes}
    remaining = list(tables)
    blocked = source.tensor.layout is not None
    while len(remaining) > 1 and not (blocked and _few([tables[axis] for axis in remaining])):
        axis = remaining.pop(0)
        shape = list(source.tensor.shape)
        shape[axis] = target.tensor.shape[axis]
        step = draft.temporary(f"axis{axis}", wide, shape)
        points = draft.axes_of(shape)
        draft.store(step, points, _weighted(draft, source, {axis: tables[axis]}, points, wide))
        source = step
    points = draft.axes_of(target.tensor.shape)
    value = _weighted(draft, source, {axis: tables[axis] for axis in remaining}, points, wide)
    value = _extrapolated(draft, op, tables, points, value)
    draft.store(target, points, _narrow(value, dtype, op.antialias))


def _few(tables: Sequence[Table]) -> bool:
    """Whether interpolating along all axes at once takes few loads."""
    counts = [table.taps for table in tables]
    return math.prod(count if isinstance(count, int) else _AT_ONCE + 1 for count in counts) <= _AT_ONCE


def _weighted(
    draft: Draft, source: Value, tables: Mapping[int, Table], points: Sequence[Symbol], wide: DType
) -> e.Expr:
    """The weighted sum of the taps of all `tables`, those of the first axis innermost."""

    def value(axes: Sequence[int], index: Sequence[Index]) -> e.Expr:
        if not axes:
            return cast(draft.load(source, index), wide)
        *inner, axis = axes
        table, at = tables[axis], points[axis]

        def term(tap: Dim) -> e.Expr:
            moved = list(index)
            moved[axis] = draft.load(table.positions, [at, tap])
            assert table.weights is not None
            weight = cast(draft.load(table.weights, [at, tap]), wide)
            product = binary("mul", value(inner, moved), weight)
            if isinstance(table.taps, int):
                return product
            # There may be more taps than the operator has; those do not even see an infinity.
            return select(compare("eq", weight, 0), const(0, wide), product)

        if isinstance(table.taps, int) and table.taps <= _UNROLLED:
            total = term(0)
            for tap in range(1, table.taps):
                total = binary("add", total, term(tap))
            return total
        summed = draft.axis(table.taps, AxisKind.REDUCE)
        return draft.reduce(Monoid.SUM, [summed], term(summed), list(points))

    return value(sorted(tables), list(points))


def _extrapolated(
    draft: Draft, op: Resize, tables: Mapping[int, Table], points: Sequence[Symbol], value: e.Expr
) -> e.Expr:
    """`value`, or the extrapolation value where a coordinate lies outside."""
    if value.dtype.is_float and value.dtype.bits >= 16:
        filler: e.Expr = const(op.extrapolation, value.dtype)
    else:
        filler = convert(const(op.extrapolation, DType.F32), value.dtype)
    for axis, table in tables.items():
        if table.outside is not None:
            value = select(draft.load(table.outside, [points[axis]]), filler, value)
    return value


def _narrow(value: e.Expr, dtype: DType, rounds: bool) -> e.Expr:
    """The result in its type: integers saturate, after rounding or dropping the fraction."""
    if not dtype.is_integer:
        return value
    if dtype.bits == 64:
        # The greatest number that f64 and the type both have.
        limit = float(np.nextafter(2.0 ** (63 if dtype is DType.I64 else 64), 0))
        value = select(compare("gt", value, limit), const(limit, value.dtype), value)
    return cast(value, dtype, e.CastMode.RNE if rounds else e.CastMode.SATURATE)
