"""Attention, written as two products around a softmax, back to one operator."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, known_equal
from dlc.ir.graph import Node, Value
from dlc.ir.ops.attention import Attention
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.movement import Expand, Reshape
from dlc.passes.canonical import movement
from dlc.passes.match import made_by, operand, read_only_by
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule, rule
from dlc.passes.scores import combined_mask, find_softmax, read_scores, untransposed


@dataclasses.dataclass(frozen=True)
class RaiseAttention(RewritePass):
    """softmax(q k^T * scale + mask) v is Attention.

    q, k and v have rank 4, or rank 3 with batch and heads in one axis. Scores may be multiplied or divided by
    numbers before and after masks, as may q and k; capped by c * tanh(s / c); have masks added; be replaced,
    where a condition fails, by -inf or by numbers below -1e30. Rows in which all is hidden by -inf give 0
    where the chain gave NaN, which is what the guard Where(is_nan(p), 0, p) of some exporters makes explicit;
    with finite numbers they are what they were. Keys and values that are repeated for groups of query heads
    (grouped-query attention, arXiv:2305.13245) are read unrepeated.

    Example:

        %t = Transpose(perm=(0, 1, 3, 2))(%k)
        %s = MatMul()(%q, %t)
        %d = Binary(fn="div")(%s, %eight)
        %m = Binary(fn="add")(%d, %mask)
        %p = Softmax(axis=3)(%m)
        %y = MatMul()(%p, %v)

    becomes

        %y = Attention(scale=0.125, ...)(%q, %k, %v, %mask, _, _, _)
    """

    name: ClassVar[str] = "raise-attention"
    numerics: ClassVar[Numerics] = Numerics.APPROXIMATES
    requires: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset({Property.LIVE})

    def rules(self) -> Sequence[Rule]:
        return attention, grouped_heads, *movement.RULES


@rule(MatMul)
def attention(node: Node, builder: GraphBuilder) -> Outcome:
    """softmax(q k^T ...) v -> Attention."""
    probabilities, v = operand(node, 0), operand(node, 1)
    found = find_softmax(probabilities)
    if found is None:
        return None
    softmax, between = found
    scores = read_scores(builder.graph, operand(softmax, 0))
    if scores is None or isinstance(scores, Decline):
        return scores
    for each in (softmax, *between):
        if not read_only_by(builder.graph, each.output, node, *between):
            return Decline("the probabilities are read elsewhere too")
    if scores.q.tensor.rank not in (3, 4):
        return Decline(f"the operands have rank {scores.q.tensor.rank}")
    k = untransposed(builder, scores.transposed_k)
    mask = combined_mask(builder, scores.masks, scores.q.tensor.dtype)
    for problem in (k, mask):
        if isinstance(problem, Decline):
            return problem
    assert isinstance(k, Value) and not isinstance(mask, Decline)
    obstacle = _misfit(scores.q, k, v, mask)
    if obstacle is not None:
        return Decline(obstacle)
    operands = [_with_heads(builder, value) for value in (scores.q, k, v)]
    y = builder.add(Attention(scores.scale, softcap=scores.softcap), *operands, mask, None, None, None)
    return y if node.output.tensor.rank == 4 else builder.add(Reshape(node.output.tensor.shape), y)


def _misfit(q: Value, k: Value, v: Value, mask: Value | None) -> str | None:
    """Why these are no operands of an attention, or None."""
    if not (q.tensor.rank == k.tensor.rank == v.tensor.rank):
        return f"q, k and v have ranks {q.tensor.rank}, {k.tensor.rank} and {v.tensor.rank}"
    if not (q.tensor.dtype is k.tensor.dtype is v.tensor.dtype):
        return f"q, k and v are {q.tensor.dtype}, {k.tensor.dtype} and {v.tensor.dtype}"
    outer = q.tensor.shape[:-2]
    for other, what in ((k, "k"), (v, "v")):
        if not all(map(known_equal, outer, other.tensor.shape[:-2])):
            return f"batch and heads of q and {what} are not known to be equal"
    if not known_equal(k.tensor.shape[-2], v.tensor.shape[-2]):
        return "k and v are not known to have equally many rows"
    if mask is not None and mask.tensor.rank > q.tensor.rank:
        return f"the mask has rank {mask.tensor.rank}"
    return None


def _with_heads(builder: GraphBuilder, x: Value) -> Value:
    """A value of rank 3 as one batch of many heads."""
    return x if x.tensor.rank == 4 else builder.add(Reshape((1, *x.tensor.shape)), x)


@rule(Attention)
def grouped_heads(node: Node, builder: GraphBuilder) -> Outcome:
    """Attention(q, repeat(k), repeat(v)) -> Attention(q, k, v)."""
    k, v = (_unrepeated(operand(node, index)) for index in (1, 2))
    if k is None or v is None:
        return None
    heads: list[Dim] = [value[1] for value in (k, v)]
    if not known_equal(*heads):
        return Decline("keys and values are repeated for different numbers of heads")
    shapes = [(x.tensor.shape[0], heads[0], *x.tensor.shape[2:]) for x in node.operands[1:3]]
    inner = [builder.add(Reshape(shape), value[0]) for shape, value in zip(shapes, (k, v), strict=True)]
    return builder.add_all(node.op, operand(node, 0), *inner, *node.inputs[3:])


def _unrepeated(value: Value) -> tuple[Value, Dim] | None:
    """(x, H) for x [B, H, 1, T, D] expanded along its axis 2 and reshaped to [B, H * r, T, D]."""
    reshaped = made_by(value, Reshape)
    expanded = None if reshaped is None else made_by(operand(reshaped[1], 0), Expand)
    if expanded is None or value.tensor.rank != 4:
        return None
    x, large = operand(expanded[1], 0), expanded[1].output.tensor.shape
    if len(large) != 5 or x.tensor.rank != 5 or x.tensor.shape[2] != 1:
        return None
    batch, heads, repeats, length, width = large
    wanted = (batch, heads * repeats, length, width)
    same = all(map(known_equal, wanted, value.tensor.shape))
    kept = all(known_equal(a, b) for at, (a, b) in enumerate(zip(x.tensor.shape, large)) if at != 2)
    return (x, heads) if same and kept else None
