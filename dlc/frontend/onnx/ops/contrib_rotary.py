"""onnxruntime's RotaryEmbedding, alone and as a part of attention."""

from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, refuse
from dlc.frontend.onnx.geometry import reshape
from dlc.frontend.onnx.operands import require_shape
from dlc.frontend.onnx.ops.attention import join_heads, split_heads
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.attention import RotaryEmbedding
from dlc.ir.ops.movement import Expand, Range
from dlc.ir.ops.pointwise import Binary, Cast


@contrib(
    "RotaryEmbedding",
    (4, 4),
    "interleaved is_packed_batching num_heads rotary_embedding_dim scale",
)
def rotary_embedding(ctx: NodeContext) -> Value:
    """Rotation of [B, S, H * D] or [B, H, S, D] at positions [B, S], or from one position [1] on."""
    refuse(ctx, "is_packed_batching", 0, "give each sequence a row of the batch")
    refuse(ctx, "scale", 1.0)
    x, cos = ctx.required(0), ctx.required(2)
    if cos.tensor.rank != 2 or x.tensor.rank not in (3, 4):
        ctx.fail(f"x must have rank 3 or 4 and the tables rank 2, but they are {x.type} and {cos.type}")
    rotated: Dim = ctx.int("rotary_embedding_dim", 0)
    packed = x.tensor.rank == 3
    if packed:
        heads: Dim = ctx.int("num_heads", 0)
        if rotated and not heads:
            ctx.fail("rotary_embedding_dim needs num_heads")
        if not heads:
            heads = x.tensor.shape[2] // (cos.tensor.shape[1] * 2)
        if not isinstance(heads, int):
            ctx.unsupported("the number of heads is not known at compile time", "set num_heads")
        x = split_heads(ctx, x, heads)
    batch, _, length, size = x.tensor.shape
    y = rotate(ctx, x, cos, ctx.required(3), positions(ctx, ctx.required(1), batch, length), rotated or size)
    return join_heads(ctx, y) if packed else y


def positions(ctx: NodeContext, given: Value, batch: Dim, length: Dim) -> Value:
    """Positions [B, S], which `given` lists, or counts from its only element."""
    if given.tensor.rank == 2:
        require_shape(ctx, given, (batch, length), "the positions")
        return given
    if given.tensor.elements != 1:
        ctx.fail(f"the positions must be [batch, length] or one number, but are {given.type}")
    dtype = given.tensor.dtype
    steps = ctx.builder.add(Range(length), ctx.const(0, dtype), ctx.const(1, dtype))
    line = ctx.builder.add(Binary("add"), reshape(ctx, given, (1,)), steps)
    return ctx.builder.add(Expand((batch, length)), line)


def rotate(
    ctx: NodeContext,
    x: Value,
    cos: Value,
    sin: Value,
    at: Value,
    width: Dim,
    interleaved: str = "interleaved",
) -> Value:
    """Rotate the first `width` features of x [B, H, S, D] by the rows `at` [B, S] of the tables.

    `interleaved` names the attribute that says which features make a pair.
    """
    if not isinstance(width, int):
        ctx.unsupported("the number of rotated features is not known at compile time")
    for table, what in ((cos, "cos_cache"), (sin, "sin_cache")):
        require_shape(ctx, table, (cos.tensor.shape[0], width // 2), what)
    if at.tensor.dtype is not DType.I64:
        at = ctx.builder.add(Cast(DType.I64), at)
    operator = RotaryEmbedding(bool(ctx.int(interleaved, 0)), width)
    return ctx.builder.add(operator, x, cos, sin, at)
