"""FlexAttention of ai.onnx.preview: attention whose scores and probabilities pass through subgraphs."""

from __future__ import annotations

import math

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib
from dlc.frontend.onnx.geometry import require_equal, reshape
from dlc.frontend.onnx.operands import require_shape
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.attention import Attention
from dlc.ir.ops.common import FLOATS
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.movement import Transpose
from dlc.ir.ops.normalization import Softmax
from dlc.ir.ops.pointwise import Binary, Cast

PREVIEW = "ai.onnx.preview"


@contrib("FlexAttention", (3, 3), "scale softmax_precision score_mod prob_mod", domain=PREVIEW)
def flex_attention(ctx: NodeContext) -> Value:
    """Y = prob_mod(softmax(score_mod(scale Q K^T))) V of operands of rank 4.

    Products of narrow floats are not rounded before `softmax_precision`, by default f32 (f64 for f64). With
    that and without subgraphs it is the attention of the standard.
    """
    q, k, v = _operands(ctx)
    scale, precision = _scale(ctx, q), _precision(ctx, q.tensor.dtype)
    dtype = q.tensor.dtype
    plain = not ctx.has("score_mod") and not ctx.has("prob_mod")
    if plain and scale >= 0 and precision is (DType.F64 if dtype is DType.F64 else DType.F32):
        return ctx.add(Attention(scale), q, k, v)
    # In the wider of the two types; the softmax in the one that is asked for.
    wide = max(dtype, precision, key=lambda each: each.bits)
    batch, heads, queries, width = q.tensor.shape
    _, key_heads, keys, values = v.tensor.shape
    groups = heads // key_heads
    q, k = (_converted(ctx, x, wide) for x in (q, k))
    q = reshape(ctx, q, (batch, key_heads, groups, queries, width), "groups")
    k = reshape(ctx, ctx.add(Transpose((0, 1, 3, 2)), k), (batch, key_heads, 1, width, keys), "keys")
    scores = ctx.add(Binary("mul"), ctx.add(MatMul(), q, k), ctx.const(scale, wide))
    scores = _converted(ctx, reshape(ctx, scores, (batch, heads, queries, keys), "scores"), precision)
    probabilities = _modified(ctx, "prob_mod", ctx.add(Softmax(3), _modified(ctx, "score_mod", scores)))
    grouped = reshape(ctx, probabilities, (batch, key_heads, groups, queries, keys), "grouped")
    v = reshape(ctx, _converted(ctx, v, precision), (batch, key_heads, 1, keys, values), "values")
    y = reshape(ctx, ctx.add(MatMul(), grouped, v), (batch, heads, queries, values))
    return _converted(ctx, y, dtype)


def _operands(ctx: NodeContext) -> tuple[Value, Value, Value]:
    """Q [B, Hq, L, E], K [B, Hk, S, E] and V [B, Hk, S, Ev], checked to belong together."""
    q, k, v = (ctx.required(index) for index in range(3))
    for operand, what in ((q, "Q"), (k, "K"), (v, "V")):
        if operand.tensor.rank != 4 or operand.tensor.dtype not in FLOATS:
            ctx.fail(f"{what} must be floats of rank 4, but is {operand.type}")
        if operand.tensor.dtype is not q.tensor.dtype:
            ctx.fail(f"{what} must be of the type of Q, but is {operand.type}")
    batch, heads, _, width = q.tensor.shape
    _, key_heads, keys, _ = k.tensor.shape
    require_shape(ctx, k, (batch, key_heads, keys, width), "K")
    require_shape(ctx, v, (batch, key_heads, keys, v.tensor.shape[3]), "V")
    if not isinstance(key_heads, int) or not isinstance(heads, int) or key_heads < 1:
        ctx.unsupported(f"the numbers of heads, {heads} and {key_heads}, are not known at compile time")
    require_equal(ctx, heads, heads // key_heads * key_heads, "the heads of Q and a multiple of those of K")
    return q, k, v


def _scale(ctx: NodeContext, q: Value) -> float:
    """The attribute, by default 1 / sqrt(head size)."""
    if ctx.has("scale"):
        return ctx.float("scale")
    width = q.tensor.shape[3]
    if not isinstance(width, int):
        hint = "give Q a static last axis or set the attribute 'scale'"
        ctx.unsupported("the head size, and so the scale, is not known at compile time", hint)
    return 1 / math.sqrt(width) if width else 1.0


def _precision(ctx: NodeContext, dtype: DType) -> DType:
    precision = ctx.dtype("softmax_precision", DType.F64 if dtype is DType.F64 else DType.F32)
    if precision not in FLOATS:
        ctx.fail(f"softmax_precision must be a floating-point type, but is {precision.text}")
    return precision


def _converted(ctx: NodeContext, x: Value, dtype: DType) -> Value:
    return x if x.tensor.dtype is dtype else ctx.add(Cast(dtype), x)


def _modified(ctx: NodeContext, key: str, x: Value) -> Value:
    """What the subgraph makes of `x`, a tensor of the same type; `x` itself without a subgraph."""
    if not ctx.has(key):
        return x
    results = ctx.importer.inline(ctx.graph(key), ctx, (x,))
    if len(results) != 1:
        ctx.fail(f"the subgraph {key} must have one output, but has {len(results)}")
    (result,) = results
    if result.tensor.dtype is not x.tensor.dtype:
        ctx.fail(f"the subgraph {key} turns {x.type} into {result.type}")
    require_shape(ctx, result, x.tensor.shape, f"the result of {key}")
    return result
