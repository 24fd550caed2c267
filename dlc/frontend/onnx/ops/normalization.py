"""Softmax and the normalizations of ONNX."""
from __future__ import annotations

from collections.abc import Callable

from dlc.frontend.onnx.axes import axis_attribute
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import many_axes, require
from dlc.frontend.onnx.operands import channel_operands, require_fits
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, product, to_text
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Operator
from dlc.ir.ops.common import FLOATS
from dlc.ir.ops.movement import Expand, Range, Reshape
from dlc.ir.ops.normalization import (
    LRN,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LogSoftmax,
    LpNorm,
    RMSNorm,
    Softmax,
)
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary
from dlc.ir.ops.reduction import ArgReduce, Reduce

Along = Callable[[NodeContext, Value, int], Value]


def _normalize(operator: Callable[[int], Operator]) -> Along:
    def along(ctx: NodeContext, x: Value, axis: int) -> Value:
        return ctx.add(operator(axis), x)

    return along


def _hardmax(ctx: NodeContext, x: Value, axis: int) -> Value:
    """One at the first maximum along `axis`, zero elsewhere."""
    extent = x.tensor.shape[axis]
    if extent == 0:
        return x
    first = ctx.builder.add(ArgReduce("max", axis), x)
    positions = ctx.builder.add(Range(extent), ctx.const(0, DType.I64), ctx.const(1, DType.I64))
    column = ctx.builder.add(Reshape((extent, *[1] * (x.tensor.rank - axis - 1))), positions)
    return ctx.add(Cast(x.tensor.dtype), ctx.builder.add(Compare("eq"), column, first))


def _register_along_axis(op_type: str, along: Along) -> None:
    @importer(op_type)
    def flattened(ctx: NodeContext) -> Value:
        """Before opset 13 the axes from `axis` on count as one."""
        x = ctx.required(0)
        shape = x.tensor.shape
        axis = axis_attribute(ctx, x, 1)
        if axis == len(shape) - 1:
            return along(ctx, x, axis)
        flat = ctx.builder.add(Reshape((*shape[:axis], product(shape[axis:]))), x)
        return ctx.builder.add(Reshape(shape), along(ctx, flat, axis))

    @importer(op_type, since=13)
    def one_axis(ctx: NodeContext) -> Value:
        x = ctx.required(0)
        return along(ctx, x, axis_attribute(ctx, x, -1))


_register_along_axis("Softmax", _normalize(Softmax))
_register_along_axis("LogSoftmax", _normalize(LogSoftmax))
_register_along_axis("Hardmax", _hardmax)


def _stash_type(ctx: NodeContext, x: Value) -> DType:
    """The type of stage one, which dlc computes in float64 for f64 and in float32 for narrower types."""
    stash = ctx.dtype("stash_type", DType.F32)
    if stash not in FLOATS:
        ctx.fail(f"attribute 'stash_type' must name a floating-point type, but names {stash.text}")
    if stash is DType.F64 and x.tensor.dtype is not DType.F64:
        ctx.unsupported("statistics in float64 of a narrower tensor", "use stash_type=1, or cast to double")
    return stash


@importer("LayerNormalization", since=17)
def layer_normalization(ctx: NodeContext) -> tuple[Value, ...]:
    """Normalization over the last axes; mean and inverse deviation only when the node wants them."""
    x = ctx.required(0)
    stash = _stash_type(ctx, x)
    axis, epsilon = axis_attribute(ctx, x, -1), ctx.float("epsilon", 1e-5)
    scale, bias = ctx.required(1), ctx.optional(2)
    require_fits(ctx, scale, x, "scale")
    if bias is not None:
        require_fits(ctx, bias, x, "bias")
    if not (ctx.wants(1) or ctx.wants(2)):
        return (ctx.add(LayerNorm(axis, epsilon), x, scale, bias),)
    y, *rows = ctx.add_all(LayerNorm(axis, epsilon, statistics=True), x, scale, bias)
    return (y, *(row if row.tensor.dtype is stash else ctx.builder.add(Cast(stash), row) for row in rows))


