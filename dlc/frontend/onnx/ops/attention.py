"""Attention and RotaryEmbedding."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require, require_broadcast, require_equal
from dlc.frontend.onnx.operands import require_shape
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, known_equal, to_text
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.attention import Attention, RotaryEmbedding
from dlc.ir.ops.movement import Pad, Reshape, Transpose
from dlc.ir.ops.pointwise import Cast

#: TensorProto.DataType of softmax_precision -> element type.
PRECISIONS = {1: DType.F32, 10: DType.F16, 11: DType.F64, 16: DType.BF16}


@importer("Attention", since=23)
def attention(ctx: NodeContext) -> Sequence[Value | None]:
    """Scaled dot-product attention; operands of rank 3 are split into heads and joined again.

    The evaluation is in at least float32, so softmax_precision only matters when it asks for float64: then
    all of the attention is computed so.
    """
    q, k, v = (ctx.required(index) for index in range(3))
    packed = q.tensor.rank == 3
    if packed:
        heads, key_heads = ctx.int("q_num_heads"), ctx.int("kv_num_heads")
        q, k, v = (split_heads(ctx, x, count) for x, count in ((q, heads), (k, key_heads), (v, key_heads)))
    elif q.tensor.rank != 4:
        ctx.fail(f"Q must have rank 3 or 4, but is {q.type}")
    for key, value in (("q_num_heads", q), ("kv_num_heads", k)):
        if ctx.has(key) and isinstance(value.tensor.shape[1], int) and ctx.int(key) != value.tensor.shape[1]:
            ctx.fail(f"{key} is {ctx.int(key)}, but the operand has {value.tensor.shape[1]} heads")
    past_k, past_v = ctx.optional(4), ctx.optional(5)
    for operand, what in ((k, "K"), (v, "V"), (past_k, "past_key"), (past_v, "past_value")):
        if operand is not None and operand.tensor.rank != 4:
            ctx.fail(f"{what} must have rank 4 where Q has rank 4, but is {operand.type}")
    past = 0 if past_k is None else past_k.tensor.shape[2]
    total = past + k.tensor.shape[2]
    extra = (_mask(ctx, q, total), past_k, past_v, ctx.optional(6))
    _require_shapes(ctx, q, k, v, extra, past, total)
    outputs = _add_at_precision(ctx, _operator(ctx, q, k, past_k), (q, k, v, *extra),
                                [x.tensor.dtype for x in (q, k, v, q)])
    y = join_heads(ctx, outputs[0]) if packed else outputs[0]
    present = outputs[1:3] if past_k is not None else (k, v)
    return [y, *present, outputs[-1] if ctx.wants(3) else None][:len(ctx.output_names)]


def _require_shapes(ctx: NodeContext, q: Value, k: Value, v: Value, extra: Sequence[Value | None], past: Dim,
                    total: Dim) -> None:
    """Check that the operands of an attention of rank 4 belong together."""
    mask, past_k, past_v, nonpad = extra
    batch, heads, length, width = q.tensor.shape
    _, key_heads, keys, _ = k.tensor.shape
    value_width = v.tensor.shape[3]
    if not known_equal(heads, key_heads):
        message = f"{to_text(heads)} query heads are no multiple of {to_text(key_heads)} key heads"
        require(ctx, Relation.LE, 1, key_heads, message)
        require(ctx, Relation.EQ, heads % key_heads, 0, message)
    require_shape(ctx, k, (batch, key_heads, keys, width), "K")
    require_shape(ctx, v, (batch, key_heads, keys, value_width), "V")
    require_shape(ctx, past_k, (batch, key_heads, past, width), "past_key")
    require_shape(ctx, past_v, (batch, key_heads, past, value_width), "past_value")
    require_shape(ctx, nonpad, (batch,), "nonpad_kv_seqlen")
    if mask is not None:
        require_broadcast(ctx, mask.tensor.shape, (batch, heads, length, total))


def _operator(ctx: NodeContext, *heads: Value | None) -> Attention:
    """The operator that the node's attributes describe; the last extent of `heads` is the head size."""
    if ctx.has("scale"):
        scale = ctx.float("scale")
        if scale < 0:
            ctx.unsupported(f"the scale is {scale}; Q and K are multiplied by its square root")
    else:
        widths = [value.tensor.shape[3] for value in heads if value is not None]
        width = next((extent for extent in widths if isinstance(extent, int)), None)
        if width is None:
            ctx.unsupported("the head size, and so the scale, is not known at compile time",
                            "give Q a static last axis or set the attribute 'scale'")
        scale = 1 / math.sqrt(width) if width else 1.0
    mode = ctx.int("qk_matmul_output_mode", 0)
    if mode not in range(4):
        ctx.fail(f"qk_matmul_output_mode {mode} is none of 0, 1, 2, 3")
    softcap = ctx.float("softcap", 0.0)
    windows = ctx.int("left_window_size", -1), ctx.int("right_window_size", -1)
    if softcap < 0 or min(windows) < -1:
        ctx.fail("softcap must not be negative, and window sizes at least -1")
    return Attention(scale, bool(ctx.int("is_causal", 0)), softcap, mode if ctx.wants(3) else None, *windows)


