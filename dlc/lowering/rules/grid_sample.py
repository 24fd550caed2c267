"""Kernels of GridSample: loads at positions that the grid gives, weighted."""

from __future__ import annotations

import dataclasses
import itertools

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.grid_sample import GridSample
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, arithmetic_dtype, binary, cast, const, unary
from dlc.lowering.expr import Index
from dlc.lowering.rules.formulas import clip, compare, select
from dlc.lowering.rules.interpolation import cubic_weight, inside, linear_weight, number, position_within
from dlc.lowering.rules.registry import rule

#: Coordinates are limited to this before they become integers, so that nan, inf and far ones are safe.
_FAR = float(2**30)
_REACH = {"nearest": 0, "linear": 1, "cubic": 2}


@dataclasses.dataclass(frozen=True)
class _Tap:
    """An element along one axis: its position (i64, within the axis), whether it counts (None: always), and
    its weight.
    """

    position: e.Expr
    valid: e.Expr | None
    weight: e.Expr


@rule(GridSample)
def grid_sample(draft: Draft, node: Node) -> None:
    """y[n, c, at] = sum over the taps of all axes of their weights * x[n, c, positions]."""
    assert isinstance(node.op, GridSample)
    op, x, grid, target = node.op, draft.operand(0), draft.operand(1), node.outputs[0]
    n, c, *at = draft.axes_of(target.tensor.shape)
    rank = x.tensor.rank - 2
    taps = [
        _taps(op, draft.load_arithmetic(grid, [n, *at, rank - 1 - axis]), extent)
        for axis, extent in enumerate(x.tensor.shape[2:])
    ]
    dtype = x.tensor.dtype if op.mode == "nearest" else arithmetic_dtype(x.tensor.dtype)
    total: e.Expr | None = None
    for corner in itertools.product(*taps):
        index: list[Index] = [n, c, *(tap.position for tap in corner)]
        picked = cast(draft.load(x, index), dtype)
        for tap in corner:
            if tap.valid is not None:
                picked = select(tap.valid, picked, const(0, dtype))
        if op.mode != "nearest":
            weight = cast(corner[0].weight, dtype)
            for tap in corner[1:]:
                weight = binary("mul", weight, cast(tap.weight, dtype))
            picked = binary("mul", weight, picked)
        total = picked if total is None else binary("add", total, picked)
    assert total is not None
    draft.store(target, [n, c, *at], total)


def _taps(op: GridSample, at: e.Expr, extent: Dim) -> list[_Tap]:
    """The taps on an axis of `extent` for a scaled coordinate."""
    dtype = at.dtype
    last = number(extent - 1, dtype)
    at = binary("add", at, 1)
    if op.align_corners:
        at = binary("mul", binary("div", at, 2), last)
    else:
        at = binary("div", binary("sub", binary("mul", at, number(extent, dtype)), 1), 2)
    if op.mode == "nearest":
        at = unary("round", at)
    if op.padding == "border" and op.mode != "cubic":
        low = select(compare("lt", at, 0), const(0, dtype), at)
        at = select(compare("gt", low, last), last, low)
    elif op.padding == "reflection":
        at = _reflected(at, extent, op.align_corners)
    base = unary("floor", at)
    fraction = binary("sub", at, base)
    safe = clip(select(unary("is_nan", base), const(-_FAR, dtype), base), -_FAR, _FAR)
    first = cast(cast(safe, DType.I32, e.CastMode.SATURATE), DType.I64)
    reach = _REACH[op.mode]
    result = []
    for offset in range(1 - reach, reach + 1) if reach else (0,):
        distance = unary("abs", binary("sub", const(offset, dtype), fraction))
        weight = linear_weight(distance) if reach < 2 else cubic_weight(distance, -0.75)
        weight = select(unary("is_nan", fraction), fraction, weight)
        position = binary("add", first, offset)
        valid = inside(position, extent) if op.padding == "zeros" else None
        if op.padding == "reflection":
            position = _reflected_position(position, extent, op.align_corners)
        result.append(_Tap(position_within(position, extent), valid, weight))
    return result


def _reflected(at: e.Expr, extent: Dim, align_corners: bool) -> e.Expr:
    """A coordinate outside of the borders, folded back until it is inside."""
    dtype = at.dtype
    low = const(0 if align_corners else -0.5, dtype)
    span = number(extent - 1 if align_corners else extent, dtype)
    high = binary("add", low, span)
    below = compare("lt", at, low)
    beyond = select(below, binary("sub", low, at), binary("sub", at, high))
    turns = _truncated(binary("div", beyond, span))
    rest = binary("sub", beyond, binary("mul", turns, span))
    even = compare("eq", binary("fmod", turns, 2), 0)
    from_low = e.Binary(DType.BOOL, "xor", below, unary("not", even))
    folded = select(from_low, binary("add", low, rest), binary("sub", high, rest))
    outside = e.Binary(DType.BOOL, "or", below, compare("gt", at, high))
    result = select(outside, folded, at)
    if not align_corners or (isinstance(extent, int) and extent != 1):
        return result
    finite = compare("lt", unary("abs", at), float("inf"))
    single = select(finite, const(0, dtype), at)
    return select(compare("eq", span, 0), single, result)


def _truncated(x: e.Expr) -> e.Expr:
    """`x` without its fraction."""
    return select(compare("lt", x, 0), unary("ceil", x), unary("floor", x))


def _reflected_position(position: e.Expr, extent: Dim, align_corners: bool) -> e.Expr:
    """The element that a position outside of an axis mirrors: about the outer elements, or their edges."""
    narrow = cast(position, DType.I32)
    count = e.Iota(DType.I32, extent)
    one = const(1, DType.I32)
    if align_corners:
        period = binary("mul", binary("sub", count, one), 2)
        along = binary("mod", narrow, period)
        mirrored = binary("min", along, binary("sub", period, along))
    else:
        period = binary("mul", count, 2)
        along = binary("mod", narrow, period)
        mirrored = binary("min", along, binary("sub", binary("sub", period, one), along))
    return cast(mirrored, DType.I64)
