"""BatchNormalization of all opsets, for inference and with the outputs of training."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import reshape
from dlc.frontend.onnx.operands import channel_operands, require_shape
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import product
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.normalization import BatchNorm
from dlc.ir.ops.pointwise import Binary, Cast
from dlc.ir.ops.reduction import Reduce


@importer("BatchNormalization")
def batch_normalization_is_test(ctx: NodeContext) -> Sequence[Value]:
    """`is_test` says what is wanted, and the standard also lets the number of outputs say it."""
    if ctx.int("is_test", 0):
        _refuse_statistics(ctx, "is_test=1")
        return _by_spatial(ctx, training=False)
    if not _wants_statistics(ctx):
        ctx.unsupported(
            "is_test=0 asks for training, but its outputs are not named, as in inference",
            "set is_test=1 for inference",
        )
    return _by_spatial(ctx, training=True)


@importer("BatchNormalization", since=7)
def batch_normalization_spatial(ctx: NodeContext) -> Sequence[Value]:
    """The outputs of training are asked for by name."""
    return _by_spatial(ctx, training=_wants_statistics(ctx))


@importer("BatchNormalization", since=9)
def batch_normalization_outputs(ctx: NodeContext) -> Sequence[Value]:
    """Statistics are always those of channels."""
    return _normalized(ctx, channel_operands(ctx, 5), training=_wants_statistics(ctx))


@importer("BatchNormalization", since=14)
def batch_normalization(ctx: NodeContext) -> Sequence[Value]:
    """`training_mode` asks for training, whose outputs are the running statistics."""
    training = bool(ctx.int("training_mode", 0))
    if not training:
        _refuse_statistics(ctx, "training_mode=0")
    return _normalized(ctx, channel_operands(ctx, 5), training)


def _wants_statistics(ctx: NodeContext) -> bool:
    return any(ctx.wants(index) for index in range(1, len(ctx.output_names)))


def _refuse_statistics(ctx: NodeContext, mode: str) -> None:
    if _wants_statistics(ctx):
        ctx.fail(f"with {mode} there are no outputs but the first")


def _by_spatial(ctx: NodeContext, training: bool) -> Sequence[Value]:
    """With `spatial` = 0 every position of a channel counts as a channel of its own."""
    if ctx.int("spatial", 1):
        return _normalized(ctx, channel_operands(ctx, 5), training)
    x, *vectors = (ctx.required(index) for index in range(5))
    places = x.tensor.shape[1:]
    for index, vector in enumerate(vectors, start=1):
        require_shape(ctx, vector, places, f"operand {index}")
    flat = [reshape(ctx, x, (*x.tensor.shape[:1], product(places)))]
    flat += [reshape(ctx, vector, (product(places),)) for vector in vectors]
    y, *statistics = _normalized(ctx, flat, training)
    return [reshape(ctx, y, x.tensor.shape), *(reshape(ctx, value, places) for value in statistics)]


def _normalized(ctx: NodeContext, operands: Sequence[Value], training: bool) -> list[Value]:
    """y and, in training, the statistics that the opset has as outputs.

    `operands` are x, scale, bias, mean and variance, whose types may differ since opset 14. Statistics are
    computed in float64 if any operand is of it, else in float32.
    """
    batch_norm, momentum = BatchNorm(ctx.float("epsilon", 1e-5)), ctx.float("momentum", 0.9)
    if not training:
        return [ctx.add(batch_norm, *operands)]
    wide = DType.F64 if any(operand.tensor.dtype is DType.F64 for operand in operands) else DType.F32
    x, scale, bias, *old = operands
    new = _statistics(ctx, _cast(ctx, x, wide))
    y = ctx.add(batch_norm, x, scale, bias, *new)
    pairs = zip(old, new, strict=True)
    mixed = (_mixed(ctx, _cast(ctx, before, wide), now, momentum) for before, now in pairs)
    # Before opset 14 the statistics of this batch are outputs too.
    dtypes = [value.tensor.dtype for value in (*old, *old)]
    return [y, *(_cast(ctx, value, to) for value, to in zip((*mixed, *new), dtypes, strict=True))]


def _statistics(ctx: NodeContext, x: Value) -> tuple[Value, Value]:
    """Mean and variance (of the population) of each channel; a tensor of one axis has one channel."""
    rank = x.tensor.rank
    axes = tuple(axis for axis in range(rank) if axis != 1)
    channels = x.tensor.shape[1:2] or (1,)
    mean = ctx.add(Reduce("mean", axes, keepdims=True), x)
    deviation = ctx.add(Binary("sub"), x, mean)
    variance = ctx.add(Reduce("mean", axes, keepdims=True), ctx.add(Binary("mul"), deviation, deviation))
    return reshape(ctx, mean, channels), reshape(ctx, variance, channels)


def _mixed(ctx: NodeContext, old: Value, new: Value, momentum: float) -> Value:
    """old * momentum + new * (1 - momentum)."""
    dtype = old.tensor.dtype
    kept = ctx.add(Binary("mul"), old, ctx.const(momentum, dtype))
    return ctx.add(Binary("add"), kept, ctx.add(Binary("mul"), new, ctx.const(1 - momentum, dtype)))


def _cast(ctx: NodeContext, x: Value, to: DType) -> Value:
    return x if x.tensor.dtype is to else ctx.add(Cast(to), x)
