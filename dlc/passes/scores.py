"""Attention scores as exporters write them: what stands between the product of Q and K and the softmax."""
from __future__ import annotations

import dataclasses

from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.movement import Reshape, Transpose
from dlc.ir.ops.normalization import Softmax
from dlc.ir.ops.pointwise import Binary, Cast, Clip, Unary, Where
from dlc.passes.match import made_by, operand, unary, uniform, used_once
from dlc.passes.rewrite import Decline

#: Nodes between softmax and product that are looked through.
DEPTH = 12


@dataclasses.dataclass(frozen=True)
class Mask:
    """What is added to the scores: `value`, times `factor`; or, where `condition` fails, `fill` instead.

    Exactly one of `value` and `condition` is set. `inverted`: where the condition holds instead.
    """

    value: Value | None = None
    factor: float = 1.0
    condition: Value | None = None
    fill: float = 0.0
    inverted: bool = False


@dataclasses.dataclass
class Scores:
    """softcap * tanh(scale * q k^T / softcap), plus the masks; softcap 0 means none."""

    q: Value
    transposed_k: Value
    scale: float = 1.0
    softcap: float = 0.0
    masks: list[Mask] = dataclasses.field(default_factory=list)


def find_softmax(probabilities: Value) -> tuple[Node, list[Node]] | None:
    """The Softmax over the last axis that made `probabilities`, and the nodes in between.

    These are casts, and the guard Where(is_nan(p), 0, p) of PyTorch's exporters against rows without a
    visible key.
    """
    value = probabilities
    between: list[Node] = []
    for _ in range(DEPTH):
        node = value.producer
        if node is None:
            return None
        match node.op:
            case Softmax(axis=axis) if axis == value.tensor.rank - 1:
                return node, between
            case Cast() if value.tensor.dtype.is_float and operand(node, 0).tensor.dtype.is_float:
                value = operand(node, 0)
            case Where():
                guarded, test = _guarded(node), operand(node, 0).producer
                if guarded is None or test is None:
                    return None
                between.append(test)
                value = guarded
            case _:
                return None
        between.append(node)
    return None


def _guarded(node: Node) -> Value | None:
    """The p of Where(is_nan(p), 0, p)."""
    condition, fill, p = (operand(node, index) for index in range(3))
    return p if unary(condition, "is_nan") is p and uniform(fill) == 0 else None


def read_scores(graph: Graph, value: Value) -> Scores | Decline | None:
    """Take the operand of a softmax apart, down to the product of Q and the transposed K.

    None when there is no product below; Decline when something in between has no place in an attention.
    """
    if _steps_to_product(value) is None:
        return None
    factor, softcap, inside = 1.0, 0.0, 1.0
    masks: list[Mask] = []
    for _ in range(DEPTH):
        node = value.producer
        if node is None or not used_once(graph, value):
            return Decline("scores are read elsewhere too")
        match node.op:
            case MatMul():
                scale = inside * softcap * factor if softcap else factor
                return _product(node, scale, softcap, masks)
            case Cast():
                value = operand(node, 0)
            case Binary(fn="mul" | "div" as fn):
                number = uniform(operand(node, 1))
                if number is None:
                    return Decline("scores are scaled by something that is not one number")
                factor *= number if fn == "mul" else 1 / number if number else float("inf")
                value = operand(node, 0)
            case Binary(fn="add"):
                if softcap:
                    return Decline("a mask is added before the soft cap")
                value, other = _scores_first(node)
                masks.append(Mask(other, factor))
            case Where():
                if softcap:
                    return Decline("scores are masked before the soft cap")
                mask = _where_mask(node, factor)
                if mask is None:
                    return Decline("scores are replaced by something that is not one number")
                value, found = mask
                masks.append(found)
            case Unary(fn="tanh") if not softcap:
                softcap, factor = factor, 1.0
                value = operand(node, 0)
            case _:
                return Decline(f"{node.op.name} stands between the product and the softmax")
    return Decline("too much stands between the product and the softmax")


