"""Where the taps of Resize lie on an axis and what they weigh, as expressions and tables.

Coordinates are computed as dlc.ir.ops.resize does it, in float32 and in its order of operations, because
rounding decides which element mode "nearest" picks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from dlc.ir.dims import Dim, Symbol, ceildiv, known_equal, maximum
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.resize import TIE, Resize, nearest_position, source_coordinates
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, cast, const, unary
from dlc.lowering.kernel import Monoid
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.interpolation import cubic_weight, inside, linear_weight, number, position_within

#: Extents on which the index arithmetic of a symbolic axis is compared with the coordinates.
_SAMPLES = (1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 64, 127, 129, 1000)
_FACTORS = (2, 3, 4, 5, 6, 7, 8, 16)


def shared_scale(op: Resize, shape: Sequence[Dim], axis: int) -> e.Expr | None:
    """The scale in f32 that `axis` shares with others by the policy; None where it has its own."""
    if op.policy == "stretch" or op.wanted[axis] is None:
        return None
    quotients = [
        binary("div", number(wanted, DType.F32), number(extent, DType.F32))
        for wanted, extent in zip(op.wanted, shape, strict=True)
        if wanted is not None
    ]
    fn = "min" if op.policy == "not_larger" else "max"
    return functools.reduce(lambda left, right: binary(fn, left, right), quotients)


@dataclasses.dataclass(frozen=True)
class ResizedAxis:
    """An axis to be resized: its number, extents before and after, and the scale of coordinates (None: their
    quotient, or that which it shares with other axes).
    """

    axis: int
    extent: Dim
    size: Dim
    scale: float | None
    shared: e.Expr | None = None

    @property
    def known_scale(self) -> np.float32 | None:
        """The scale, where it is a number at compile time."""
        if self.shared is not None:
            return None
        if self.scale is not None:
            return np.float32(self.scale)
        if isinstance(self.size, int) and isinstance(self.extent, int):
            return np.float32(self.size) / np.float32(self.extent)
        return None

    def scale_expression(self) -> e.Expr:
        """The scale in f32."""
        if self.shared is not None:
            return self.shared
        known = self.known_scale
        if known is not None:
            return const(float(known), DType.F32)
        return binary("div", number(self.size, DType.F32), number(self.extent, DType.F32))


# --- index arithmetic instead of coordinates


@dataclasses.dataclass(frozen=True)
class Stride:
    """Position i of the result reads (i * step + first) // divisor."""

    step: int
    first: int
    divisor: int

    def at(self, index: Symbol) -> Dim:
        """The position that `index` reads."""
        return (index * self.step + self.first) // self.divisor


def whole_stride(op: Resize, axis: ResizedAxis) -> Stride | None:
    """The positions of mode "nearest" as index arithmetic, for a factor that is a whole number; else None.

    Known extents are compared at every position; of others only factors that are powers of two are taken,
    whose coordinates are exact in f32 for extents below 2^22.
    """
    if op.mode != "nearest" or op.crops or axis.shared is not None:
        return None
    known = isinstance(axis.extent, int) and isinstance(axis.size, int)
    for factor in _FACTORS:
        if not known and factor & (factor - 1):
            continue
        if known_equal(axis.size, axis.extent * factor):
            extents = (axis.extent,) if isinstance(axis.extent, int) else _SAMPLES
            stride = Stride(1, 0, factor)
            if all(_matches(op, axis, extent, extent * factor, stride) for extent in extents):
                return stride
        if known_equal(axis.extent, axis.size * factor):
            sizes = (axis.size,) if isinstance(axis.size, int) else _SAMPLES
            for stride in (Stride(factor, first, 1) for first in range(factor)):
                if all(_matches(op, axis, size * factor, size, stride) for size in sizes):
                    return stride
    return None


