"""LinearAttention and CausalConvWithState, the parts of recurrent language models."""

from __future__ import annotations

import math

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require_equal, reshape
from dlc.frontend.onnx.operands import require_shape
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, known_equal
from dlc.ir.graph import Value
from dlc.ir.ops.convolution import Conv
from dlc.ir.ops.linear_attention import LinearAttention
from dlc.ir.ops.movement import Concat, Pad, Slice
from dlc.ir.ops.pointwise import Unary

#: update_rule -> whether it takes decay, and beta.
_RULES = {
    "linear": (False, False),
    "gated": (True, False),
    "delta": (False, True),
    "gated_delta": (True, True),
}


@importer("LinearAttention", since=27)
def linear_attention(ctx: NodeContext) -> tuple[Value, ...]:
    """Operands of rank 3 are split into heads, the result is joined; chunk_size is a hint for tuning."""
    heads, key_heads = ctx.int("q_num_heads"), ctx.int("kv_num_heads")
    if ctx.int("chunk_size", 64) < 1:
        ctx.fail(f"attribute 'chunk_size' must be positive, but is {ctx.int('chunk_size')}")
    if key_heads < 1 or heads < 1 or heads % key_heads:
        ctx.fail(f"q_num_heads {heads} must be a positive multiple of kv_num_heads {key_heads}")
    q, k, v = (_heads(ctx, index, count) for index, count in ((0, heads), (1, key_heads), (2, key_heads)))
    batch, steps, _, width = q.tensor.shape
    require_shape(ctx, k, (batch, steps, key_heads, width), "the key")
    values = v.tensor.shape[3]
    require_shape(ctx, v, (batch, steps, key_heads, values), "the value")
    past = ctx.optional(3)
    require_shape(ctx, past, (batch, key_heads, width, values), "past_state")
    decay, beta = _gates(ctx, batch, steps, key_heads, width)
    operator = LinearAttention(_scale(ctx, width))
    y, state = ctx.add_all(operator, q, k, v, past, decay, beta)
    return reshape(ctx, y, (batch, steps, heads * values)), state


def _heads(ctx: NodeContext, index: int, count: int) -> Value:
    """An operand [B, T, count * width] as [B, T, count, width]."""
    x = ctx.required(index)
    if x.tensor.rank != 3:
        ctx.fail(f"operand {index} must be [batch, length, heads * width], but is {x.type}")
    batch, steps, packed = x.tensor.shape
    width = packed // count
    require_equal(ctx, packed, width * count, f"the last extent of operand {index} and a multiple of {count}")
    return reshape(ctx, x, (batch, steps, count, width), "heads")


def _gates(
    ctx: NodeContext, batch: Dim, steps: Dim, heads: int, width: Dim
) -> tuple[Value | None, Value | None]:
    """decay [B, T, H, K or 1] and beta [B, T, H or 1], those that update_rule takes."""
    rule = ctx.string("update_rule", "gated_delta")
    if rule not in _RULES:
        ctx.fail(f"update_rule {rule!r} is none of {', '.join(_RULES)}")
    decay, beta = ctx.optional(4), ctx.optional(5)
    for operand, what, taken in zip((decay, beta), ("decay", "beta"), _RULES[rule]):
        if (operand is not None) is not taken:
            ctx.fail(f"update_rule {rule!r} {'needs' if taken else 'does not take'} the operand {what}")
        if operand is not None and operand.tensor.rank != 3:
            ctx.fail(f"{what} must have rank 3, but is {operand.type}")
    if decay is not None:
        per_head = known_equal(decay.tensor.shape[2], heads) and not known_equal(width, 1)
        decay = reshape(ctx, decay, (batch, steps, heads, 1), "decay") if per_head else _heads(ctx, 4, heads)
    return decay, beta


def _scale(ctx: NodeContext, width: Dim) -> float:
    """The attribute, or 1 / sqrt(width) where it is 0 or absent."""
    scale = ctx.float("scale", 0.0)
    if scale:
        return scale
    if not isinstance(width, int):
        hint = "give the query a static last axis or set the attribute 'scale'"
        ctx.unsupported("the head size, and so the scale, is not known at compile time", hint)
    return 1 / math.sqrt(width) if width else 1.0


@importer("CausalConvWithState", since=27)
def causal_conv_with_state(ctx: NodeContext) -> tuple[Value, ...]:
    """A depthwise convolution of the past and present inputs, and the inputs that the next call needs."""
    x, w, bias, past = ctx.required(0), ctx.required(1), ctx.optional(2), ctx.optional(3)
    if x.tensor.rank != 3 or w.tensor.rank != 3:
        ctx.fail(f"input and weight must have rank 3, but are {x.type} and {w.type}")
    batch, channels, length = x.tensor.shape
    kernel = w.tensor.shape[2]
    require_shape(ctx, w, (channels, 1, kernel), "the weight")
    require_shape(ctx, bias, (channels,), "the bias")
    require_shape(ctx, past, (batch, channels, kernel - 1), "past_state")
    if not isinstance(channels, int) or not isinstance(kernel, int) or kernel < 1 or channels < 1:
        ctx.unsupported(f"the weight {w.type} does not tell the numbers of channels and taps")
    activation = ctx.string("activation", "none")
    if activation not in ("none", "silu", "swish"):
        ctx.fail(f"activation {activation!r} is none of none, silu, swish")
    joined = None if past is None else ctx.builder.add(Concat(2), past, x, names=["joined"])
    pads = ((kernel - 1, 0),) if joined is None else ((0, 0),)
    y = ctx.add(Conv((1,), (1,), pads, channels), joined or x, w, bias)
    if activation != "none":
        y = ctx.add(Unary("silu"), y)
    if not ctx.wants(1):
        return (y,)
    if joined is None:
        joined = ctx.builder.add(Pad((0, 0, kernel - 1), (0, 0, 0), "constant"), x, None, names=["joined"])
    last = Slice((0, 0, length), (batch, channels, kernel - 1), (1, 1, 1))
    return y, ctx.builder.add(last, joined, names=[ctx.output_names[1]])