def _steps_to_product(value: Value, depth: int = 0) -> int | None:
    """How many nodes of kinds that occur there lie between `value` and a product; None without a product."""
    node = value.producer
    if node is None or depth > DEPTH:
        return None
    match node.op:
        case MatMul():
            return depth
        case Cast() | Unary(fn="tanh") | Binary(fn="mul" | "div") | Reshape() | Clip():
            return _steps_to_product(operand(node, 0), depth + 1)
        case Binary(fn="add"):
            steps = [_steps_to_product(operand(node, index), depth + 1) for index in (0, 1)]
            return min((step for step in steps if step is not None), default=None)
        case Where():
            steps = [_steps_to_product(operand(node, index), depth + 1) for index in (1, 2)]
            return min((step for step in steps if step is not None), default=None)
    return None


def _scores_first(node: Node) -> tuple[Value, Value]:
    """The operands of a sum, the one that a product is nearest to first."""
    left, right = operand(node, 0), operand(node, 1)
    steps = [_steps_to_product(left), _steps_to_product(right)]
    if steps[0] is None or (steps[1] is not None and steps[1] < steps[0]):
        return right, left
    return left, right


def _where_mask(node: Node, factor: float) -> tuple[Value, Mask] | None:
    """Scores and mask of Where(condition, scores, fill) or Where(condition, fill, scores)."""
    condition, first, second = (operand(node, index) for index in range(3))
    if (fill := uniform(second)) is not None:
        return first, Mask(condition=condition, fill=fill * factor)
    if (fill := uniform(first)) is not None:
        return second, Mask(condition=condition, fill=fill * factor, inverted=True)
    return None


def _product(node: Node, scale: float, softcap: float, masks: list[Mask]) -> Scores | Decline:
    """The end of the walk: Q and K, with numbers that they are multiplied by moved into the scale."""
    operands = []
    for index in (0, 1):
        value = operand(node, index)
        while value.producer is not None and value.producer.op in (Binary("mul"), Binary("div")):
            number = uniform(operand(value.producer, 1))
            if not number:
                break
            scale = scale * number if value.producer.op == Binary("mul") else scale / number
            value = operand(value.producer, 0)
        operands.append(value)
    q, transposed_k = operands
    if scale < 0:
        return Decline("the scale is negative")
    return Scores(q, transposed_k, scale, softcap, masks)


def combined_mask(builder: GraphBuilder, masks: list[Mask], dtype: DType) -> Value | Decline | None:
    """One mask operand of an Attention for all of `masks`, or None when there are none.

    A condition with fill -inf becomes a bool mask; with a fill so low that a sum with scores is the fill, a
    sum; both leave the result as it is, except that rows without a visible key give 0 instead of NaN.
    """
    total: Value | None = None
    conditions: list[Value] = []
    for mask in masks:
        if mask.value is not None:
            term = mask.value
            if mask.factor != 1:
                factor = builder.constant(mask.factor, dtype=term.tensor.dtype)
                term = builder.add(Binary("mul"), term, factor)
        elif mask.condition is not None and mask.fill == -float("inf"):
            visible = builder.add(Unary("not"), mask.condition) if mask.inverted else mask.condition
            conditions.append(visible)
            continue
        elif mask.condition is not None and mask.fill <= -1e30:
            zero, fill = (builder.constant(number, dtype=dtype) for number in (0.0, mask.fill))
            choices = (fill, zero) if mask.inverted else (zero, fill)
            term = builder.add(Where(), mask.condition, *choices)
        else:
            return Decline(f"hidden scores are replaced by {mask.fill}, which shows where all are hidden")
        total = term if total is None else builder.add(Binary("add"), total, term)
    visible_to_all = None
    for condition in conditions:
        visible_to_all = condition if visible_to_all is None \
            else builder.add(Binary("and"), visible_to_all, condition)
    if visible_to_all is None or total is None:
        return total if visible_to_all is None else visible_to_all
    hidden = builder.constant(-float("inf"), dtype=dtype)
    return builder.add(Where(), visible_to_all, total, hidden)


def untransposed(builder: GraphBuilder, transposed_k: Value) -> Value | Decline:
    """K itself, of a K with its last two axes exchanged."""
    if made_by(transposed_k, Transpose) is None and not transposed_k.is_constant:
        source = transposed_k.producer
        inner = None if source is None or not source.inputs else made_by(operand(source, 0), Transpose)
        if inner is None:
            return Decline("K is not transposed by a Transpose")
    rank = transposed_k.tensor.rank
    return builder.add(Transpose((*range(rank - 2), rank - 1, rank - 2)), transposed_k)
