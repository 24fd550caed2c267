"""Where of constant conditions or equal choices, and comparisons of counters that always hold or fail."""
from __future__ import annotations

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, bounds, is_nonnegative
from dlc.ir.graph import Node, Value
from dlc.ir.ops.movement import Expand, Range, Reshape
from dlc.ir.ops.pointwise import Compare, Where
from dlc.passes.match import broadcast_to, made_by, operand, uniform
from dlc.passes.rewrite import Outcome, Rule, rule


@rule(Where)
def where_decided(node: Node, builder: GraphBuilder) -> Outcome:
    """Where(true, x, y) -> x; Where(c, x, x) -> x."""
    condition, x, y = (operand(node, index) for index in range(3))
    decided = uniform(condition)
    if decided is None and x is not y:
        return None
    return broadcast_to(builder, x if decided or x is y else y, node.output.tensor)


@rule(Compare)
def compare_counter(node: Node, builder: GraphBuilder) -> Outcome:
    """Compare the numbers of a Range with a number that is beside all of them -> true or false."""
    assert isinstance(node.op, Compare)
    interval, number = _counted(operand(node, 0)), uniform(operand(node, 1))
    if interval is None or number is None:
        return None
    answer = _decided(node.op.fn, interval, number)
    if answer is None:
        return None
    return builder.add(Expand(node.output.tensor.shape), builder.constant(np.asarray(answer)))


def _counted(value: Value) -> tuple[int, int | None] | None:
    """The least and greatest number in a Range that counts up by a constant, seen through its shape."""
    while value.producer is not None and isinstance(value.producer.op, (Reshape, Expand)):
        value = operand(value.producer, 0)
    counter = made_by(value, Range)
    if counter is None or not value.tensor.dtype.is_integer:
        return None
    start, delta = (uniform(operand(counter[1], index)) for index in range(2))
    if start is None or delta is None or delta < 0:
        return None
    extent: Dim = counter[0].extent
    most = bounds(extent)[1] if is_nonnegative(extent) else None
    return int(start), None if most is None else int(start + delta * max(most - 1, 0))


def _decided(fn: str, interval: tuple[int, int | None], number: float) -> bool | None:
    """The outcome of the comparison when it is the same for all of the interval."""
    low, high = interval
    match fn:
        case "ge":
            return True if low >= number else False if high is not None and high < number else None
        case "gt":
            return True if low > number else False if high is not None and high <= number else None
        case "lt":
            return False if low >= number else True if high is not None and high < number else None
        case "le":
            return False if low > number else True if high is not None and high <= number else None
    return None


RULES: tuple[Rule, ...] = (where_decided, compare_counter)
