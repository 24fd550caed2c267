"""Kernels of scaled dot-product attention and of rotary position embedding."""

from __future__ import annotations

import dataclasses
import math

from dlc.ir.dims import Dim, Symbol, known_equal
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node, Value
from dlc.ir.ops.attention import Attention, RotaryEmbedding
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, arithmetic_dtype, binary, cast, const, unary
from dlc.lowering.kernel import Contraction, Monoid
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.registry import rule


@dataclasses.dataclass(frozen=True)
class _Axes:
    """Axes of attention, the number of the query head, and the shape of the scores [B, Hq, S, T].

    `group` is the place of a query head among those that share a key head (empty: each has its own).
    """

    batch: Symbol
    key_head: Symbol
    group: tuple[Symbol, ...]
    query: Symbol
    key: Symbol
    head: Dim
    shape: tuple[Dim, Dim, Dim, Dim]

    @property
    def rows(self) -> list[Symbol]:
        """The axes of a row of scores."""
        return [self.batch, self.key_head, *self.group, self.query]

    @property
    def scores(self) -> list[Symbol]:
        """The axes of the scores."""
        return [*self.rows, self.key]

    @property
    def score_index(self) -> list[Dim]:
        """The place of a score in a tensor of `shape`."""
        return [self.batch, self.head, self.query, self.key]

    def contraction(self, columns: Symbol, reduce: Symbol) -> Contraction:
        """A product of a matrix a query head (rows: queries) and one a key head."""
        rows = (*(axis.name for axis in self.group), self.query.name)
        return Contraction((self.batch.name, self.key_head.name), rows, (columns.name,), (reduce.name,))


@rule(Attention)
def attention(draft: Draft, node: Node) -> None:
    """softmax(softcap(scale q k^T) + bias) v: two contractions with the softmax of a row between them.

    Query heads are numbered by key head and place in its group, so that a group shares keys and values. With
    a past, present_k and present_v are stored first and then read. The probabilities stay undivided until
    the end: y = (exp(x - max) v) / sum.
    """
    assert isinstance(node.op, Attention)
    op, q = node.op, draft.operand(0)
    k, v = _present(draft, 1, 4, 1), _present(draft, 2, 5, 2)
    dtype = arithmetic_dtype(q.tensor.dtype)
    axes = _axes(draft, q, k)
    scores = _scores(draft, op, axes, q, k)
    capped = _capped(draft, op, axes, scores)
    x = _biased(draft, op, axes, capped)
    top = draft.reduce(Monoid.MAX, [axes.key], x, axes.rows)
    # A row without keys has maximum -inf: its weights have to be 0, not exp(-inf + inf).
    shift = select(compare("eq", top, -math.inf), const(0, dtype), top)
    weight = draft.map(unary("exp", binary("sub", x, shift)), axes.scores)
    total = draft.reduce(Monoid.SUM, [axes.key], weight, axes.rows)
    divisor = unary("reciprocal", select(compare("eq", total, 0), const(1, dtype), total))
    feature = draft.axis(v.tensor.shape[3])
    value = cast(draft.load(v, [axes.batch, axes.key_head, axes.key, feature]), dtype)
    outer = [*axes.rows, feature]
    mixed = draft.contract(axes.contraction(feature, axes.key), weight, value, outer)
    at = [axes.batch, axes.head, axes.query, feature]
    draft.store(node.outputs[0], outer, binary("mul", mixed, divisor), at)
    if op.qk_output is not None:
        wanted = (scores, capped, x, binary("mul", weight, divisor))[op.qk_output]
        draft.store(node.outputs[-1], axes.scores, wanted, axes.score_index)


def _present(draft: Draft, operand: int, past: int, result: int) -> Value:
    """The keys (or values) of all positions: the operand or, with a past, the result that both go to."""
    new, old = draft.operand(operand), draft.optional(past)
    if old is None:
        return new
    present, length = draft.node.outputs[result], old.tensor.shape[2]
    for part, first in ((old, 0), (new, length)):
        axes = draft.axes_of(part.tensor.shape)
        batch, head, position, feature = axes
        draft.store(present, axes, draft.load(part, axes), [batch, head, position + first, feature])
    return present


def _axes(draft: Draft, q: Value, k: Value) -> _Axes:
    batch, heads, length, _ = q.tensor.shape
    key_heads = k.tensor.shape[1]
    grouped = not known_equal(heads, key_heads)
    b, head = draft.axis(batch), draft.axis(key_heads)
    size: Dim = heads // key_heads if grouped else 1
    group: tuple[Symbol, ...] = (draft.axis(size),) if grouped else ()
    number: Dim = head * size + group[0] if grouped else head
    keys = k.tensor.shape[2]
    query, key = draft.axis(length), draft.axis(keys)
    return _Axes(b, head, group, query, key, number, (batch, heads, length, keys))


