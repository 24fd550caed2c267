"""Activations that are written out back to one function each."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node, Value
from dlc.ir.ops.pointwise import Activation, Binary, Clip, Unary
from dlc.passes.algebra import factors, polynomial
from dlc.passes.match import binary, is_close, made_by, operand, unary, uniform
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import Outcome, RewritePass, Rule, rule


@dataclasses.dataclass(frozen=True)
class RaiseActivations(RewritePass):
    """sigmoid, silu, hard_sigmoid, hard_swish, softplus and mish from the arithmetic that defines them.

        1 / (1 + exp(-x))                       sigmoid(x)
        x * sigmoid(x)                          silu(x)
        Clip(x + 3, 0, 6) / 6, and multiples    hard_sigmoid(x) with alpha = 1/6, beta = 1/2
        x * hard_sigmoid(x)                     hard_swish(x)
        log(1 + exp(x))                         softplus(x)
        x * tanh(softplus(x))                   mish(x)

    Example:

        %s = Unary(fn="sigmoid")(%x)
        %y = Binary(fn="mul")(%x, %s)

    becomes

        %y = Unary(fn="silu")(%x)
    """

    name: ClassVar[str] = "raise-activations"
    numerics: ClassVar[Numerics] = Numerics.APPROXIMATES
    requires: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def rules(self) -> Sequence[Rule]:
        return sigmoid, softplus, hard_sigmoid, gated, hard_swish


@rule(Binary, Unary)
def sigmoid(node: Node, builder: GraphBuilder) -> Outcome:
    """1 / (1 + exp(-x)) -> sigmoid(x)."""
    denominator = unary(node.output, "reciprocal")
    quotient = binary(node.output, "div")
    if quotient is not None and uniform(quotient[0]) == 1:
        denominator = quotient[1]
    power = _exp_plus_one(denominator)
    x = unary(power, "neg")
    return None if x is None else builder.add(Unary("sigmoid"), x)


def _exp_plus_one(value: Value | None) -> Value | None:
    """The x of exp(x) + 1."""
    terms = binary(value, "add")
    return unary(terms[0], "exp") if terms is not None and uniform(terms[1]) == 1 else None


@rule(Unary)
def softplus(node: Node, builder: GraphBuilder) -> Outcome:
    """log(exp(x) + 1) -> softplus(x)."""
    x = _exp_plus_one(unary(node.output, "log"))
    return None if x is None else builder.add(Unary("softplus"), x)


@rule(Binary, Clip)
def hard_sigmoid(node: Node, builder: GraphBuilder) -> Outcome:
    """Clip(x + 3, 0, 6) / 6 or Clip(x / 6 + 1/2, 0, 1) -> hard_sigmoid(x)."""
    number, clipped = 1.0, node.output
    if isinstance(node.op, Binary):
        product = factors(builder.graph, node.output)
        if len(product.values) != 1:
            return None
        number, (clipped,) = product.number, product.values
    clip = made_by(clipped, Clip)
    if clip is None or clip[0].low != 0 or clip[0].high is None or not is_close(clip[0].high * number, 1):
        return None
    inner = operand(clip[1], 0)
    terms = binary(inner, "add")
    scaled = None if terms is None else factors(builder.graph, terms[0])
    if terms is None or scaled is None or len(scaled.values) != 1:
        return None
    coefficients = polynomial(inner, scaled.values[0])
    if coefficients is None or coefficients.keys() != {0, 1}:
        return None
    op = Activation("hard_sigmoid", alpha=coefficients[1] * number, beta=coefficients[0] * number)
    return builder.add(op, scaled.values[0])


@rule(Binary)
def gated(node: Node, builder: GraphBuilder) -> Outcome:
    """x * sigmoid(x) -> silu(x), x * hard_sigmoid(x) -> hard_swish(x), x * tanh(softplus(x)) -> mish(x)."""
    product = binary(node.output, "mul")
    for x, gate in () if product is None else (product, product[::-1]):
        if unary(gate, "sigmoid") is x:
            return builder.add(Unary("silu"), x)
        if unary(unary(gate, "tanh"), "softplus") is x:
            return builder.add(Unary("mish"), x)
        hard = made_by(gate, Activation)
        if hard is not None and operand(hard[1], 0) is x and _is_sixth(hard[0]):
            return builder.add(Unary("hard_swish"), x)
    return None


def _is_sixth(op: Activation) -> bool:
    """Whether this is the hard sigmoid of hard_swish."""
    return op.fn == "hard_sigmoid" and is_close(op.alpha, 1 / 6) and is_close(op.beta, 0.5)


@rule(Binary)
def hard_swish(node: Node, builder: GraphBuilder) -> Outcome:
    """x * Clip(x + 3, 0, 6) / 6, with the division last, -> hard_swish(x)."""
    product = factors(builder.graph, node.output)
    if len(product.values) != 2 or not is_close(product.number, 1 / 6):
        return None
    for x, gate in (product.values, product.values[::-1]):
        clip = made_by(gate, Clip)
        shifted = None if clip is None or clip[0] != Clip(0, 6) else operand(clip[1], 0)
        if shifted is not None and polynomial(shifted, x) == {0: 3.0, 1: 1.0}:
            return builder.add(Unary("hard_swish"), x)
    return None
