"""Addition of constants after a convolution into its bias, and of two constants into one."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node
from dlc.ir.ops.conversion import convert
from dlc.ir.ops.convolution import Conv, ConvTranspose
from dlc.ir.ops.pointwise import Binary
from dlc.passes.channels import affine, channel_vector, wide
from dlc.passes.match import binary, broadcast_to, operand, uniform, used_once
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule, rule


@dataclasses.dataclass(frozen=True)
class FoldBias(RewritePass):
    """Conv(x, w) + c, with c a constant for each channel, is Conv(x, w, c); constants are added in float64.

    What adds zeros goes.

    Example:

        %a = Conv(...)(%x, %w)
        %y = Binary(fn="add")(%a, %c)      # %c: f32[64, 1, 1]

    becomes, with %b: f32[64],

        %y = Conv(...)(%x, %w, %b)
    """

    name: ClassVar[str] = "fold-bias"
    numerics: ClassVar[Numerics] = Numerics.REASSOCIATES
    requires: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def rules(self) -> Sequence[Rule]:
        return constant_into_bias, two_constants, zero_term


@rule(Binary)
def constant_into_bias(node: Node, builder: GraphBuilder) -> Outcome:
    """Conv(x, w, b) + c -> Conv(x, w, b + c)."""
    x = operand(node, 0)
    if node.op != Binary("add") or not operand(node, 1).is_constant or x.producer is None:
        return None
    if not isinstance(x.producer.op, (Conv, ConvTranspose)):
        return None
    found = affine(builder, x)
    if found is None or isinstance(found, Decline):
        return found
    terms = channel_vector(operand(node, 1), x.tensor.rank, found.axis, found.channels)
    if terms is None:
        return Decline("the constant is not one number a channel")
    return found.shifted(terms).build(builder)


@rule(Binary)
def two_constants(node: Node, builder: GraphBuilder) -> Outcome:
    """(x + c) + d -> x + (c + d)."""
    inner, second = operand(node, 0), operand(node, 1)
    if node.op != Binary("add") or second.data is None or not second.tensor.dtype.is_float:
        return None
    operands = binary(inner, "add")
    if operands is None or operands[1].data is None or not used_once(builder.graph, inner):
        return None
    total = convert(np.asarray(wide(operands[1]) + wide(second)), second.tensor.dtype)
    return builder.add(node.op, operands[0], builder.constant(total, "bias"))


@rule(Binary)
def zero_term(node: Node, builder: GraphBuilder) -> Outcome:
    """x + 0 -> x, which differs where x is -0."""
    if node.op != Binary("add") or uniform(operand(node, 1)) != 0:
        return None
    return broadcast_to(builder, operand(node, 0), node.output.tensor)
