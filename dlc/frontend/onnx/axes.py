"""Axes that count from either end, made to count from the front."""
from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.ir.graph import Value
from dlc.ir.operator import InferenceError, normalize_axis


def front_axis(ctx: NodeContext, axis: int, rank: int) -> int:
    """`axis` counted from the front; ModelError when a tensor of `rank` has no such axis."""
    try:
        return normalize_axis(axis, rank)
    except InferenceError as error:
        ctx.fail(str(error))


def axis_attribute(ctx: NodeContext, x: Value, default: int | None) -> int:
    """The attribute `axis` for the tensor `x`, counted from the front."""
    return front_axis(ctx, ctx.int("axis", default), x.tensor.rank)
