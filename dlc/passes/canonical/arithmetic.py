"""Arithmetic: constants to the right, neutral elements, double functions, one Clip for many."""
from __future__ import annotations

import math

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node
from dlc.ir.ops.pointwise import Binary, Clip, Compare, Unary
from dlc.passes.match import COMMUTATIVE, broadcast_to, operand, same_type, unary, uniform
from dlc.passes.rewrite import Outcome, Rule, rule

#: a < b is b > a, and so on.
MIRRORED = {"eq": "eq", "lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}
#: Functions f with f(f(x)) = f(x), and with f(f(x)) = x.
IDEMPOTENT = frozenset({"abs", "relu", "floor", "ceil", "round", "sign"})
INVOLUTIONS = frozenset({"neg", "not", "bitwise_not"})


@rule(Binary, Compare)
def constant_right(node: Node, builder: GraphBuilder) -> Outcome:
    """add(c, x) -> add(x, c); lt(c, x) -> gt(x, c)."""
    left, right = operand(node, 0), operand(node, 1)
    if not left.is_constant or right.is_constant:
        return None
    match node.op:
        case Binary(fn=fn) if fn in COMMUTATIVE:
            return builder.add(node.op, right, left)
        case Compare(fn=fn):
            return builder.add(Compare(MIRRORED[fn]), right, left)
    return None


@rule(Binary)
def neutral_element(node: Node, builder: GraphBuilder) -> Outcome:
    """x - 0, x * 1, x / 1, x ** 1, x and true, ... -> x; x + 0 of integers, but x + -0 of floats."""
    assert isinstance(node.op, Binary)
    for index in (0, 1) if node.op.fn in COMMUTATIVE else (1,):
        x, number = operand(node, 1 - index), uniform(operand(node, index))
        if number is not None and _is_neutral(node.op.fn, number, x.tensor.dtype.is_float):
            return broadcast_to(builder, x, node.output.tensor)
    return None


def _is_neutral(fn: str, number: float, is_float: bool) -> bool:
    match fn:
        case "add" | "sub" if is_float:
            return number == 0 and (math.copysign(1, number) < 0) == (fn == "add")
        case "add" | "sub" | "or" | "xor" | "bitwise_or" | "bitwise_xor" | "shift_left" | "shift_right":
            return number == 0
        case "mul" | "div" | "pow" | "and":
            return number == 1
        case "max":
            return number == -math.inf
        case "min":
            return number == math.inf
    return False


@rule(Binary)
def subtract_constant(node: Node, builder: GraphBuilder) -> Outcome:
    """x - c -> x + (-c) for floats, so that biases look alike."""
    constant = operand(node, 1)
    if node.op != Binary("sub") or constant.data is None or not constant.tensor.dtype.is_float:
        return None
    return builder.add(Binary("add"), operand(node, 0), builder.constant(np.negative(constant.data)))


@rule(Binary)
def add_negated(node: Node, builder: GraphBuilder) -> Outcome:
    """x + (-y) -> x - y and x - (-y) -> x + y."""
    if node.op not in (Binary("add"), Binary("sub")):
        return None
    left, right = operand(node, 0), operand(node, 1)
    if (negated := unary(right, "neg")) is not None:
        return builder.add(Binary("sub" if node.op == Binary("add") else "add"), left, negated)
    if node.op == Binary("add") and (negated := unary(left, "neg")) is not None:
        return builder.add(Binary("sub"), right, negated)
    return None


@rule(Unary)
def double_function(node: Node, builder: GraphBuilder) -> Outcome:
    """abs(abs(x)) -> abs(x); neg(neg(x)) -> x."""
    assert isinstance(node.op, Unary)
    inner = unary(operand(node, 0), node.op.fn)
    if inner is None:
        return None
    if node.op.fn in INVOLUTIONS:
        return inner
    return operand(node, 0) if node.op.fn in IDEMPOTENT else None


@rule(Binary)
def bound_to_clip(node: Node, builder: GraphBuilder) -> Outcome:
    """max(x, c) -> Clip(low=c) and min(x, c) -> Clip(high=c) for a number c."""
    assert isinstance(node.op, Binary)
    if node.op.fn not in ("max", "min"):
        return None
    x, bound = operand(node, 0), uniform(operand(node, 1))
    if bound is None or math.isnan(bound) or not same_type(x.type, node.output.type):
        return None
    number: float | int = int(bound) if x.tensor.dtype.is_integer else bound
    if x.tensor.dtype.is_integer and abs(bound) >= 1 << 53:
        return None
    return builder.add(Clip(low=number) if node.op.fn == "max" else Clip(high=number), x)


@rule(Clip, Unary)
def clip_of_clip(node: Node, builder: GraphBuilder) -> Outcome:
    """Clip(Clip(x)), relu(Clip(x)), Clip(relu(x)) -> one Clip; a Clip that is a relu, or nothing -> that."""
    outer = _bounds(node)
    if outer is None:
        return None
    x = operand(node, 0)
    if outer == (-math.inf, math.inf):
        return x
    inner = None if x.producer is None else _bounds(x.producer)
    if inner is None:
        return builder.add(Unary("relu"), x) if node.op == Clip(low=0) else None
    if outer[0] > outer[1] or inner[0] > inner[1] or x.producer is None:
        return None
    low, high = (min(max(bound, outer[0]), outer[1]) for bound in inner)
    return builder.add(_clip(low, high), operand(x.producer, 0))


def _bounds(node: Node) -> tuple[float, float] | None:
    """The interval to which a node limits its operand."""
    match node.op:
        case Unary(fn="relu"):
            return 0, math.inf
        case Clip(low=low, high=high):
            return -math.inf if low is None else low, math.inf if high is None else high
    return None


def _clip(low: float, high: float) -> Clip | Unary:
    if (low, high) == (0, math.inf):
        return Unary("relu")
    return Clip(None if low == -math.inf else low, None if high == math.inf else high)


@rule(Binary)
def same_operands(node: Node, builder: GraphBuilder) -> Outcome:
    """and(x, x), or(x, x), max(x, x), min(x, x) -> x."""
    assert isinstance(node.op, Binary)
    left, right = operand(node, 0), operand(node, 1)
    return left if left is right and node.op.fn in ("and", "or", "max", "min") else None


RULES: tuple[Rule, ...] = (constant_right, neutral_element, subtract_constant, add_negated, double_function,
                           bound_to_clip, clip_of_clip, same_operands)
