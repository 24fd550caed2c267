"""Recognition of what normalizations are written with: means, squares, inverse roots over the same axes."""
from __future__ import annotations

import dataclasses

from dlc.ir.graph import Value
from dlc.ir.ops.reduction import Reduce
from dlc.passes.match import binary, made_by, operand, unary, uniform, with_number


@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean of `x` over `axes`, kept with extent 1."""

    x: Value
    axes: tuple[int, ...]


def mean(value: Value | None) -> Mean | None:
    """`value` as a mean with its axes kept."""
    made = made_by(value, Reduce)
    if made is None or made[0].fn != "mean" or not made[0].keepdims or not made[0].axes:
        return None
    return Mean(operand(made[1], 0), made[0].axes)


def squared(value: Value | None) -> Value | None:
    """The x of x * x or x ** 2."""
    product = binary(value, "mul")
    if product is not None and product[0] is product[1]:
        return product[0]
    power = binary(value, "pow")
    return power[0] if power is not None and uniform(power[1]) == 2 else None


def root_of_shifted(value: Value | None) -> tuple[Value, float] | None:
    """(v, epsilon) of sqrt(v + epsilon), or of (v + epsilon) ** 0.5."""
    inner = unary(value, "sqrt")
    if inner is None:
        power = binary(value, "pow")
        inner = power[0] if power is not None and uniform(power[1]) == 0.5 else None
    return None if inner is None else _shifted(inner)


def inverse_root_of_shifted(value: Value | None) -> tuple[Value, float] | None:
    """(v, epsilon) of 1 / sqrt(v + epsilon), however it is written."""
    root = unary(value, "reciprocal")
    quotient = binary(value, "div")
    power = binary(value, "pow")
    if root is not None:
        return root_of_shifted(root)
    if quotient is not None and uniform(quotient[0]) == 1:
        return root_of_shifted(quotient[1])
    if power is not None and uniform(power[1]) == -0.5:
        return _shifted(power[0])
    return None


def _shifted(value: Value) -> tuple[Value, float] | None:
    """(v, epsilon) of v + epsilon; epsilon is 0 when nothing is added to a mean."""
    found = with_number(value, "add")
    if found is not None:
        return found
    return (value, 0.0) if mean(value) is not None else None


def divided_by_root(value: Value | None) -> tuple[Value, Value, float] | None:
    """(x, v, epsilon) of x / sqrt(v + epsilon), as a quotient or as a product with the inverse."""
    quotient = binary(value, "div")
    if quotient is not None:
        root = root_of_shifted(quotient[1])
        return None if root is None else (quotient[0], *root)
    for x, factor in _either_order(value):
        inverse = inverse_root_of_shifted(factor)
        if inverse is not None:
            return (x, *inverse)
    return None


def _either_order(value: Value | None) -> list[tuple[Value, Value]]:
    product = binary(value, "mul")
    return [] if product is None else [product, product[::-1]]


def trailing(axes: tuple[int, ...], rank: int) -> int | None:
    """The first of `axes` when they are the last ones of a tensor of `rank`."""
    return axes[0] if axes == tuple(range(rank - len(axes), rank)) else None


