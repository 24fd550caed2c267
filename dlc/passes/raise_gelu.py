"""The Gaussian error linear unit, written out, back to one function."""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node, Value
from dlc.ir.ops.pointwise import Activation, Binary, Unary
from dlc.passes.algebra import factors, polynomial
from dlc.passes.match import binary, is_close, same_type, unary, uniform
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule, rule

#: Coefficients of the argument of tanh (Hendrycks and Gimpel, arXiv:1606.08415, section 2).
LINEAR = math.sqrt(2 / math.pi)
CUBIC = 0.044715 * LINEAR


@dataclasses.dataclass(frozen=True)
class RaiseGelu(RewritePass):
    """x / 2 * (1 + erf(x / sqrt(2))) is gelu(x); with tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) gelu_tanh(x).

    The factors may be multiplied in any order, the arguments be any polynomial with these coefficients;
    numbers may be rounded to three digits. x * sigmoid(1.702 x) is swish with alpha 1.702.

    Example:

        %a = Binary(fn="div")(%x, %root_of_two)
        %b = Unary(fn="erf")(%a)
        %c = Binary(fn="add")(%b, %one)
        %d = Binary(fn="mul")(%x, %c)
        %y = Binary(fn="mul")(%d, %half)

    becomes

        %y = Unary(fn="gelu")(%x)
    """

    name: ClassVar[str] = "raise-gelu"
    numerics: ClassVar[Numerics] = Numerics.APPROXIMATES
    requires: ClassVar[frozenset[Property]] = frozenset({Property.CANONICAL})
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def rules(self) -> Sequence[Rule]:
        return gelu, swish


@rule(Binary)
def gelu(node: Node, builder: GraphBuilder) -> Outcome:
    """x * 0.5 * (1 + erf(x / sqrt(2))) -> gelu(x), and the form with tanh."""
    product = factors(builder.graph, node.output)
    if len(product.values) != 2:
        return None
    for x, bell in (product.values, product.values[::-1]):
        inner = _plus_one(bell)
        if inner is None:
            continue
        argument, fn = unary(inner, "erf"), "gelu"
        if argument is None:
            argument, fn = unary(inner, "tanh"), "gelu_tanh"
        if argument is None:
            continue
        if not is_close(product.number, 0.5):
            return Decline(f"the product has the factor {product.number} instead of 0.5")
        coefficients = polynomial(argument, x)
        if coefficients is None:
            return Decline(f"the argument of {inner.producer} is no polynomial of the other factor")
        wanted = {1: math.sqrt(0.5)} if fn == "gelu" else {1: LINEAR, 3: CUBIC}
        if coefficients.keys() != wanted.keys() or not all(
                is_close(coefficients[degree], wanted[degree]) for degree in wanted):
            return Decline(f"the coefficients {coefficients} are not those of {fn}")
        return builder.add(Unary(fn), x) if same_type(x.type, node.output.type) else None
    return None


def _plus_one(value: Value) -> Value | None:
    """The x of x + 1."""
    terms = binary(value, "add")
    return terms[0] if terms is not None and uniform(terms[1]) == 1 else None


@rule(Binary)
def swish(node: Node, builder: GraphBuilder) -> Outcome:
    """x * sigmoid(alpha * x) -> swish(x), for a number alpha that is not 1."""
    product = factors(builder.graph, node.output)
    if len(product.values) != 2 or product.number != 1:
        return None
    for x, gate in (product.values, product.values[::-1]):
        argument = unary(gate, "sigmoid")
        coefficients = None if argument is None or argument is x else polynomial(argument, x)
        if coefficients is not None and coefficients.keys() == {1}:
            return builder.add(Activation("swish", alpha=coefficients[1]), x)
    return None
