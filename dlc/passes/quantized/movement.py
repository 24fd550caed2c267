"""Roundings go before what moves numbers or chooses among them, where they may undo a dequantization."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node, Value
from dlc.ir.ops.conversion import integer_range
from dlc.ir.ops.convolution import Pool
from dlc.ir.ops.movement import Concat, Expand, Reshape, Slice, Tile, Transpose
from dlc.ir.ops.pointwise import Clip, Unary
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.passes.match import made_by, operand, used_once
from dlc.passes.quantized.stored import Rounding, dequantized, rounding
from dlc.passes.rewrite import Decline, Outcome, rule

#: What a rounding of the whole tensor may go before.
MOVEMENTS = (Concat, Expand, Reshape, Slice, Tile, Transpose)


@rule(QuantizeLinear)
def before_movement(node: Node, builder: GraphBuilder) -> Outcome:
    """q(move(x)) -> move(q(x)), for a scale of the whole tensor; of Concat all operands are rounded."""
    to, moved = rounding(node), operand(node, 0)
    if to is None or moved.producer is None or not isinstance(moved.producer.op, MOVEMENTS):
        return None
    if not used_once(builder.graph, moved):
        return None
    return builder.add(moved.producer.op, *_rounded(builder, node, moved.producer.operands))


def _rounded(builder: GraphBuilder, node: Node, values: Sequence[Value]) -> list[Value]:
    """Each of `values`, quantized as `node` does."""
    op = dataclasses.replace(node.op, axis=0) if isinstance(node.op, QuantizeLinear) else node.op
    return [builder.add(op, value, *node.inputs[1:]) for value in values]


@rule(QuantizeLinear)
def same_scale(node: Node, builder: GraphBuilder) -> Outcome:
    """q(dq(x)) -> x, with the same scale and zero point."""
    to, made = rounding(node), made_by(operand(node, 0), DequantizeLinear)
    if to is None or made is None:
        return None
    stored = dequantized(builder, operand(node, 0))
    return stored.value if stored is not None and to.undoes(stored) else None


@rule(QuantizeLinear)
def before_maximum(node: Node, builder: GraphBuilder) -> Outcome:
    """q(max_pool(dq(x))) -> max_pool(q(dq(x))): rounding keeps the order of numbers."""
    to, pooled = rounding(node), operand(node, 0)
    made = made_by(pooled, Pool)
    if to is None or made is None or made[0].fn != "max" or len(made[1].outputs) != 1:
        return None
    x = operand(made[1], 0)
    if made_by(x, DequantizeLinear) is None:
        return None
    if not used_once(builder.graph, pooled):
        return Decline("others read the maxima before they are rounded")
    return builder.add(made[0], *_rounded(builder, node, [x]))


@rule(QuantizeLinear)
def before_clip(node: Node, builder: GraphBuilder) -> Outcome:
    """q(clip(x)) -> clip(q(x)), or q(x) when the type has no numbers beyond the bounds; relu is a clip."""
    to, clipped = rounding(node), operand(node, 0)
    bounds = None if to is None else _bounds(clipped, to)
    if to is None or bounds is None or clipped.producer is None or not used_once(builder.graph, clipped):
        return None
    (stored,) = _rounded(builder, node, clipped.producer.operands)
    return stored if bounds == integer_range(to.to) else builder.add(Clip(*bounds), stored)


def _bounds(value: Value, to: Rounding) -> tuple[int, int] | None:
    """The integers between which `value` is stored, when it is clipped."""
    low: float | None
    high: float | None
    match value.producer:
        case Node(op=Clip(low=low, high=high)):
            pass
        case Node(op=Unary(fn="relu")):
            low, high = 0.0, None
        case _:
            return None
    smallest, largest = integer_range(to.to)

    def step(bound: float) -> int:
        quotient = np.float32(bound) / np.float32(to.scale)
        return int(np.clip(np.rint(quotient) + to.zero_point, smallest, largest))

    return smallest if low is None else step(low), largest if high is None else step(high)


RULES = (before_clip, before_movement, same_scale, before_maximum)
