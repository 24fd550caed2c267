"""Constants that are multiplied with, or added to, a contraction or its operand into its weights."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node, Value
from dlc.ir.operator import Array
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.convolution import Conv, ConvTranspose
from dlc.ir.ops.pointwise import Binary
from dlc.passes.channels import Affine, affine, channel_vector, contraction
from dlc.passes.match import operand, same_type, used_once
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule, rule


@dataclasses.dataclass(frozen=True)
class FoldScale(RewritePass):
    """A contraction of, or times, constants for each channel is a contraction with other weights.

    MatMul, Conv and ConvTranspose with constant weights count, MatMul also with a bias added, and with a
    constant added to its operand. Weights are multiplied in float64 and rounded once.

    Example:

        %a = MatMul()(%x, %w)
        %b = Binary(fn="add")(%a, %bias)
        %y = Binary(fn="mul")(%b, %eighth)

    becomes, with %v = w / 8 and %c = bias / 8,

        %a = MatMul()(%x, %v)
        %y = Binary(fn="add")(%a, %c)
    """

    name: ClassVar[str] = "fold-scale"
    numerics: ClassVar[Numerics] = Numerics.REASSOCIATES
    requires: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def rules(self) -> Sequence[Rule]:
        return scale_after, scale_before, shift_before


@rule(Binary)
def scale_after(node: Node, builder: GraphBuilder) -> Outcome:
    """(x w + b) * c -> x (w * c) + b * c."""
    assert isinstance(node.op, Binary)
    if node.op.fn not in ("mul", "div") or not operand(node, 1).is_constant:
        return None
    found = affine(builder, operand(node, 0))
    if found is None or isinstance(found, Decline):
        return found
    factors = _factors(node, found)
    if factors is None:
        return Decline("the constant is not one number a channel")
    return found.scaled(factors).build(builder)


def _factors(node: Node, found: Affine) -> Array | None:
    """What each channel is multiplied by."""
    vector = channel_vector(operand(node, 1), node.output.tensor.rank, found.axis, found.channels)
    if vector is None or node.op == Binary("mul"):
        return vector
    with np.errstate(divide="ignore"):
        return 1 / vector


@rule(MatMul, Conv, ConvTranspose)
def scale_before(node: Node, builder: GraphBuilder) -> Outcome:
    """(x * c) w -> x (w * c)."""
    x = operand(node, 0)
    if x.producer is None or x.producer.op not in (Binary("mul"), Binary("div")):
        return None
    found = _read_once(node, builder, x)
    if found is None or isinstance(found, Decline):
        return found
    inner = operand(x.producer, 0)
    factors = _per_input_channel(found, operand(x.producer, 1), x)
    if factors is None or not same_type(inner.type, x.type):
        return None
    if x.producer.op == Binary("div"):
        with np.errstate(divide="ignore"):
            factors = 1 / factors
    return found.of_scaled(inner, factors).build(builder)


@rule(MatMul)
def shift_before(node: Node, builder: GraphBuilder) -> Outcome:
    """(x + c) w -> x w + c w. Not where x is a product itself, whose bias c is."""
    x = operand(node, 0)
    if x.producer is None or x.producer.op != Binary("add") or not operand(x.producer, 1).is_constant:
        return None
    found = _read_once(node, builder, x)
    if found is None or isinstance(found, Decline):
        return found
    inner = operand(x.producer, 0)
    if inner.producer is not None and isinstance(inner.producer.op, MatMul):
        return None
    terms = _per_input_channel(found, operand(x.producer, 1), x)
    if terms is None or not same_type(inner.type, x.type):
        return None
    return dataclasses.replace(found, x=inner).shifted(terms @ found.weights).build(builder)


def _read_once(node: Node, builder: GraphBuilder, x: Value) -> Affine | Decline | None:
    """A contraction that alone reads its operand `x`."""
    if x.producer is None or not operand(x.producer, 1).is_constant:
        return None
    found = contraction(node)
    if isinstance(found, Affine) and not used_once(builder.graph, x):
        return Decline("the operand before scaling is read elsewhere too")
    return found


def _per_input_channel(found: Affine, constant: Value, x: Value) -> Array | None:
    """A constant as one number for each channel that the contraction sums over."""
    axis = x.tensor.rank - 1 if isinstance(found.op, MatMul) else 1
    return channel_vector(constant, x.tensor.rank, axis, found.inputs)