def _matches(op: Resize, axis: ResizedAxis, extent: int, size: int, stride: Stride) -> bool:
    """Whether the coordinates give the positions of `stride`."""
    scale = np.float32(size) / np.float32(extent) if axis.scale is None else np.float32(axis.scale)
    at = source_coordinates(op.coordinates, extent, size, scale)
    positions = np.clip(nearest_position(at, op.nearest), 0, extent - 1)
    return bool(np.array_equal(positions, (np.arange(size) * stride.step + stride.first) // stride.divisor))


# --- coordinates and tables


@dataclasses.dataclass(frozen=True)
class Table:
    """Positions [size, taps] (i64), weights [size, taps] (f32; None: all 1) and, for the mode that leaves
    elements out, whether a result is outside [size] (bool).
    """

    positions: Value
    weights: Value | None
    outside: Value | None
    taps: Dim


def axis_table(draft: Draft, op: Resize, axis: ResizedAxis) -> Table:
    """Stages that compute the table of an axis."""
    name = f"axis{axis.axis}"
    outside = None
    if op.crops:
        i = draft.axis(axis.size)
        at = _coordinate(draft, op, axis, i)
        beyond = compare("gt", at, number(axis.extent - 1, DType.F32))
        outside = draft.temporary(f"{name}.outside", DType.BOOL, [axis.size])
        draft.store(outside, [i], e.Binary(DType.BOOL, "or", compare("lt", at, 0), beyond))
    if op.mode == "nearest":
        i = draft.axis(axis.size)
        position = _nearest(_coordinate(draft, op, axis, i), op.nearest)
        positions = draft.temporary(f"{name}.positions", DType.I64, [axis.size, 1])
        draft.store(positions, [i], position_within(position, axis.extent), [i, 0])
        return Table(positions, None, outside, 1)
    support = _support(op, axis)
    taps = support * 2
    positions = draft.temporary(f"{name}.positions", DType.I64, [axis.size, taps])
    weights = draft.temporary(f"{name}.weights", DType.F32, [axis.size, taps])
    i, t = draft.axis(axis.size), draft.axis(taps)
    position, _ = _tap(draft, op, axis, i, t, support)
    draft.store(positions, [i, t], position_within(position, axis.extent))
    i, t = draft.axis(axis.size), draft.axis(taps)
    position, weight = _tap(draft, op, axis, i, t, support)
    if op.exclude_outside:
        weight = select(inside(position, axis.extent), weight, const(0, DType.F32))
    if op.exclude_outside or op.antialias:
        weight = draft.map(weight, [i, t])
        total = draft.reduce(Monoid.SUM, [t], weight, [i])
        weight = binary("div", weight, select(compare("eq", total, 0), const(1, DType.F32), total))
    draft.store(weights, [i, t], weight)
    return Table(positions, weights, outside, taps)


def _tap(
    draft: Draft, op: Resize, axis: ResizedAxis, i: Symbol, t: Symbol, support: Dim
) -> tuple[e.Expr, e.Expr]:
    """Position (i64, perhaps outside) and weight of tap `t` of `2 * support` for result `i`."""
    at = _coordinate(draft, op, axis, i)
    base = unary("floor", at)
    step = t + 1 - support
    position = binary("add", cast(base, DType.I64, e.CastMode.SATURATE), e.Iota(DType.I64, step))
    offset = number(step, DType.F32)
    distance = binary("sub", offset, binary("sub", at, base))
    if op.antialias:
        distance = binary("mul", distance, _stretch(axis))
    distance = unary("abs", distance)
    if op.mode == "linear":
        weight = linear_weight(distance)
    else:
        weight = cubic_weight(distance, op.cubic_coefficient)
    return position, weight


def _stretch(axis: ResizedAxis) -> e.Expr:
    """How antialiasing shrinks distances: min(scale, 1)."""
    return binary("min", axis.scale_expression(), 1)


def _support(op: Resize, axis: ResizedAxis) -> Dim:
    """Half the number of taps: ceil(reach / stretch).

    Of a symbolic scale it is an upper bound, one more than rounding could make it: the kernels are 0 there.
    """
    reach = 1 if op.mode == "linear" else 2
    if not op.antialias:
        return reach
    known = axis.known_scale
    if known is not None:
        return int(np.ceil(np.float32(reach) / min(known, np.float32(1))))
    if axis.shared is not None:
        # The size was rounded from scale * extent, which may be less by a half.
        return maximum(reach, ceildiv(axis.extent * (2 * reach), maximum(2 * axis.size - 1, 1)) + 1)
    return maximum(reach, ceildiv(axis.extent * reach, axis.size) + 1)


def _coordinate(draft: Draft, op: Resize, axis: ResizedAxis, i: Symbol) -> e.Expr:
    """The position of result `i` in the operand's axis, in f32."""
    x = cast(e.Iota(DType.I64, i), DType.F32)
    scale = axis.scale_expression()
    extent, size = number(axis.extent, DType.F32), number(axis.size, DType.F32)
    last, resized_last = number(axis.extent - 1, DType.F32), number(axis.size - 1, DType.F32)
    match op.coordinates:
        case "asymmetric":
            return binary("div", x, scale)
        case "half_pixel":
            return _half_pixel(x, scale)
        case "tf_half_pixel_for_nn":
            return binary("div", binary("add", x, 0.5), scale)
        case "pytorch_half_pixel":
            return _unless_single(axis, _half_pixel(x, scale), const(0, DType.F32))
        case "align_corners":
            at = binary("div", binary("mul", x, last), resized_last)
            return _unless_single(axis, at, const(0, DType.F32))
        case "half_pixel_symmetric":
            adjustment = binary("div", size, binary("mul", scale, extent))
            offset = binary("mul", binary("div", extent, 2), binary("sub", const(1, DType.F32), adjustment))
            wide = cast(e.Iota(DType.I64, i), DType.F64)
            wide = binary("div", binary("add", wide, 0.5), cast(scale, DType.F64))
            wide = binary("sub", binary("add", cast(offset, DType.F64), wide), 0.5)
            return cast(wide, DType.F32)
    start, end = _window(draft, axis)
    inner = binary("div", binary("mul", binary("mul", x, binary("sub", end, start)), last), resized_last)
    centre = binary("mul", binary("mul", const(0.5, DType.F32), binary("add", start, end)), last)
    at = _unless_single(axis, binary("add", binary("mul", start, last), inner), centre)
    if not known_equal(axis.extent, axis.size) or axis.scale not in (None, 1.0):
        return at
    whole = e.Binary(DType.BOOL, "and", compare("eq", start, 0), compare("eq", end, 1))
    return select(whole, x, at)


def _half_pixel(x: e.Expr, scale: e.Expr) -> e.Expr:
    return binary("sub", binary("div", binary("add", x, 0.5), scale), 0.5)


def _unless_single(axis: ResizedAxis, at: e.Expr, single: e.Expr) -> e.Expr:
    """`at`, or `single` where the result has one element only."""
    if isinstance(axis.size, int):
        return at if axis.size > 1 else single
    return select(compare("gt", e.Iota(DType.I64, axis.size), 1), at, single)


def _window(draft: Draft, axis: ResizedAxis) -> tuple[e.Expr, e.Expr]:
    """Start and end of the region of interest on an axis, in f32."""
    roi = draft.operand(1)
    rank = draft.operand(0).tensor.rank
    places = (axis.axis, axis.axis + rank)
    start, end = (
        cast(draft.load(roi, [place]), DType.F32)
        if roi.data is None
        else const(float(np.float32(roi.data[place])), DType.F32)
        for place in places
    )
    return start, end


def _nearest(at: e.Expr, nearest: str) -> e.Expr:
    """The integer (i64) that `nearest` picks for a coordinate; near a half it is taken as that half."""
    below = unary("floor", at)
    fraction = binary("sub", at, below)
    half = np.float32(0.5)
    match nearest:
        case "round_prefer_floor":
            up = compare("gt", fraction, float(half + TIE))
            below = select(up, binary("add", below, 1), below)
        case "round_prefer_ceil":
            up = compare("ge", fraction, float(half - TIE))
            below = select(up, binary("add", below, 1), below)
        case "ceil":
            below = unary("ceil", at)
    return cast(below, DType.I64, e.CastMode.SATURATE)
