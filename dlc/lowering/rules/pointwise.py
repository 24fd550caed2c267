"""Kernels of pointwise operators: one Map over the axes of the result."""

from __future__ import annotations

from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.pointwise import Activation, Binary, Clip, Compare, IsInf, Unary, Where
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, arithmetic_dtype, cast, unary
from dlc.lowering.rules.formulas import UNARY_FORMULAS, activation, binary_formula, clip, compare, select
from dlc.lowering.rules.registry import NotLowered, rule


@rule(Unary, Activation, Clip, IsInf)
def pointwise(draft: Draft, node: Node) -> None:
    """y[i] = f(x[i])."""
    axes = draft.axes_of(node.outputs[0].tensor.shape)
    source = draft.operand(0)
    x = draft.load_arithmetic(source, axes)
    match node.op:
        case Unary(fn):
            y = UNARY_FORMULAS[fn](x) if fn in UNARY_FORMULAS else unary(fn, x)
        case Activation(fn, alpha, beta):
            y = activation(fn, x, alpha, beta)
        case Clip(low, high):
            y = clip(x, low, high)
        case IsInf(positive, negative):
            y = _is_inf(x, positive, negative)
        case _:
            raise NotLowered(f"{node.op.name} is not pointwise")
    draft.store(node.outputs[0], axes, y)


def _is_inf(x: e.Expr, positive: bool, negative: bool) -> e.Expr:
    infinity = float("inf")
    high, low = compare("eq", x, infinity), compare("eq", x, -infinity)
    match positive, negative:
        case True, True:
            return e.Binary(DType.BOOL, "or", high, low)
        case True, False:
            return high
        case False, True:
            return low
    return e.Const(DType.BOOL, False)


@rule(Binary)
def binary_operator(draft: Draft, node: Node) -> None:
    """y[i] = f(a[i], b[i]) with broadcasting."""
    assert isinstance(node.op, Binary)
    shape = node.outputs[0].tensor.shape
    axes = draft.axes_of(shape)
    left, right = (draft.load_broadcast(draft.operand(i), axes, shape) for i in (0, 1))
    left, right = (cast(x, arithmetic_dtype(x.dtype)) for x in (left, right))
    constant = draft.operand(1).data
    if node.op.fn == "pow" and constant is not None and constant.size == 1:
        right = e.Const(right.dtype, constant.reshape(()).item())
    draft.store(node.outputs[0], axes, binary_formula(node.op.fn, left, right))


@rule(Compare)
def comparison(draft: Draft, node: Node) -> None:
    """y[i] = a[i] ? b[i] as bool, with broadcasting."""
    assert isinstance(node.op, Compare)
    shape = node.outputs[0].tensor.shape
    axes = draft.axes_of(shape)
    left, right = (draft.load_broadcast(draft.operand(i), axes, shape) for i in (0, 1))
    left, right = (cast(x, arithmetic_dtype(x.dtype)) for x in (left, right))
    draft.store(node.outputs[0], axes, e.Compare(DType.BOOL, node.op.fn, left, right))


@rule(Where)
def where(draft: Draft, node: Node) -> None:
    """y[i] = x[i] where condition[i], else z[i], with broadcasting."""
    shape = node.outputs[0].tensor.shape
    axes = draft.axes_of(shape)
    condition, then, otherwise = (draft.load_broadcast(draft.operand(i), axes, shape) for i in range(3))
    draft.store(node.outputs[0], axes, select(condition, then, otherwise))
