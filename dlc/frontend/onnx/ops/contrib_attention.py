"""onnxruntime's attention with one head of keys for each head of queries: Attention, MultiHeadAttention and
QAttention.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, refuse, refuse_operand
from dlc.frontend.onnx.geometry import require, require_broadcast, require_equal, reshape
from dlc.frontend.onnx.operands import require_shape
from dlc.frontend.onnx.ops.attention import join_heads, split_heads
from dlc.frontend.onnx.ops.contraction import matrix_product
from dlc.frontend.onnx.ops.contrib_activations import biased
from dlc.frontend.onnx.ops.contrib_quantized_products import scaled_product
from dlc.ir.dims import Dim, Relation, known_equal
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops import attention
from dlc.ir.ops.movement import Concat, Range, Slice
from dlc.ir.ops.pointwise import Binary, Compare, Where

_SHARED = "keep the past state in tensors of its own length"


@contrib(
    "Attention",
    (2, 7),
    "do_rotary mask_filter_value num_heads past_present_share_buffer qkv_hidden_sizes rotary_embedding_dim "
    "scale unidirectional",
    results=2,
)
def attention_(ctx: NodeContext) -> Sequence[Value | None]:
    """Attention of projections x w + bias of one tensor, split into q, k and v."""
    refuse(ctx, "do_rotary", 0, "rotate q and k by RotaryEmbedding and use MultiHeadAttention")
    refuse(ctx, "past_present_share_buffer", 0, _SHARED)
    refuse_operand(ctx, 6, "the length of the past in a shared buffer", _SHARED)
    product = matrix_product(ctx, ctx.required(0), ctx.required(1))
    projected = biased(ctx, product, ctx.optional(2))
    return _self_attention(ctx, projected, ctx.optional(3), ctx.optional(4), ctx.optional(5))


@contrib(
    "QAttention",
    (5, 9),
    "do_rotary mask_filter_value num_heads past_present_share_buffer scale unidirectional",
    results=2,
)
def qattention(ctx: NodeContext) -> Sequence[Value | None]:
    """Attention whose projection multiplies 8-bit operands, exactly, before it scales the sums."""
    refuse(ctx, "do_rotary", 0, "rotate q and k by RotaryEmbedding and use MultiHeadAttention")
    refuse(ctx, "past_present_share_buffer", 0, _SHARED)
    x_zero = ctx.single(6) if ctx.optional(6) is not None else None
    x = ctx.required(0), ctx.single(3), x_zero
    w = ctx.required(1), ctx.required(4), ctx.optional(7)
    projected = scaled_product(ctx, x, w, ctx.required(2))
    return _self_attention(ctx, projected, ctx.optional(5), ctx.optional(8), None)


def _self_attention(
    ctx: NodeContext, projected: Value, mask: Value | None, past: Value | None, bias: Value | None
) -> Sequence[Value | None]:
    """Attention within a sequence of projections [B, S, q k v], with a state [2, B, H, P, D] of k and v."""
    heads = ctx.int("num_heads")
    if projected.tensor.rank != 3:
        ctx.fail(
            f"the input must be of shape [batch, sequence, hidden], but its projection is {projected.type}"
        )
    batch, length, width = projected.tensor.shape
    sizes: Sequence[Dim] = ctx.ints("qkv_hidden_sizes", ())
    if len(sizes) not in (0, 3):
        ctx.fail(f"qkv_hidden_sizes has {len(sizes)} entries, not 3")
    sizes = sizes or (width // 3,) * 3
    require_equal(ctx, width, sizes[0] + sizes[1] + sizes[2], "the columns of the weights and of q, k and v")
    if known_equal(sizes[0], sizes[1]) and known_equal(sizes[1], sizes[2]):
        q, k, v = packed_heads(ctx, projected, (heads, heads, heads))
    else:
        starts = 0, sizes[0], sizes[0] + sizes[1]
        parts = [
            ctx.builder.add(Slice((0, 0, start), (batch, length, size), (1, 1, 1)), projected)
            for start, size in zip(starts, sizes)
        ]
        q, k, v = (split_heads(ctx, part, heads) for part in parts)
    past_k = past_v = None
    if past is not None:
        require_shape(ctx, past, (2, batch, heads, _rank_5(ctx, past)[3], k.tensor.shape[3]), "past")
        past_k, past_v = _halves(ctx, past)
    y, *present = attend(ctx, q, k, v, mask, bias, (past_k, past_v))
    if not ctx.wants(1):
        return [y]
    if not known_equal(k.tensor.shape[3], v.tensor.shape[3]):
        ctx.unsupported("the state of keys and values of different sizes is wanted as one tensor")
    stacked = [reshape(ctx, part, (1, *part.tensor.shape)) for part in present[:2] if part is not None]
    return [y, ctx.builder.add(Concat(0), *stacked)]


def packed_heads(ctx: NodeContext, packed: Value, counts: Sequence[int]) -> list[Value]:
    """[B, S, heads * D] as tensors [B, count, S, D]; the heads are those of the first count, then the next.

    They are split before they are told apart, so that each is a part of one tensor that needs no copy.
    """
    whole = split_heads(ctx, packed, sum(counts))
    batch, _, length, size = whole.tensor.shape
    starts = itertools.accumulate(counts, initial=0)
    return [
        ctx.builder.add(Slice((0, start, 0, 0), (batch, count, length, size), (1,) * 4), whole)
        for start, count in zip(starts, counts)
    ]


def _rank_5(ctx: NodeContext, past: Value) -> tuple[Dim, ...]:
    if past.tensor.rank != 5:
        ctx.fail(f"past must be of shape [2, batch, heads, length, size], but is {past.type}")
    return past.tensor.shape


def _halves(ctx: NodeContext, past: Value) -> tuple[Value, Value]:
    """The two parts of a tensor along its first axis."""
    _, *shape = past.tensor.shape
    rest = (0,) * len(shape)
    parts = [
        ctx.builder.add(Slice((index, *rest), (1, *shape), (1,) * (len(shape) + 1)), past)
        for index in range(2)
    ]
    return reshape(ctx, parts[0], shape), reshape(ctx, parts[1], shape)


@contrib("MultiHeadAttention", (1, 10), "mask_filter_value num_heads scale unidirectional", results=4)
def multi_head_attention(ctx: NodeContext) -> Sequence[Value | None]:
    """Attention of projected q, k and v: [B, S, hidden] each, packed, or k and v as a state [B, H, L, D].

    Results: y, the keys and values with the past before them, and the scores with masks and bias.
    """
    refuse_operand(ctx, 8, "the length of the past in a shared buffer", _SHARED)
    refuse_operand(ctx, 9, "the beams that a cache came from", "search beams outside of the model")
    q, k, v = _projections(ctx)
    outputs = attend(
        ctx, q, k, v, ctx.optional(4), ctx.optional(5), (ctx.optional(6), ctx.optional(7)), ctx.wants(3)
    )
    return outputs[: len(ctx.output_names)]


def _projections(ctx: NodeContext) -> tuple[Value, Value, Value]:
    """q, k and v of MultiHeadAttention as [B, heads, length, size], with their biases."""
    heads, query, key, value = ctx.int("num_heads"), ctx.required(0), ctx.optional(1), ctx.optional(2)
    parts: list[Value | None]
    if query.tensor.rank == 5:
        parts = list(_unpacked(ctx, query, heads, 3))
    elif key is None:
        ctx.fail("there is no key, and the query is not packed with it")
    elif key.tensor.rank == 5:
        parts = [query, *_unpacked(ctx, key, heads, 2)]
    else:
        parts = [query, key, value]
    if None in parts:
        ctx.fail("there is a key, but no value")
    q, k, v = (part for part in parts if part is not None)
    bias = ctx.optional(3)
    if k.tensor.rank == 4:
        # A state that is complete: its bias was added when it was made.
        if bias is not None:
            width = q.tensor.shape[2]
            require(ctx, Relation.LE, width, bias.tensor.elements, "the bias is shorter than a query")
            q = biased(ctx, q, _part(ctx, bias, 0, width))
        return split_heads(ctx, q, heads), k, v
    if bias is not None:
        start: Dim = 0
        sums = []
        for part in (q, k, v):
            sums.append(biased(ctx, part, _part(ctx, bias, start, part.tensor.shape[2])))
            start = start + part.tensor.shape[2]
        require_equal(ctx, bias.tensor.shape[0], start, "the elements of the bias and of q, k and v")
        q, k, v = sums
    return split_heads(ctx, q, heads), split_heads(ctx, k, heads), split_heads(ctx, v, heads)


def _part(ctx: NodeContext, vector: Value, start: Dim, count: Dim) -> Value:
    return ctx.builder.add(Slice((start,), (count,), (1,)), vector)


def _unpacked(ctx: NodeContext, packed: Value, heads: int, count: int) -> list[Value]:
    """The parts [B, L, H * D] of a tensor [B, L, H, count, D]."""
    batch, length, have, parts, size = packed.tensor.shape
    if parts != count or have != heads:
        ctx.fail(f"%{packed.name} must hold {count} parts of each of {heads} heads, but is {packed.type}")
    shape = batch, length, heads, 1, size
    return [
        reshape(
            ctx,
            ctx.builder.add(Slice((0, 0, 0, index, 0), shape, (1,) * 5), packed),
            (batch, length, heads * size),
        )
        for index in range(count)
    ]


def attend(
    ctx: NodeContext,
    q: Value,
    k: Value,
    v: Value,
    mask: Value | None,
    bias: Value | None,
    past: tuple[Value | None, Value | None],
    scores: bool = False,
) -> list[Value | None]:
    """y [B, S, H * D], the complete keys and values, and the scores before the softmax if they are wanted.

    q, k and v are [B, H, length, size]; `past` is put before k and v. Scale, causality and what the mask adds
    are attributes of the node.
    """
    batch, heads, length, size = q.tensor.shape
    past_k, past_v = past
    if (past_k is None) != (past_v is None):
        ctx.fail("the past keys and the past values come together")
    keys, width = k.tensor.shape[2], v.tensor.shape[3]
    require_shape(ctx, k, (batch, heads, keys, size), "the keys")
    require_shape(ctx, v, (batch, heads, keys, width), "the values")
    total = keys
    if past_k is not None:
        if past_k.tensor.rank != 4:
            ctx.fail(f"the past keys must be of rank 4, but are {past_k.type}")
        before = past_k.tensor.shape[2]
        require_shape(ctx, past_k, (batch, heads, before, size), "the past keys")
        require_shape(ctx, past_v, (batch, heads, before, width), "the past values")
        total = before + keys
    if bias is not None:
        require_broadcast(ctx, bias.tensor.shape, (batch, heads, length, total))
    if mask is not None:
        hidden = _additive(ctx, mask, batch, length, total, q.tensor.dtype)
        bias = hidden if bias is None else ctx.builder.add(Binary("add"), bias, hidden)
    operator = attention.Attention(
        scale(ctx, size), bool(ctx.int("unidirectional", 0)), qk_output=2 if scores else None
    )
    y, *more = ctx.builder.add_all(operator, q, k, v, bias, past_k, past_v)
    present: list[Value | None] = [*more[:2]] if past_k is not None else [k, v]
    return [join_heads(ctx, y), *present, more[-1] if scores else None]


def scale(ctx: NodeContext, size: Dim) -> float:
    """The attribute `scale`; by default, and for 0, one by the root of the head size."""
    given = ctx.float("scale", 0.0)
    if given < 0:
        ctx.unsupported(f"the scale is {given}; q and k are multiplied by its square root")
    if given:
        return given
    if not isinstance(size, int):
        ctx.unsupported(
            "the head size, and so the scale, is not known at compile time", "set the attribute 'scale'"
        )
    return 1 / math.sqrt(size) if size else 1.0


def _additive(ctx: NodeContext, mask: Value, batch: Dim, length: Dim, total: Dim, dtype: DType) -> Value:
    """What a mask adds to the scores: 0, or mask_filter_value for hidden keys.

    A mask is [B, T] or [B, S, T], positive for visible keys; or a vector of the lengths of the sequences [B],
    followed by where they start [2 B] or by what CUDA kernels need [3 B + 2].
    """
    add = ctx.builder.add
    shape = mask.tensor.shape
    match len(shape):
        case 1:
            visible = _within(ctx, mask, batch, total)
        case 2 | 3:
            rows = (batch, 1, 1, total) if len(shape) == 2 else (batch, 1, length, total)
            require_shape(ctx, mask, (batch, *rows[4 - len(shape) + 1 :]), "the mask")
            visible = add(Compare("gt"), reshape(ctx, mask, rows), ctx.const(0, mask.tensor.dtype))
        case rank:
            ctx.unsupported(f"the mask has {rank} axes", "give a mask [batch, length, total length]")
    filtered = ctx.float("mask_filter_value", -10000.0)
    zero, hidden = (ctx.const(np.asarray(value).astype(dtype.numpy)) for value in (0.0, filtered))
    return add(Where(), visible, zero, hidden)


def _within(ctx: NodeContext, mask: Value, batch: Dim, total: Dim) -> Value:
    """Whether a key lies within its sequence, [B, 1, 1, T], from a vector of lengths."""
    add = ctx.builder.add
    have, dtype = mask.tensor.shape[0], mask.tensor.dtype
    key = add(Range(total), ctx.const(0, dtype), ctx.const(1, dtype))

    def numbers(start: Dim) -> Value:
        return reshape(ctx, _part(ctx, mask, start, batch), (batch, 1, 1, 1))

    starts = known_equal(have, 2 * batch)
    if not starts and not known_equal(have, 3 * batch + 2):
        require_equal(ctx, have, batch, "the sequences and the lengths in the mask")
    inside = add(Compare("lt"), key, numbers(0))
    if starts:
        inside = add(Binary("and"), inside, add(Compare("ge"), key, numbers(batch)))
    return inside
