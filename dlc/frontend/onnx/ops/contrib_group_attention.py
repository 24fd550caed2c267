"""onnxruntime's GroupQueryAttention: attention of decoders with a cache of keys and values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, refuse, refuse_operand
from dlc.frontend.onnx.geometry import require, require_broadcast, require_equal, reshape
from dlc.frontend.onnx.operands import require_shape
from dlc.frontend.onnx.ops.attention import join_heads, split_heads
from dlc.frontend.onnx.ops.contrib_attention import packed_heads, scale
from dlc.frontend.onnx.ops.contrib_rotary import rotate
from dlc.ir.dims import Dim, Relation, known_equal, maximum, minimum
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops import attention
from dlc.ir.ops.indexing import GatherElements
from dlc.ir.ops.movement import DimTensor, Expand, Pad, Range, Slice
from dlc.ir.ops.normalization import RMSNorm, Softmax
from dlc.ir.ops.pointwise import Binary, Cast, Compare, IsInf, Unary, Where
from dlc.ir.ops.reduction import Reduce

_OWN_CACHE = "keep the whole cache in the type of the model"


@contrib(
    "GroupQueryAttention",
    (7, 16),
    "causal do_rotary k_quant_type kv_cache_bit_width kv_num_heads local_window_size num_heads "
    "qk_norm_epsilon qk_output rotary_interleaved scale sliding_window_cache smooth_softmax softcap "
    "v_quant_type",
    results=4,
)
def group_query_attention(ctx: NodeContext) -> Sequence[Value | None]:
    """Attention of S new tokens to those of a cache [B, Hk, P, D] and themselves.

    Sequence b has seqlens_k[b] + 1 tokens with the new ones. These go into the cache after the old ones, from
    0 on for a first prompt (S = total_sequence_length); the results present_key and present_value have room
    for max(P, total_sequence_length) tokens. What they hold beyond the tokens of a sequence, and y beyond
    them in a padded prompt, is not specified.
    """
    _refuse_what_is_not_done(ctx)
    step = _Step(ctx)
    q, k, v = step.operands()
    k, v = step.cached(k, 3), step.cached(v, 4)
    y, scores = step.attend(q, k, v)
    return [join_heads(ctx, y), k, v, scores][: len(ctx.output_names)]


def _refuse_what_is_not_done(ctx: NodeContext) -> None:
    for name in ("k_quant_type", "v_quant_type"):
        refuse(ctx, name, "NONE", _OWN_CACHE)
    if ctx.int("kv_cache_bit_width", 0):
        ctx.unsupported("the cache is quantized", _OWN_CACHE)
    refuse(ctx, "sliding_window_cache", 0, _OWN_CACHE)
    for index, what in ((12, "the scale of a quantized cache"), (13, "the scale of a quantized cache")):
        refuse_operand(ctx, index, what, _OWN_CACHE)


class _Step:
    """One call: how many tokens there are and where they go.

    `past` [B, 1, 1, 1] (i64) counts the tokens that each sequence has in the cache; `capacity` is the number
    of tokens that the cache has room for after the step.
    """

    def __init__(self, ctx: NodeContext) -> None:
        self.ctx = ctx
        self.heads, self.key_heads = ctx.int("num_heads"), ctx.int("kv_num_heads")
        if self.heads < 1 or self.key_heads < 1 or self.heads % self.key_heads:
            ctx.fail(f"{self.heads} query heads are no multiple of {self.key_heads} key heads")
        query = ctx.required(0)
        if query.tensor.rank != 3:
            ctx.fail(f"the query must be of shape [batch, sequence, hidden], but is {query.type}")
        self.batch, self.length, _ = query.tensor.shape
        (self.total,) = ctx.dims_of(ctx.single(6))
        before = ctx.optional(3)
        if (before is None) != (ctx.optional(4) is None):
            ctx.fail("past_key and past_value come together")
        if before is not None and before.tensor.rank != 4:
            ctx.fail(f"past_key must have rank 4, but is {before.type}")
        require(ctx, Relation.LE, self.length, self.total, "there are more new tokens than tokens")
        self.capacity: Dim = self.total
        if before is None:
            require_equal(ctx, self.length, self.total, "the tokens of a prompt without a cache, and all")
        else:
            self.capacity = maximum(before.tensor.shape[2], self.total)
        self.past = self._past()

    def _numbers(self, dim: Dim) -> Value:
        return self.ctx.builder.add(DimTensor((dim,), ()))

    def _counts(self) -> Value:
        """The tokens of each sequence with the new ones, [B, 1, 1, 1]."""
        add, lengths = self.ctx.builder.add, self.ctx.required(5)
        require_equal(self.ctx, lengths.tensor.elements, self.batch, "the sequences and their lengths")
        counts = reshape(self.ctx, add(Cast(DType.I64), lengths), (self.batch, 1, 1, 1))
        return add(Binary("add"), counts, self.ctx.const(1, DType.I64))

    def _past(self) -> Value:
        add = self.ctx.builder.add
        if known_equal(self.total, self.length):
            return add(Expand((self.batch, 1, 1, 1)), self.ctx.const(0, DType.I64))
        past = add(Binary("sub"), self._counts(), self._numbers(self.length))
        # 0 for a first prompt, where all tokens are new.
        return add(Binary("mul"), past, self._numbers(minimum(self.total - self.length, 1)))

    def operands(self) -> tuple[Value, Value, Value]:
        """q, k and v of the new tokens, [B, heads, S, D], normalized and rotated."""
        ctx, heads, key_heads = self.ctx, self.heads, self.key_heads
        query, key, value = ctx.required(0), ctx.optional(1), ctx.optional(2)
        if (key is None) != (value is None):
            ctx.fail("key and value come together, or both packed with the query")
        if key is None or value is None:
            q, k, v = packed_heads(ctx, query, (heads, key_heads, key_heads))
        else:
            q = split_heads(ctx, query, heads)
            k, v = split_heads(ctx, key, key_heads), split_heads(ctx, value, key_heads)
        for each in (k, v):
            require_shape(ctx, each, (self.batch, key_heads, self.length, q.tensor.shape[3]), "key and value")
        q, k = self._normalized(q, 14), self._normalized(k, 15)
        if ctx.int("do_rotary", 0):
            at, cos, sin = self._positions(), ctx.required(7), ctx.required(8)
            if cos.tensor.rank != 2:
                ctx.fail(f"cos_cache must have rank 2, but is {cos.type}")
            q, k = (
                rotate(ctx, x, cos, sin, at, cos.tensor.shape[1] * 2, "rotary_interleaved") for x in (q, k)
            )
        return q, k, v

    def _normalized(self, x: Value, index: int) -> Value:
        """x after the norm of each head whose scale is operand `index`."""
        weight = self.ctx.optional(index)
        if weight is None:
            return x
        require_shape(self.ctx, weight, x.tensor.shape[3:], "the scale of a norm")
        return self.ctx.builder.add(RMSNorm(3, self.ctx.float("qk_norm_epsilon", 1e-6)), x, weight)

    def _positions(self) -> Value:
        """The positions [B, S] of the new tokens.

        Those given count but for a first prompt, of which only the first position is read.
        """
        ctx, add, shape = self.ctx, self.ctx.builder.add, (self.batch, self.length)
        steps = add(Range(self.length), ctx.const(0, DType.I64), ctx.const(1, DType.I64))
        given = ctx.optional(9)
        if given is None:
            return add(Binary("add"), reshape(ctx, self.past, (self.batch, 1)), steps)
        require_shape(ctx, given, shape, "the positions")
        first = add(Slice((0, 0), (1, 1), (1, 1)), given)
        prompt = add(Expand(shape), add(Binary("add"), first, steps))
        is_prompt = add(Compare("eq"), self._numbers(self.total - self.length), ctx.const(0, DType.I64))
        return add(Where(), is_prompt, prompt, given)

    def cached(self, new: Value, index: int) -> Value:
        """The cache that is operand `index` [B, Hk, P, D], with room for all tokens and the new ones in."""
        ctx, add = self.ctx, self.ctx.builder.add
        old = ctx.optional(index)
        if old is None:
            return new
        batch, heads, length, size = new.tensor.shape
        have = old.tensor.shape[2] if old.tensor.rank == 4 else 0
        require_shape(ctx, old, (batch, heads, have, size), "the cache")
        if not known_equal(have, self.capacity):
            old = add(Pad((0, 0, 0, 0), (0, 0, self.capacity - have, 0), "constant"), old, None)
        row = add(Range(self.capacity), ctx.const(0, DType.I64), ctx.const(1, DType.I64))
        row = add(Binary("sub"), reshape(ctx, row, (1, 1, self.capacity, 1)), self.past)
        zero, last = ctx.const(0, DType.I64), self._numbers(length - 1)
        inside = add(Binary("and"), add(Compare("ge"), row, zero), add(Compare("le"), row, last))
        if not known_equal(length, 1):
            row = add(Binary("max"), add(Binary("min"), row, last), zero)
            new = add(GatherElements(2), new, add(Expand((batch, heads, self.capacity, size)), row))
        return add(Where(), inside, new, old)

    def attend(self, q: Value, k: Value, v: Value) -> tuple[Value, Value | None]:
        """y [B, H, S, D], and the scores or probabilities if they are wanted."""
        ctx, add = self.ctx, self.ctx.builder.add
        wanted = ctx.int("qk_output", 0)
        if wanted not in (0, 1, 2) or (ctx.wants(3) and not wanted):
            ctx.fail(f"qk_output {wanted} does not say what the fourth result is")
        sink = self._sink(q.tensor.dtype)
        output = None
        if sink is not None or (ctx.wants(3) and wanted == 1):
            output = 2
        elif ctx.wants(3):
            output = 3
        causal, window = bool(ctx.int("causal", 1)), ctx.int("local_window_size", -1)
        if not causal and window > 0:
            ctx.fail("a local window needs causal attention")
        operator = attention.Attention(
            scale(ctx, q.tensor.shape[3]),
            causal,
            ctx.float("softcap", 0.0),
            output,
            left_window=window - 1 if window > 0 else -1,
        )
        # A query at position past + i: what the operator makes of past + S tokens.
        known = add(Binary("add"), reshape(ctx, self.past, (self.batch,)), self._numbers(self.length))
        y, *more = ctx.builder.add_all(
            operator, q, k, v, self._mask(causal, q.tensor.dtype), None, None, known
        )
        scores = more[0] if more else None
        if sink is not None and scores is not None:
            share = self._share(scores, sink)
            y = add(Binary("mul"), y, share)
            if ctx.wants(3) and wanted == 2:
                scores = add(Binary("mul"), self._probabilities(scores), share)
        if not ctx.wants(3) or scores is None:
            return y, None
        if not known_equal(self.capacity, self.total):
            shape = (*scores.tensor.shape[:3], self.total)
            scores = add(Slice((0, 0, 0, 0), shape, (1, 1, 1, 1)), scores)
        return y, self._visible(scores) if wanted == 1 else scores

    def _sink(self, dtype: DType) -> Value | None:
        """What each head adds to its scores as one that belongs to no key, [H, 1, 1]; None if nothing."""
        ctx = self.ctx
        sink = ctx.optional(11)
        if sink is not None:
            require_shape(ctx, sink, (self.heads,), "head_sink")
            return reshape(ctx, sink, (self.heads, 1, 1))
        if ctx.int("smooth_softmax", -1) == 1:
            return ctx.const(np.zeros((1, 1, 1), dtype.numpy))
        return None

    def _share(self, scores: Value, sink: Value) -> Value:
        """The share of the keys in a softmax with `sink` among the scores: sigmoid(log sum exp - sink)."""
        add = self.ctx.builder.add
        size = add(Reduce("log_sum_exp", (3,)), scores)
        return add(Unary("sigmoid"), add(Binary("sub"), size, sink))

    def _probabilities(self, scores: Value) -> Value:
        return self.ctx.builder.add(Softmax(3), scores)

    def _visible(self, scores: Value) -> Value:
        """Scores with 0 for hidden keys, as onnxruntime has them."""
        ctx = self.ctx
        hidden = ctx.builder.add(IsInf(positive=False), scores)
        zero = ctx.const(np.zeros((), scores.tensor.dtype.numpy))
        return ctx.add(Where(), hidden, zero, scores)

    def _mask(self, causal: bool, dtype: DType) -> Value | None:
        """The bias, lengthened to the cache; without causality -inf for keys beyond the sequence's tokens."""
        ctx, add = self.ctx, self.ctx.builder.add
        bias = ctx.optional(10)
        if bias is not None:
            shape = self.batch, self.heads, self.length, self.total
            require_broadcast(ctx, bias.tensor.shape, shape)
            if not known_equal(self.capacity, self.total):
                after = (0,) * (bias.tensor.rank - 1)
                bias = add(Pad((0, *after), (*after, self.capacity - self.total), "constant"), bias, None)
        if causal:
            return bias
        key = add(Range(self.capacity), ctx.const(0, DType.I64), ctx.const(1, DType.I64))
        visible = add(Compare("lt"), key, self._counts())
        if bias is None:
            return visible
        return add(Where(), visible, bias, ctx.const(np.asarray(-np.inf, dtype.numpy)))
