"""Axes of nodes: attributes and operands that count from either end, made to count from the front."""
from __future__ import annotations

from collections.abc import Iterable

from dlc.frontend.onnx.context import NodeContext
from dlc.ir.graph import Value
from dlc.ir.operator import InferenceError, normalize_axis


def front_axis(ctx: NodeContext, axis: int, rank: int) -> int:
    """`axis` counted from the front of a tensor of `rank`; ModelError when it is outside."""
    try:
        return normalize_axis(axis, rank)
    except InferenceError as error:
        ctx.fail(str(error))


def front_axes(ctx: NodeContext, axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """`axes` counted from the front, ascending; ModelError when one is outside or occurs twice."""
    counted = sorted(front_axis(ctx, axis, rank) for axis in axes)
    if len(set(counted)) < len(counted):
        ctx.fail(f"an axis is named twice in {counted}")
    return tuple(counted)


def axis_attribute(ctx: NodeContext, x: Value, default: int | None) -> int:
    """The attribute `axis` for the tensor `x`, counted from the front."""
    return front_axis(ctx, ctx.int("axis", default), x.tensor.rank)


def axes_operand(ctx: NodeContext, index: int) -> tuple[int, ...] | None:
    """The numbers in operand `index`, None when absent; UnsupportedError when they are run-time data."""
    if ctx.optional(index) is None:
        return None
    content = ctx.known_dims(index)
    if content is None:
        ctx.unsupported(f"operand {index} (axes) is computed at run time", "make it a constant")
    axes = content.reshape(-1).tolist()
    if not all(isinstance(axis, int) for axis in axes):
        ctx.unsupported(f"operand {index} (axes) depends on the shape of an input", "make it a constant")
    return tuple(axes)
