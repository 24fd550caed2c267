"""Small questions that rules ask about values: who made it, which constant is it, who else reads it."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, known_equal
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.operator import Operator
from dlc.ir.ops.movement import Expand, Reshape
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.ir.types import TensorType, Type

Op = TypeVar("Op", bound=Operator)


_SAME_ELEMENTS = (Expand, Reshape)


def made_by(value: Value | None, kind: type[Op]) -> tuple[Op, Node] | None:
    """The operator and node that produced `value`, when it is of that kind."""
    if value is None or value.producer is None or not isinstance(value.producer.op, kind):
        return None
    return value.producer.op, value.producer


def operand(node: Node, index: int) -> Value:
    """An operand that inference has found present."""
    value = node.inputs[index]
    if value is None:
        raise TypeError(f"operand {index} of {node} is absent")
    return value


def unary(value: Value | None, fn: str) -> Value | None:
    """The x of fn(x), when `value` is that."""
    match made_by(value, Unary):
        case (Unary(fn=name), node) if name == fn:
            return operand(node, 0)
    return None


def binary(value: Value | None, fn: str) -> tuple[Value, Value] | None:
    """The operands of fn(x, y), when `value` is that."""
    match made_by(value, Binary):
        case (Binary(fn=name), node) if name == fn:
            return operand(node, 0), operand(node, 1)
    return None


def uniform(value: Value | None) -> float | None:
    """The number that all elements of a constant have; None for other values and where there is none.

    A constant counts as one also when it is broadcast or reshaped.
    """
    while value is not None and value.producer is not None and isinstance(value.producer.op, _SAME_ELEMENTS):
        value = operand(value.producer, 0)
    if value is None or value.data is None or not value.data.size or value.tensor.dtype.bits == 0:
        return None
    first = value.data.reshape(-1)[:1]
    if value.data.size > 1 and not (value.data == first).all():
        return None
    return None if np.iscomplexobj(first) else float(first[0])


def with_number(value: Value | None, fn: str) -> tuple[Value, float] | None:
    """(x, c) for fn(x, c) with a number c on the right; for commutative fn on either side."""
    operands = binary(value, fn)
    if operands is None:
        return None
    left, right = operands
    number = uniform(right)
    if number is not None:
        return left, number
    number = uniform(left) if fn in COMMUTATIVE else None
    return None if number is None else (right, number)


#: Binary functions whose operands may be exchanged.
COMMUTATIVE = frozenset({"add", "mul", "max", "min", "and", "or", "xor",
                         "bitwise_and", "bitwise_or", "bitwise_xor"})


def broadcast_to(builder: GraphBuilder, value: Value, type_: TensorType) -> Value:
    """`value` with the shape of `type_`, to which it broadcasts."""
    return value if same_type(value.type, type_) else builder.add(Expand(type_.shape), value)


def same_type(left: Type, right: Type) -> bool:
    """Whether two types are provably the same."""
    if isinstance(left, TensorType) and isinstance(right, TensorType):
        return (left.dtype is right.dtype and left.layout == right.layout and left.rank == right.rank
                and all(known_equal(a, b) for a, b in zip(left.shape, right.shape, strict=True)))
    return left == right


def static_shape(shape: Sequence[Dim]) -> tuple[int, ...] | None:
    """The extents as numbers; None when one is symbolic."""
    numbers = tuple(extent for extent in shape if isinstance(extent, int))
    return numbers if len(numbers) == len(shape) else None


def is_close(number: float | None, wanted: float, relative: float = 1e-3) -> bool:
    """Whether a constant is meant to be `wanted`: exporters write 1/sqrt(2) with 3 to 9 digits."""
    return number is not None and math.isclose(number, wanted, rel_tol=relative)


def read_only_by(graph: Graph, value: Value, *nodes: Node) -> bool:
    """Whether nothing but `nodes` reads `value`."""
    return not graph.output_uses(value) and all(user in nodes for user in value.uses)


def used_once(graph: Graph, value: Value) -> bool:
    """Whether exactly one node, and no graph output, reads `value`."""
    return len(value.uses) == 1 and not graph.output_uses(value)

