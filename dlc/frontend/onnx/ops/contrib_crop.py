"""onnxruntime's CropAndResize, which TensorFlow's image.crop_and_resize becomes."""

from __future__ import annotations

import dataclasses

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib
from dlc.frontend.onnx.geometry import require_equal, reshape, static_ints, transposed
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.indexing import GatherND
from dlc.ir.ops.movement import Concat, DimTensor, Expand, Slice
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary, Where


@contrib("CropAndResize", (4, 4), "extrapolation_value mode")
def crop_and_resize(ctx: NodeContext) -> Value:
    """Crops [R, C, h, w] of images [N, C, H, W] at boxes [R, 4] = (y1, x1, y2, x2) in units of H - 1, W - 1.

    A crop's corners are the box's; points outside of the image get the extrapolation value. Mode nearest
    rounds halves away from zero.
    """
    x, boxes, batch = ctx.required(0), ctx.required(1), ctx.required(2)
    size = static_ints(ctx, 3, "the sizes of the crops")
    mode = ctx.string("mode", "bilinear")
    if mode not in ("bilinear", "nearest"):
        ctx.fail(f"mode {mode!r} is neither bilinear nor nearest")
    if x.tensor.rank != 4 or boxes.tensor.rank != 2 or batch.tensor.rank != 1:
        ctx.fail(
            f"images [N, C, H, W], boxes [R, 4] and [R] are needed, not {x.type}, {boxes.type}, {batch.type}"
        )
    if len(size) != 2 or min(size) < 1:
        ctx.fail(f"the size of a crop must be two positive numbers, but is {list(size)}")
    count = batch.tensor.shape[0]
    require_equal(ctx, boxes.tensor.shape[0], count, "the boxes and the images that they are in")
    require_equal(ctx, boxes.tensor.shape[1], 4, "the numbers of a box")
    dtype = DType.F64 if x.tensor.dtype is DType.F64 else DType.F32
    if boxes.tensor.dtype is not dtype:
        boxes = ctx.builder.add(Cast(dtype), boxes)
    points = [
        _Points.of(ctx, boxes, axis, x.tensor.shape[2 + axis], size[axis], nearest=mode == "nearest")
        for axis in range(2)
    ]
    shape: tuple[Dim, ...] = (count, *size, 1)
    places = [_placed(ctx, each, axis) for axis, each in enumerate(points)]
    image = transposed(ctx, x, (0, 2, 3, 1))
    number = reshape(ctx, batch, (count, 1, 1, 1))
    if number.tensor.dtype is not DType.I64:
        number = ctx.builder.add(Cast(DType.I64), number)

    def element(row: Value, column: Value) -> Value:
        """The pixels [R, h, w, C] at the given rows and columns."""
        parts = [ctx.builder.add(Expand(shape), part) for part in (number, row, column)]
        pixels = ctx.builder.add(GatherND(0), image, ctx.builder.add(Concat(3), *parts))
        return pixels if pixels.tensor.dtype is dtype else ctx.builder.add(Cast(dtype), pixels)

    rows, columns = places
    y = element(rows.low, columns.low)
    if mode == "bilinear":
        top = _mixed(ctx, y, element(rows.low, columns.high), columns.share)
        below = element(rows.high, columns.low), element(rows.high, columns.high)
        y = _mixed(ctx, top, _mixed(ctx, *below, columns.share), rows.share)
    outside = ctx.builder.add(Binary("or"), rows.outside, columns.outside)
    fill = ctx.const(ctx.float("extrapolation_value", 0.0), dtype)
    y = transposed(ctx, ctx.builder.add(Where(), outside, fill, y), (0, 3, 1, 2))
    return y if dtype is x.tensor.dtype else ctx.add(Cast(x.tensor.dtype), y)


@dataclasses.dataclass(frozen=True)
class _Points:
    """The sampled points of all boxes along an axis: the elements before and after each (i64), the share of
    the latter, and whether the point is outside."""

    low: Value
    high: Value
    share: Value
    outside: Value

    @classmethod
    def of(cls, ctx: NodeContext, boxes: Value, axis: int, extent: Dim, crop: int, nearest: bool) -> _Points:
        """The points [R, crop]; `nearest` moves each to an element."""
        add, dtype = ctx.builder.add, boxes.tensor.dtype
        last = add(Cast(dtype), add(DimTensor((extent - 1,), ())))
        count = boxes.tensor.shape[0]
        first, end = (
            add(Binary("mul"), add(Slice((0, axis + 2 * side), (count, 1), (1, 1)), boxes), last)
            for side in range(2)
        )
        if crop == 1:
            at = add(Binary("mul"), add(Binary("add"), first, end), ctx.const(0.5, dtype))
        else:
            step = add(Binary("div"), add(Binary("sub"), end, first), ctx.const(crop - 1, dtype))
            numbers = ctx.const(np.arange(crop)[None].astype(dtype.numpy))
            at = add(Binary("add"), first, add(Binary("mul"), step, numbers))
            # Adding steps need not end at the corner exactly.
            at = add(Where(), ctx.const(np.arange(crop)[None] == crop - 1), end, at)
        zero = ctx.const(0, dtype)
        outside = add(Binary("or"), add(Compare("lt"), at, zero), add(Compare("gt"), at, last))
        at = add(Where(), outside, zero, at)
        if nearest:
            before = add(Unary("floor"), at)
            upper = add(Compare("ge"), add(Binary("sub"), at, before), ctx.const(0.5, dtype))
            at = add(Where(), upper, add(Unary("ceil"), at), before)
        low = add(Unary("floor"), at)
        share = add(Binary("sub"), at, low)
        before, after = (add(Cast(DType.I64), end) for end in (low, add(Unary("ceil"), at)))
        return cls(before, after, share, outside)


def _placed(ctx: NodeContext, points: _Points, axis: int) -> _Points:
    """Points of shape [R, crop] as [R, h, 1, 1] or [R, 1, w, 1]."""

    def placed(value: Value) -> Value:
        count, crop = value.tensor.shape
        return reshape(ctx, value, (count, crop, 1, 1) if axis == 0 else (count, 1, crop, 1))

    return _Points(*(placed(getattr(points, field.name)) for field in dataclasses.fields(points)))


def _mixed(ctx: NodeContext, low: Value, high: Value, share: Value) -> Value:
    """low + (high - low) * share."""
    difference = ctx.builder.add(Binary("sub"), high, low)
    return ctx.builder.add(Binary("add"), low, ctx.builder.add(Binary("mul"), difference, share))
