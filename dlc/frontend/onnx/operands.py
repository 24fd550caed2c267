"""Operands that have to fit others: broadcasting and vectors of channels."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require, require_broadcast, require_equal, reshape
from dlc.ir.dims import Dim, Relation, known_equal, to_text
from dlc.ir.graph import Value


def broadcast_operands(ctx: NodeContext, *operands: Value) -> tuple[Value, ...]:
    """`operands`, checked to broadcast together."""
    shape: Sequence[Dim] = ()
    for operand in operands:
        shape = require_broadcast(ctx, shape, operand.tensor.shape)
    return operands


def limited_broadcast_operands(ctx: NodeContext) -> tuple[Value, Value]:
    """The two operands of an operator of opsets 1 to 6, the second so that it broadcasts as in NumPy.

    Without the attribute `broadcast` both have one shape. With it the second one has a single element, or the
    shape of consecutive axes of the first: from `axis` on, or the last ones. "1-dim expansion doesn't work
    yet", say these opsets, but their own test cases have extents of 1 that expand.
    """
    left, right = ctx.required(0), ctx.required(1)
    rank, narrow = left.tensor.rank, right.tensor.rank
    if not ctx.int("broadcast", 0):
        require_shape(ctx, right, left.tensor.shape, "B")
        return left, right
    if narrow > rank:
        ctx.fail(f"B of type {right.type} has more axes than A of type {left.type}")
    if right.tensor.elements == 1:
        return left, right
    axis = ctx.int("axis", rank - narrow)
    if not 0 <= axis <= rank - narrow:
        ctx.fail(f"B of type {right.type} has no place from axis {axis} on in A of type {left.type}")
    placed = reshape(ctx, right, (*right.tensor.shape, *[1] * (rank - axis - narrow)))
    require_fits(ctx, placed, left, "B")
    return left, placed


def require_fits(ctx: NodeContext, operand: Value, x: Value, what: str) -> None:
    """Check that `operand` broadcasts to the shape of `x` (unidirectional broadcasting)."""
    if operand.tensor.rank > x.tensor.rank:
        ctx.fail(f"{what} {operand.type} does not broadcast to {x.type}")
    for extent, wanted in zip(reversed(operand.tensor.shape), reversed(x.tensor.shape)):
        if extent != 1 and not known_equal(extent, wanted):
            message = f"{what} with extent {to_text(extent)} does not broadcast to {to_text(wanted)}"
            require(ctx, Relation.EQ, (extent - wanted) * (extent - 1), 0, message)


def require_shape(ctx: NodeContext, operand: Value | None, shape: Sequence[Dim], what: str) -> None:
    """Check that `operand`, unless absent, has the given shape."""
    if operand is None:
        return
    if operand.tensor.rank != len(shape):
        ctx.fail(f"{what} must have rank {len(shape)}, but is {operand.type}")
    for axis, (extent, wanted) in enumerate(zip(operand.tensor.shape, shape)):
        require_equal(ctx, extent, wanted, f"the extent of axis {axis} of {what} and what it belongs to")


def require_channels(ctx: NodeContext, vector: Value, channels: Dim, what: str) -> None:
    """Check that `vector` holds a number for each of `channels`."""
    if vector.tensor.rank != 1:
        ctx.fail(f"{what} must have rank 1, but is {vector.type}")
    require_equal(ctx, vector.tensor.shape[0], channels, f"the extent of {what} and the number of channels")


def channel_operands(ctx: NodeContext, count: int) -> list[Value]:
    """The first `count` operands: x and vectors that hold a number for each channel."""
    x, *vectors = (ctx.required(index) for index in range(count))
    channels = x.tensor.shape[1] if x.tensor.rank > 1 else 1
    for index, vector in enumerate(vectors, start=1):
        require_channels(ctx, vector, channels, f"operand {index}")
    return [x, *vectors]