@importer("RMSNormalization", since=23)
def rms_normalization(ctx: NodeContext) -> Value:
    """Division by the root of the mean square over the last axes."""
    x, scale = ctx.required(0), ctx.required(1)
    _stash_type(ctx, x)
    require_fits(ctx, scale, x, "scale")
    return ctx.add(RMSNorm(axis_attribute(ctx, x, -1), ctx.float("epsilon", 1e-5)), x, scale)


@importer("InstanceNormalization")
def instance_normalization(ctx: NodeContext) -> Value:
    """Normalization of each channel of each instance."""
    return ctx.add(InstanceNorm(ctx.float("epsilon", 1e-5)), *channel_operands(ctx, 3))


@importer("GroupNormalization", since=18)
def group_normalization_by_group(ctx: NodeContext) -> Value:
    """Scale and bias hold one number a group: each is repeated for the channels of its group."""
    x, groups = ctx.required(0), ctx.int("num_groups")
    channels = _divisible_channels(ctx, x, groups)
    vectors = []
    for index in (1, 2):
        column = ctx.builder.add(Reshape((groups, 1)), ctx.required(index))
        repeated = ctx.builder.add(Expand((groups, channels // groups)), column)
        vectors.append(ctx.builder.add(Reshape((channels,)), repeated))
    return ctx.add(GroupNorm(groups, ctx.float("epsilon", 1e-5)), x, *vectors)


@importer("GroupNormalization", since=21)
def group_normalization(ctx: NodeContext) -> Value:
    """Scale and bias hold one number a channel."""
    x, groups = ctx.required(0), ctx.int("num_groups")
    _stash_type(ctx, x)
    _divisible_channels(ctx, x, groups)
    return ctx.add(GroupNorm(groups, ctx.float("epsilon", 1e-5)), *channel_operands(ctx, 3))


def _divisible_channels(ctx: NodeContext, x: Value, groups: int) -> Dim:
    """The channels of `x`, checked to divide into `groups`."""
    if x.tensor.rank < 2:
        ctx.fail(f"the operand must have a batch and a channel axis, but is {x.type}")
    channels = x.tensor.shape[1]
    message = f"{to_text(channels)} channels do not divide into {groups} groups"
    if groups < 1:
        ctx.fail(message)
    require(ctx, Relation.EQ, channels % groups, 0, message)
    return channels


@importer("LpNormalization")
def lp_normalization(ctx: NodeContext) -> Value:
    """Division by the 1- or 2-norm along an axis."""
    x, p = ctx.required(0), ctx.int("p", 2)
    if p not in (1, 2):
        ctx.fail(f"attribute 'p' must be 1 or 2, but is {p}")
    return ctx.add(LpNorm(axis_attribute(ctx, x, -1), p), x)


@importer("LRN")
def lrn(ctx: NodeContext) -> Value:
    """Local response normalization across channels."""
    size, bias = ctx.int("size"), ctx.float("bias", 1.0)
    return ctx.add(LRN(size, ctx.float("alpha", 1e-4), ctx.float("beta", 0.75), bias), ctx.required(0))


@importer("MeanVarianceNormalization", since=9)
def mean_variance_normalization(ctx: NodeContext) -> Value:
    """(x - mean) / (deviation + 1e-9), the function of the standard, computed in float32 for narrower types.

    The variance is the mean of (x - mean)^2, which does not cancel as the standard's E[x^2] - E[x]^2 does.
    """
    x = ctx.required(0)
    dtype = x.tensor.dtype
    axes = tuple(sorted(many_axes(ctx, ctx.ints("axes", (0, 2, 3)), x.tensor.rank)))
    add = ctx.builder.add
    wide = x if dtype in (DType.F64, DType.F32) else add(Cast(DType.F32), x)
    deviation = add(Binary("sub"), wide, add(Reduce("mean", axes), wide))
    variance = add(Reduce("mean", axes), add(Binary("mul"), deviation, deviation))
    divisor = add(Binary("add"), add(Unary("sqrt"), variance), ctx.const(1e-9, wide.tensor.dtype))
    y = add(Binary("div"), deviation, divisor)
    return y if wide is x else add(Cast(dtype), y)
