"""Importers of operators that move whole elements: transposition, joining, splitting, repetition, order."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.axes import axis_attribute, front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import (
    clamp,
    only_since,
    require_broadcast,
    require_equal,
    static_ints,
    transposed,
)
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, ceildiv, floordiv, total
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Concat, Expand, ReverseSequence, Slice, Tile, Trilu


@importer("Transpose")
def transpose(ctx: NodeContext) -> Value:
    """Permute the axes, by default reverse them."""
    x = ctx.required(0)
    perm = ctx.ints("perm", tuple(reversed(range(x.tensor.rank))))
    if sorted(perm) != list(range(x.tensor.rank)):
        ctx.fail(f"perm {list(perm)} is no permutation of the axes of {x.type}")
    return transposed(ctx, x, perm)


@importer("Expand")
def expand(ctx: NodeContext) -> Value:
    """Broadcast the operand and the requested shape to each other."""
    x = ctx.required(0)
    shape = require_broadcast(ctx, x.tensor.shape, ctx.dims(1))
    return x if shape == x.tensor.shape else ctx.add(Expand(shape), x)


@importer("Tile")
def tile_along_axis(ctx: NodeContext) -> Value:
    """Repeat the operand `tiles` times along `axis`, both operands that hold one number."""
    x, (count,) = ctx.required(0), ctx.dims_of(ctx.single(1))
    (axis,) = static_ints(ctx, 2, "the axis")
    repeats: list[Dim] = [1] * x.tensor.rank
    repeats[front_axis(ctx, axis, x.tensor.rank)] = count
    return x if count == 1 else ctx.add(Tile(tuple(repeats)), x)


@importer("Tile", since=6)
def tile(ctx: NodeContext) -> Value:
    """Repeat the operand along each axis."""
    x, repeats = ctx.required(0), ctx.dims(1)
    return x if all(count == 1 for count in repeats) else ctx.add(Tile(repeats), x)


@importer("Concat")
def concat(ctx: NodeContext) -> Value:
    """Join along `axis`, before opset 4 by default 1; the other extents must agree."""
    parts = [ctx.required(index) for index in range(len(ctx.operands))]
    if not parts:
        ctx.fail("there is nothing to concatenate")
    first = parts[0].tensor
    axis = axis_attribute(ctx, parts[0], 1 if ctx.opset < 4 else None)
    for part in parts[1:]:
        for other, (left, right) in enumerate(zip(first.shape, part.tensor.shape)):
            if other != axis:
                require_equal(ctx, left, right, f"extents of axis {other}")
    return parts[0] if len(parts) == 1 else ctx.add(Concat(axis), *parts)


@importer("Split")
def split(ctx: NodeContext) -> list[Value]:
    """Cut along `axis` into parts of the given extents, or into as many even parts as there are outputs.

    Opset 1 has no default for `axis`, which here is 0 as in all later ones, and takes the extents as an
    attribute or an operand.
    """
    x = ctx.required(0)
    shape = x.tensor.shape
    axis = front_axis(ctx, ctx.int("axis", 0), len(shape))
    count = len(ctx.output_names)
    only_since(ctx, 18, "num_outputs")
    extents: Sequence[Dim] | None = None
    if ctx.has("split"):
        extents = ctx.ints("split")
    elif ctx.optional(1) is not None:
        extents = ctx.dims(1)
    if extents is None:
        extents = _even_parts(ctx, shape[axis], count)
    elif ctx.has("num_outputs"):
        ctx.fail("split and num_outputs exclude each other")
    if len(extents) != count:
        ctx.fail(f"{len(extents)} extents are given for {count} outputs")
    require_equal(ctx, total(extents), shape[axis], "the sum of the parts and the extent to split")
    parts: list[Value] = []
    start: Dim = 0
    for name, extent in zip(ctx.output_names, extents):
        starts = tuple(start if other == axis else 0 for other in range(len(shape)))
        window = Slice(starts, (*shape[:axis], extent, *shape[axis + 1:]), (1,) * len(shape))
        parts.append(ctx.builder.add(window, x, names=[name or "unused"]))
        start = start + extent
    return parts


def _even_parts(ctx: NodeContext, extent: Dim, count: int) -> list[Dim]:
    """Extents of `count` parts: equal ones before opset 18, else rounded up with a smaller last one."""
    if ctx.opset < 18:
        part = floordiv(extent, count)
        require_equal(ctx, extent, part * count, f"the extent and a multiple of {count} parts")
        return [part] * count
    if ctx.int("num_outputs", count) != count:
        ctx.fail(f"num_outputs is {ctx.int('num_outputs')}, but the node has {count} outputs")
    part = ceildiv(extent, count)
    return [clamp(extent - index * part, 0, part) for index in range(count)]


@importer("Trilu", since=14)
def trilu(ctx: NodeContext) -> Value:
    """Keep the upper or lower triangle of the last two axes."""
    (k,) = ctx.dims_of(ctx.single(1)) if ctx.optional(1) is not None else (0,)
    return ctx.add(Trilu(bool(ctx.int("upper", 1)), k), ctx.required(0))


@importer("ReverseSequence", since=10)
def reverse_sequence(ctx: NodeContext) -> Value:
    """Reverse a prefix of each batch entry along the time axis."""
    x = ctx.required(0)
    batch = front_axis(ctx, ctx.int("batch_axis", 1), x.tensor.rank)
    time = front_axis(ctx, ctx.int("time_axis", 0), x.tensor.rank)
    return ctx.add(ReverseSequence(batch, time), x, ctx.required(1))
