"""Conditions that ask about sizes: what they ask, as a relation of dims."""

from __future__ import annotations

import dataclasses

from dlc.frontend.onnx.context import NodeContext
from dlc.ir.dims import Dim, Guard, Relation
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Reshape
from dlc.ir.ops.pointwise import Cast, Compare, Unary


def question(ctx: NodeContext, condition: Value) -> Guard | None:
    """The relation of sizes that holds where `condition`, one bool, does; None where it asks something else.

    The condition may be a comparison of integers that are known as dims, such an integer as a truth value,
    or the negation of either.
    """
    node = condition.producer
    match None if node is None else node.op:
        case Reshape():
            return question(ctx, _operand(condition))
        case Cast():
            source = _operand(condition)
            if source.tensor.dtype is DType.BOOL or _is_cast_of_bool(source):
                return question(ctx, source)
            size = _dim(ctx, source)
            return None if size is None else _relation(ctx, Relation.NE, size, 0)
        case Unary("not"):
            inner = question(ctx, _operand(condition))
            return None if inner is None else opposite(inner)
        case Compare(fn) if node is not None:
            left, right = (_dim(ctx, value) for value in node.operands)
            if left is None or right is None:
                return None
            match fn:
                case "eq":
                    return _relation(ctx, Relation.EQ, left, right)
                case "lt":
                    return _relation(ctx, Relation.LT, left, right)
                case "le":
                    return _relation(ctx, Relation.LE, left, right)
                case "gt":
                    return _relation(ctx, Relation.LT, right, left)
                case "ge":
                    return _relation(ctx, Relation.LE, right, left)
    return None


def _is_cast_of_bool(value: Value) -> bool:
    """Whether `value` is a bool as a number."""
    node = value.producer
    return node is not None and isinstance(node.op, Cast) and node.operands[0].tensor.dtype is DType.BOOL


def _operand(value: Value) -> Value:
    node = value.producer
    assert node is not None
    return node.operands[0]


def _dim(ctx: NodeContext, value: Value) -> Dim | None:
    """The only element of an integer value, if it is known as a dim."""
    known = ctx.importer.known_dims(value)
    if known is None or known.size != 1:
        return None
    dim: Dim = known.item()
    return dim


def _relation(ctx: NodeContext, relation: Relation, left: Dim, right: Dim) -> Guard:
    return Guard(relation, left, right, "a condition on sizes", ctx.name)


def opposite(guard: Guard) -> Guard:
    """What holds where `guard` does not."""
    left, right = guard.left, guard.right
    match guard.relation:
        case Relation.EQ:
            return dataclasses.replace(guard, relation=Relation.NE)
        case Relation.NE:
            return dataclasses.replace(guard, relation=Relation.EQ)
        case Relation.LT:
            return dataclasses.replace(guard, relation=Relation.LE, left=right, right=left)
        case Relation.LE:
            return dataclasses.replace(guard, relation=Relation.LT, left=right, right=left)
