"""Exponentials divided by their sum back to Softmax."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node, Value
from dlc.ir.ops.normalization import LogSoftmax, Softmax
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.ir.ops.reduction import Reduce
from dlc.passes.match import binary, made_by, operand, unary
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule, rule


@dataclasses.dataclass(frozen=True)
class RaiseSoftmax(RewritePass):
    """exp(x - max(x)) / sum(exp(x - max(x))) along one axis is Softmax; its logarithm is LogSoftmax.

    Without the subtraction it is not raised, since it then overflows where Softmax does not.

    Example:

        %m = Reduce(fn="max", axes=(1,), keepdims=true)(%x)
        %d = Binary(fn="sub")(%x, %m)
        %e = Unary(fn="exp")(%d)
        %s = Reduce(fn="sum", axes=(1,), keepdims=true)(%e)
        %y = Binary(fn="div")(%e, %s)

    becomes

        %y = Softmax(axis=1)(%x)
    """

    name: ClassVar[str] = "raise-softmax"
    numerics: ClassVar[Numerics] = Numerics.APPROXIMATES
    requires: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def rules(self) -> Sequence[Rule]:
        return softmax, log_of_softmax


@rule(Binary)
def softmax(node: Node, builder: GraphBuilder) -> Outcome:
    """exp(x - max(x)) / sum(exp(x - max(x))) -> Softmax(x)."""
    quotient = binary(node.output, "div")
    total = None if quotient is None else _reduced(quotient[1], "sum")
    if quotient is None or total is None or total[0] is not quotient[0]:
        return None
    exponent = unary(quotient[0], "exp")
    if exponent is None:
        return None
    shifted = binary(exponent, "sub")
    largest = None if shifted is None else _reduced(shifted[1], "max")
    if shifted is None or largest is None or largest[0] is not shifted[0]:
        return Decline("no maximum is subtracted, so that large exponents overflow")
    if largest[1] != total[1] or len(total[1]) != 1:
        return Decline(f"axes {list(largest[1])} and {list(total[1])} are not the same single axis")
    return builder.add(Softmax(total[1][0]), shifted[0])


def _reduced(value: Value, fn: str) -> tuple[Value, tuple[int, ...]] | None:
    """The operand and axes of a reduction that keeps them."""
    made = made_by(value, Reduce)
    if made is None or made[0].fn != fn or not made[0].keepdims:
        return None
    return operand(made[1], 0), made[0].axes


@rule(Unary)
def log_of_softmax(node: Node, builder: GraphBuilder) -> Outcome:
    """log(Softmax(x)) -> LogSoftmax(x)."""
    made = made_by(unary(node.output, "log"), Softmax)
    return None if made is None else builder.add(LogSoftmax(made[0].axis), operand(made[1], 0))