def _scores(draft: Draft, op: Attention, axes: _Axes, q: Value, k: Value) -> e.Expr:
    """scale q k^T; the scale is applied to q."""
    width = draft.axis(q.tensor.shape[3])
    left = draft.load_arithmetic(q, [axes.batch, axes.head, axes.query, width])
    right = draft.load_arithmetic(k, [axes.batch, axes.key_head, axes.key, width])
    scaled = left if op.scale == 1 else binary("mul", left, op.scale)
    return draft.contract(axes.contraction(axes.key, width), scaled, right, axes.scores)


def _capped(draft: Draft, op: Attention, axes: _Axes, scores: e.Expr) -> e.Expr:
    """softcap tanh(scores / softcap)."""
    if not op.softcap:
        return scores
    return draft.map(binary("mul", unary("tanh", binary("div", scores, op.softcap)), op.softcap), axes.scores)


def _biased(draft: Draft, op: Attention, axes: _Axes, scores: e.Expr) -> e.Expr:
    """The scores plus the mask, -inf where a query may not see a key."""
    mask = draft.optional(3)
    allowed = _allowed(draft, op, axes)
    x = scores
    if mask is not None:
        bias = draft.load_broadcast(mask, axes.score_index, axes.shape)
        if bias.dtype is DType.BOOL:
            allowed.append(bias)
        else:
            x = binary("add", x, cast(bias, x.dtype))
    if allowed:
        condition = allowed[0]
        for other in allowed[1:]:
            condition = e.Binary(DType.BOOL, "and", condition, other)
        x = select(condition, x, const(-math.inf, x.dtype))
    return x if x is scores else draft.map(x, axes.scores)


def _allowed(draft: Draft, op: Attention, axes: _Axes) -> list[e.Expr]:
    """What a key's number has to satisfy, each condition as `key < bound` or `key >= bound`."""
    nonpad, past = draft.optional(6), draft.optional(4)
    length: e.Expr | None = None
    if nonpad is not None:
        length = cast(draft.load(nonpad, [axes.batch]), DType.I64, e.CastMode.WRAP)
    queries = draft.operand(0).tensor.shape[2]
    key = e.Iota(DType.I64, axes.key)

    def bound(after: int) -> e.Expr:
        """The number `after` keys after the position at which the query stands."""
        if length is not None:
            return binary("add", length, e.Iota(DType.I64, axes.query + after - queries))
        offset: Dim = 0 if past is None else past.tensor.shape[2]
        return e.Iota(DType.I64, axes.query + offset + after)

    conditions = []
    if op.causal:
        conditions.append(compare("lt", key, bound(1)))
    if op.left_window >= 0:
        conditions.append(compare("ge", key, bound(-op.left_window)))
    if op.right_window >= 0:
        conditions.append(compare("lt", key, bound(op.right_window + 1)))
    if length is not None:
        conditions.append(compare("lt", key, length))
    return conditions


@rule(RotaryEmbedding)
def rotary_embedding(draft: Draft, node: Node) -> None:
    """(a, b) becomes (a cos - b sin, a sin + b cos) for each pair of features; the others are copied."""
    assert isinstance(node.op, RotaryEmbedding)
    op, x, target = node.op, draft.operand(0), node.outputs[0]
    batch, heads, length, width = x.tensor.shape
    positions = draft.optional(3)
    half = op.dim // 2
    b, h, s, pair = axes = draft.axes_of([batch, heads, length, half])
    row: list[e.Index] = [b, s]
    if positions is not None:
        row = [cast(draft.load(positions, [b, s]), DType.I64, e.CastMode.WRAP)]
    dtype = arithmetic_dtype(x.tensor.dtype)
    cos, sin = (draft.map(cast(draft.load(draft.operand(i), [*row, pair]), dtype), axes) for i in (1, 2))
    places = (pair * 2, pair * 2 + 1) if op.interleaved else (pair, pair + half)
    first, second = (draft.map(draft.load_arithmetic(x, [b, h, s, place]), axes) for place in places)
    turned = (
        binary("sub", binary("mul", first, cos), binary("mul", second, sin)),
        binary("add", binary("mul", first, sin), binary("mul", second, cos)),
    )
    for place, value in zip(places, turned, strict=True):
        draft.store(target, axes, value, [b, h, s, place])
    if not known_equal(width, op.dim):
        b, h, s, rest = axes = draft.axes_of([batch, heads, length, width - op.dim])
        index = [b, h, s, rest + op.dim]
        draft.store(target, axes, draft.load(x, index), index)
