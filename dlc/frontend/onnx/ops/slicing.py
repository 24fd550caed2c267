"""Importers of the operators that take a window of a tensor or put a border around it."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import (
    FAR,
    clamp,
    from_front,
    many_axes,
    require,
    reshape,
    static_ints,
)
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, ceildiv, maximum, minimum, to_text
from dlc.ir.graph import Value
from dlc.ir.ops.movement import PAD_MODES, Pad, Slice


@importer("Slice", since=1)
def slice_attributes(ctx: NodeContext) -> Value:
    """Starts, ends and axes are attributes; steps are 1."""
    starts, ends = ctx.ints("starts"), ctx.ints("ends")
    axes = ctx.ints("axes", tuple(range(len(starts))))
    return _slice(ctx, starts, ends, axes, (1,) * len(starts))


@importer("Slice", since=10)
def slice_operands(ctx: NodeContext) -> Value:
    """Starts, ends, axes and steps are operands; axes and steps must be known at compile time."""
    starts, ends = ctx.dims(1), ctx.dims(2)
    axes = tuple(range(len(starts))) if ctx.optional(3) is None else static_ints(ctx, 3, "axes")
    steps = (1,) * len(starts) if ctx.optional(4) is None else static_ints(ctx, 4, "steps")
    return _slice(ctx, starts, ends, axes, steps)


def _slice(ctx: NodeContext, starts: Sequence[Dim], ends: Sequence[Dim], axes: Sequence[int],
           steps: Sequence[int]) -> Value:
    x = ctx.required(0)
    shape = x.tensor.shape
    if not len(starts) == len(ends) == len(axes) == len(steps):
        ctx.fail(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps do not match")
    if 0 in steps:
        ctx.fail("a step is 0")
    first: list[Dim] = [0] * len(shape)
    extents, strides = list(shape), [1] * len(shape)
    for axis, start, end, step in zip(many_axes(ctx, axes, len(shape)), starts, ends, steps):
        first[axis], extents[axis] = window(start, end, step, shape[axis])
        strides[axis] = step
    if all(start == 0 for start in first) and tuple(extents) == shape and set(strides) <= {1}:
        return x
    return ctx.add(Slice(tuple(first), tuple(extents), tuple(strides)), x)


def window(start: Dim, end: Dim, step: int, extent: Dim) -> tuple[Dim, Dim]:
    """(first position, number of elements) of the standard's slice start:end:step of an axis of `extent`.

    Negative bounds count from the end. Then, for a positive step, start and end are clamped to 0 .. extent,
    and for a negative one to 0 .. extent - 1 and -1 .. extent - 1.
    """
    if step > 0:
        first = clamp(_bound(start, extent), 0, extent)
        last = clamp(_bound(end, extent), 0, extent)
        return first, maximum(ceildiv(last - first, step), 0)
    first = clamp(_bound(start, extent), 0, extent - 1)
    last = clamp(_bound(end, extent), -1, extent - 1)
    return first, maximum(ceildiv(first - last, -step), 0)


def _bound(index: Dim, extent: Dim) -> Dim:
    """A bound counted from the front; those that mean "as far as possible" become the ends of the axis."""
    if isinstance(index, int) and not isinstance(extent, int):
        if index >= FAR:
            return extent
        if index <= -FAR:
            return -1
    return from_front(index, extent)


@importer("Pad")
def pad_attributes(ctx: NodeContext) -> Value:
    """Pads (called `paddings` in opset 1) and value are attributes."""
    x = ctx.required(0)
    value = ctx.const(np.array(ctx.float("value", 0.0)), x.tensor.dtype)
    return _pad(ctx, ctx.ints("paddings" if ctx.opset < 2 else "pads"), tuple(range(x.tensor.rank)), value)


@importer("Pad", since=11)
def pad_operands(ctx: NodeContext) -> Value:
    """Pads, value and (opset 18) axes are operands; the axes must be known at compile time."""
    rank = ctx.required(0).tensor.rank
    axes = tuple(range(rank)) if ctx.optional(3) is None else static_ints(ctx, 3, "axes")
    axes, value = many_axes(ctx, axes, rank), ctx.optional(2)
    return _pad(ctx, ctx.dims(1), axes, None if value is None else reshape(ctx, value, (), "pad_value"))


def _pad(ctx: NodeContext, pads: Sequence[Dim], axes: Sequence[int], value: Value | None) -> Value:
    """Pads are all befores, then all afters. Negative ones cut elements off before the others are added.

    Where one side cuts off more than there is, the rest is cut off what the other side adds.
    """
    x = ctx.required(0)
    mode = ctx.string("mode", "constant")
    if mode not in PAD_MODES or (mode == "wrap" and ctx.opset < 19):
        ctx.fail(f"mode {mode!r} does not exist at opset {ctx.opset}")
    if len(pads) != 2 * len(axes):
        ctx.fail(f"{len(pads)} pads are given for {len(axes)} axes")
    shape = x.tensor.shape
    before: list[Dim] = [0] * len(shape)
    after, starts, extents = list(before), list(before), list(shape)
    for axis, low, high in zip(axes, pads, pads[len(axes):]):
        extent = shape[axis]
        require(ctx, Relation.LE, 0, extent + low + high,
                f"pads {to_text(low)} and {to_text(high)} cut off more than axis {axis} of {x.type} has")
        starts[axis] = minimum(maximum(-low, 0), extent)
        end = maximum(minimum(extent + high, extent), starts[axis])
        extents[axis] = end - starts[axis]
        before[axis] = maximum(low, 0) - (end - minimum(extent + high, extent))
        after[axis] = maximum(high, 0) - (maximum(-low, 0) - starts[axis])
        if mode != "constant":
            require(ctx, Relation.LE, minimum(before[axis] + after[axis], 1), extents[axis],
                    f"mode {mode!r} cannot pad axis {axis} of {x.type} where it has no elements")
    if tuple(extents) != shape:
        x = ctx.builder.add(Slice(tuple(starts), tuple(extents), (1,) * len(shape)), x, names=["cropped"])
    if all(pad == 0 for pad in (*before, *after)):
        return x
    return ctx.add(Pad(tuple(before), tuple(after), mode), x, value if mode == "constant" else None)


@importer("CenterCropPad", since=18)
def center_crop_pad(ctx: NodeContext) -> Value:
    """Cut or pad `axes` evenly on both sides to the wanted extents; of odd numbers the end takes more."""
    x, wanted = ctx.required(0), ctx.dims(1)
    rank = x.tensor.rank
    axes = many_axes(ctx, ctx.ints("axes", tuple(range(rank))), rank)
    if len(wanted) != len(axes):
        ctx.fail(f"{len(wanted)} extents are given for {len(axes)} axes")
    starts: list[Dim] = [0] * rank
    before, after, extents = list(starts), list(starts), list(x.tensor.shape)
    for axis, target in zip(axes, wanted):
        extent = extents[axis]
        missing = maximum(target - extent, 0)
        starts[axis] = maximum(extent - target, 0) // 2
        extents[axis] = minimum(extent, target)
        before[axis] = missing // 2
        after[axis] = missing - before[axis]
    window = Slice(tuple(starts), tuple(extents), (1,) * rank)
    x = ctx.builder.add(window, x, names=["cropped"])
    return ctx.add(Pad(tuple(before), tuple(after), "constant"), x, None)
