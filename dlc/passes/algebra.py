"""Expressions of one variable, as far as rules need to read them: products of factors, and polynomials."""
from __future__ import annotations

import dataclasses

from dlc.ir.graph import Graph, Value
from dlc.ir.ops.pointwise import Binary
from dlc.passes.match import binary, made_by, operand, unary, uniform, used_once

#: Nodes that a rule looks through below its root.
DEPTH = 8


@dataclasses.dataclass(frozen=True)
class Factors:
    """A product: a number times values, which may occur more than once."""

    number: float
    values: tuple[Value, ...]

    def without(self, *values: Value) -> Factors | None:
        """The quotient by `values`; None when one of them is no factor."""
        rest = list(self.values)
        for value in values:
            match = next((index for index, each in enumerate(rest) if each is value), None)
            if match is None:
                return None
            del rest[match]
        return Factors(self.number, tuple(rest))


def factors(graph: Graph, value: Value) -> Factors:
    """`value` taken apart through products, and quotients by numbers, that nothing else reads."""
    number, values = 1.0, []
    pending = [(value, 0)]
    while pending:
        each, depth = pending.pop()
        constant = uniform(each)
        if constant is not None:
            number *= constant
            continue
        if depth < DEPTH and (depth == 0 or used_once(graph, each)):
            product = binary(each, "mul")
            if product is not None:
                pending += [(part, depth + 1) for part in product]
                continue
            quotient = binary(each, "div")
            divisor = None if quotient is None else uniform(quotient[1])
            if quotient is not None and divisor:
                number /= divisor
                pending.append((quotient[0], depth + 1))
                continue
        values.append(each)
    return Factors(number, tuple(reversed(values)))


def polynomial(value: Value, x: Value, depth: int = 0) -> dict[int, float] | None:
    """The coefficients by degree of `value` as a polynomial in `x`; None when it is none."""
    if value is x:
        return {1: 1.0}
    number = uniform(value)
    if number is not None:
        return {0: number}
    if depth == DEPTH:
        return None
    if (negated := unary(value, "neg")) is not None:
        inner = polynomial(negated, x, depth + 1)
        return None if inner is None else {degree: -c for degree, c in inner.items()}
    made = made_by(value, Binary)
    if made is None:
        return None
    left = polynomial(operand(made[1], 0), x, depth + 1)
    right = polynomial(operand(made[1], 1), x, depth + 1)
    return None if left is None or right is None else _combined(made[0].fn, left, right)


def _combined(fn: str, left: dict[int, float], right: dict[int, float]) -> dict[int, float] | None:
    """The polynomial of fn(left, right)."""
    result: dict[int, float] = {}
    match fn:
        case "add" | "sub":
            for degree in left.keys() | right.keys():
                sign = 1 if fn == "add" else -1
                result[degree] = left.get(degree, 0) + sign * right.get(degree, 0)
        case "mul":
            for i, a in left.items():
                for j, b in right.items():
                    result[i + j] = result.get(i + j, 0) + a * b
        case "div" if right.keys() == {0} and right[0]:
            result = {degree: c / right[0] for degree, c in left.items()}
        case "pow" if right.keys() == {0} and right[0] in (1, 2, 3):
            result = {0: 1.0}
            for _ in range(int(right[0])):
                product = _combined("mul", result, left)
                assert product is not None
                result = product
        case _:
            return None
    return {degree: c for degree, c in result.items() if c} or {0: 0.0}
