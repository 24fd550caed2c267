"""Reductions, arg-reductions, cumulative operators, top-k and global pooling of ONNX."""
from __future__ import annotations

from dlc.frontend.onnx.axes import axis_attribute, front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import many_axes, only_since, require, static_ints
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, to_text
from dlc.ir.graph import Value
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.ir.ops.reduction import ArgReduce, Cumulative, Reduce, TopK

#: Operator -> function, and the opset since which the axes are an operand.
_REDUCTIONS = {
    "ReduceSum": ("sum", 13),
    "ReduceMean": ("mean", 18),
    "ReduceMax": ("max", 18),
    "ReduceMin": ("min", 18),
    "ReduceProd": ("prod", 18),
    "ReduceL1": ("l1", 18),
    "ReduceL2": ("l2", 18),
    "ReduceSumSquare": ("sum_square", 18),
    "ReduceLogSum": ("log_sum", 18),
    "ReduceLogSumExp": ("log_sum_exp", 18),
}


def _register_reduction(op_type: str, fn: str, axes_are_operand_since: int) -> None:
    @importer(op_type)
    def with_attribute(ctx: NodeContext) -> Value:
        only_since(ctx, axes_are_operand_since, "noop_with_empty_axes")
        return _reduce(ctx, fn, ctx.ints("axes", ()))

    @importer(op_type, axes_are_operand_since)
    def with_operand(ctx: NodeContext) -> Value:
        return _reduce(ctx, fn, _axes_operand(ctx))


for _op_type, (_fn, _since) in _REDUCTIONS.items():
    _register_reduction(_op_type, _fn, _since)


def _axes_operand(ctx: NodeContext) -> tuple[int, ...]:
    """The axes in operand 1: none when it is absent or has no elements, whatever computes it."""
    axes = ctx.optional(1)
    if axes is None or axes.tensor.shape == (0,):
        return ()
    return static_ints(ctx, 1, "the numbers in operand 1 (axes)")


def _reduce(ctx: NodeContext, fn: str, axes: tuple[int, ...]) -> Value:
    """No axes mean all of them, or none when `noop_with_empty_axes`."""
    x = ctx.required(0)
    counted = tuple(sorted(many_axes(ctx, axes, x.tensor.rank)))
    if not counted and not ctx.int("noop_with_empty_axes", 0):
        counted = tuple(range(x.tensor.rank))
    return ctx.add(Reduce(fn, counted, bool(ctx.int("keepdims", 1))), x)


@importer("ArgMax")
def arg_max(ctx: NodeContext) -> Value:
    """Position of the largest element."""
    return _arg_reduce(ctx, "max")


@importer("ArgMin")
def arg_min(ctx: NodeContext) -> Value:
    """Position of the smallest element."""
    return _arg_reduce(ctx, "min")


def _arg_reduce(ctx: NodeContext, fn: str) -> Value:
    x = ctx.required(0)
    only_since(ctx, 12, "select_last_index")
    axis = axis_attribute(ctx, x, 0)
    require(ctx, Relation.LE, 1, x.tensor.shape[axis], f"axis {axis} has no elements to choose from")
    keepdims, last = bool(ctx.int("keepdims", 1)), bool(ctx.int("select_last_index", 0))
    return ctx.add(ArgReduce(fn, axis, keepdims, last), x)


@importer("CumSum", since=11)
def cum_sum(ctx: NodeContext) -> Value:
    """Running sum."""
    return _cumulative(ctx, "sum")


@importer("CumProd", since=26)
def cum_prod(ctx: NodeContext) -> Value:
    """Running product."""
    return _cumulative(ctx, "prod")


def _cumulative(ctx: NodeContext, fn: str) -> Value:
    x, axes = ctx.required(0), static_ints(ctx, 1, "the numbers in operand 1 (axis)")
    if len(axes) != 1:
        ctx.fail(f"operand 1 (axis) must hold one number, but holds {len(axes)}")
    exclusive, reverse = bool(ctx.int("exclusive", 0)), bool(ctx.int("reverse", 0))
    return ctx.add(Cumulative(fn, front_axis(ctx, axes[0], x.tensor.rank), exclusive, reverse), x)


@importer("TopK")
def top_k_attribute(ctx: NodeContext) -> tuple[Value, ...]:
    """k is an attribute; the largest elements, sorted."""
    return _top_k(ctx, ctx.int("k"))


@importer("TopK", since=10)
def top_k(ctx: NodeContext) -> tuple[Value, ...]:
    """k is an operand; since 11 the order is a matter of attributes."""
    k = ctx.dims(1)
    if len(k) != 1:
        ctx.fail(f"operand 1 (k) must hold one number, but holds {len(k)}")
    return _top_k(ctx, k[0])


def _top_k(ctx: NodeContext, k: Dim) -> tuple[Value, ...]:
    x = ctx.required(0)
    only_since(ctx, 11, "largest", "sorted")
    axis = axis_attribute(ctx, x, -1)
    extent = x.tensor.shape[axis]
    message = f"k = {to_text(k)} elements cannot be chosen out of {to_text(extent)}"
    require(ctx, Relation.LE, 0, k, message)
    require(ctx, Relation.LE, k, extent, message)
    return ctx.add_all(TopK(axis, k, bool(ctx.int("largest", 1)), bool(ctx.int("sorted", 1))), x)


@importer("GlobalAveragePool")
def global_average_pool(ctx: NodeContext) -> Value:
    """The mean over all spatial axes."""
    return _global_pool(ctx, "mean", ctx.required(0))


@importer("GlobalMaxPool")
def global_max_pool(ctx: NodeContext) -> Value:
    """The maximum over all spatial axes."""
    return _global_pool(ctx, "max", ctx.required(0))


@importer("GlobalLpPool")
def global_lp_pool(ctx: NodeContext) -> Value:
    """The p-norm over all spatial axes: (sum |x|^p)^(1/p)."""
    x, p = ctx.required(0), ctx.float("p", 2.0)
    if p <= 0:
        ctx.fail(f"attribute 'p' must be positive, but is {p:g}")
    if p in (1, 2):
        return _global_pool(ctx, f"l{p:g}", x)
    dtype = x.tensor.dtype
    power = ctx.builder.add(Binary("pow"), ctx.builder.add(Unary("abs"), x), ctx.const(p, dtype))
    return ctx.add(Binary("pow"), _global_pool(ctx, "sum", power), ctx.const(1 / p, dtype))


def _global_pool(ctx: NodeContext, fn: str, x: Value) -> Value:
    if x.tensor.rank < 2:
        ctx.fail(f"the operand must have a batch and a channel axis, but is {x.type}")
    return ctx.add(Reduce(fn, tuple(range(2, x.tensor.rank)), keepdims=True), x)