def _mask(ctx: NodeContext, q: Value, total: Dim) -> Value | None:
    """The mask as bool or in q's type, from opset 24 on lengthened to `total` keys with "do not attend"."""
    mask = ctx.optional(3)
    if mask is None:
        return None
    dtype = q.tensor.dtype
    if mask.tensor.dtype not in (DType.BOOL, dtype):
        mask = ctx.add(Cast(dtype), mask)
    shape = mask.tensor.shape
    if ctx.opset < 24 or not shape or known_equal(shape[-1], total):
        return mask
    require(ctx, Relation.LE, shape[-1], total,
            f"a mask for {to_text(shape[-1])} keys is longer than the {to_text(total)} keys")
    before = (0,) * len(shape)
    after = (*before[1:], total - shape[-1])
    if mask.tensor.dtype is DType.BOOL:
        return ctx.add(Pad(before, after, "constant"), mask, None)
    return ctx.add(Pad(before, after, "constant"), mask, ctx.const(np.asarray(-np.inf), dtype=dtype))


def _add_at_precision(ctx: NodeContext, op: Attention, operands: Sequence[Value | None],
                      dtypes: Sequence[DType]) -> tuple[Value, ...]:
    """Add the operator, between casts to and from float64 when softmax_precision asks for that.

    `dtypes` are those of the results: y, present_k, present_v and scores.
    """
    if ctx.has("softmax_precision"):
        wanted = PRECISIONS.get(ctx.int("softmax_precision"))
        if wanted is None:
            ctx.fail(f"softmax_precision {ctx.int('softmax_precision')} is no floating-point type")
        if wanted is DType.F64 and dtypes[0] is not DType.F64:
            wide = [value if value is None or not value.tensor.dtype.is_float
                    else ctx.add(Cast(DType.F64), value) for value in operands]
            results = ctx.builder.add_all(op, *wide)
            return tuple(ctx.add(Cast(dtype), result) for dtype, result in zip(dtypes, results, strict=False))
    return ctx.builder.add_all(op, *operands)


def split_heads(ctx: NodeContext, x: Value, heads: int) -> Value:
    """[B, S, heads * D] as [B, heads, S, D]."""
    if x.tensor.rank != 3:
        ctx.fail(f"%{x.name} must have rank 3 like Q, but is {x.type}")
    batch, length, hidden = x.tensor.shape
    if heads < 1 or (isinstance(hidden, int) and hidden % heads):
        ctx.fail(f"{hidden} features of %{x.name} are not divisible by {heads} heads")
    return ctx.add(Transpose((0, 2, 1, 3)), ctx.add(Reshape((batch, length, heads, hidden // heads)), x))


def join_heads(ctx: NodeContext, x: Value) -> Value:
    """[B, heads, S, D] as [B, S, heads * D]."""
    batch, heads, length, width = x.tensor.shape
    return ctx.add(Reshape((batch, length, heads * width)), ctx.add(Transpose((0, 2, 1, 3)), x))


@importer("RotaryEmbedding", since=23)
def rotary_embedding(ctx: NodeContext) -> Value:
    """Rotary position embedding of a tensor [B, heads, S, D], or [B, S, heads * D] with num_heads."""
    x = ctx.required(0)
    packed = x.tensor.rank == 3
    if packed:
        x = split_heads(ctx, x, ctx.int("num_heads"))
    elif x.tensor.rank != 4:
        ctx.fail(f"X must have rank 3 or 4, but is {x.type}")
    width, head = ctx.int("rotary_embedding_dim", 0), x.tensor.shape[3]
    if width:
        require(ctx, Relation.LE, width, head, f"{width} of {to_text(head)} features cannot rotate")
    else:  # all features of a head, of which the tables have half
        tables = (ctx.required(index).tensor.shape[-1:] for index in (1, 2))
        widths = [head, *(2 * extent for shape in tables for extent in shape)]
        width = next((extent for extent in widths if isinstance(extent, int)), 0)
        if not width:
            ctx.unsupported("the head size is not known at compile time",
                            "set the attribute 'rotary_embedding_dim'")
        require_equal(ctx, head, width, "the head size and what cos_cache is made for")
    op = RotaryEmbedding(bool(ctx.int("interleaved", 0)), width)
    cos, sin, positions = ctx.required(1), ctx.required(2), ctx.optional(3)
    batch, _, length, _ = x.tensor.shape
    rows = (batch, length) if positions is None else cos.tensor.shape[:1]
    require_shape(ctx, cos, (*rows, width // 2), "cos_cache")
    require_shape(ctx, sin, (*rows, width // 2), "sin_cache")
    require_shape(ctx, positions, (batch, length), "position_ids")
    y = ctx.add(op, x, cos, sin, positions)
    return join_heads(ctx, y) if packed else y
