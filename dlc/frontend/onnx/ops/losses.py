"""NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import reshape
from dlc.frontend.onnx.operands import require_channels, require_shape
from dlc.frontend.onnx.registry import importer
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.indexing import Gather, GatherElements
from dlc.ir.ops.normalization import LogSoftmax
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary, Where
from dlc.ir.ops.reduction import Reduce


@importer("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood_loss(ctx: NodeContext) -> Value:
    """Minus the logarithm of the probability of each label, weighted and reduced."""
    x = ctx.required(0)
    return _cast(ctx, _loss(ctx, _wide(ctx, x)), x.tensor.dtype)


@importer("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(ctx: NodeContext) -> Sequence[Value]:
    """The same of scores, whose logarithmic softmax over the classes is the second output."""
    x = ctx.required(0)
    _require_classes(ctx)
    probabilities = ctx.add(LogSoftmax(1), _wide(ctx, x))
    loss = _cast(ctx, _loss(ctx, probabilities), x.tensor.dtype)
    return (loss, _cast(ctx, probabilities, x.tensor.dtype)) if ctx.wants(1) else (loss,)


def _loss(ctx: NodeContext, x: Value) -> Value:
    """The loss for logarithms of probabilities `x` [N, C, ...] and the node's labels and weights.

    A label outside of the classes is a fault, unless it is `ignore_index`. The mean is that of the weights:
    sum of weighted losses / sum of weights, where ignored labels have the weight 0.
    """
    reduction = ctx.string("reduction", "mean")
    if reduction not in ("none", "sum", "mean"):
        ctx.fail(f"attribute 'reduction' must be none, sum or mean, but is {reduction!r}")
    _require_classes(ctx)
    labels = ctx.required(1)
    ignored = _ignored(ctx, labels)
    classes = _checked(ctx, labels, ignored)
    batch, *places = classes.tensor.shape
    picked = ctx.add(GatherElements(1), x, reshape(ctx, classes, (batch, 1, *places)))
    loss = ctx.add(Unary("neg"), reshape(ctx, picked, (batch, *places)))
    weight = _weight(ctx, classes, loss.tensor.dtype)
    if weight is not None:
        loss = ctx.add(Binary("mul"), loss, weight)
    zero = ctx.const(0, loss.tensor.dtype)
    if ignored is not None:
        loss = ctx.add(Where(), ignored, zero, loss)
        weight = ctx.const(1, loss.tensor.dtype) if weight is None else weight
        weight = ctx.add(Where(), ignored, zero, weight)
    axes = tuple(range(loss.tensor.rank))
    match reduction:
        case "none":
            return loss
        case "mean" if weight is None:
            return ctx.add(Reduce("mean", axes, keepdims=False), loss)
    total = ctx.add(Reduce("sum", axes, keepdims=False), loss)
    if reduction == "sum" or weight is None:
        return total
    return ctx.add(Binary("div"), total, ctx.add(Reduce("sum", axes, keepdims=False), weight))


def _require_classes(ctx: NodeContext) -> None:
    """Check that there are classes along axis 1, a label at every other position, and a weight a class."""
    x, labels = ctx.required(0), ctx.required(1)
    if x.tensor.rank < 2:
        ctx.fail(f"the operand must have a batch and a class axis, but is {x.type}")
    batch, classes, *places = x.tensor.shape
    require_shape(ctx, labels, (batch, *places), "the labels")
    weights = ctx.optional(2)
    if weights is not None:
        require_channels(ctx, weights, classes, "the weights")


def _ignored(ctx: NodeContext, labels: Value) -> Value | None:
    """Which labels are to be ignored; None where none can be."""
    if not ctx.has("ignore_index"):
        return None
    number, dtype = ctx.int("ignore_index"), labels.tensor.dtype
    limits = np.iinfo(dtype.numpy)
    if not limits.min <= number <= limits.max:
        return None
    return ctx.add(Compare("eq"), labels, ctx.const(number, dtype))


def _checked(ctx: NodeContext, labels: Value, ignored: Value | None) -> Value:
    """The class of each label: 0 for ignored ones, and a number out of range for negative ones, which do not
    count from the end here.
    """
    dtype = labels.tensor.dtype
    zero = ctx.const(0, dtype)
    if ignored is not None:
        labels = ctx.add(Where(), ignored, zero, labels)
    negative = ctx.add(Compare("lt"), labels, zero)
    return ctx.add(Where(), negative, ctx.const(np.iinfo(dtype.numpy).max, dtype), labels)


def _weight(ctx: NodeContext, classes: Value, dtype: DType) -> Value | None:
    """The weight of each label; None where all weigh the same."""
    weights = ctx.optional(2)
    if weights is None:
        return None
    return _cast(ctx, ctx.add(Gather(0), weights, classes), dtype)


def _wide(ctx: NodeContext, x: Value) -> Value:
    """`x` in the type in which the loss is computed."""
    return _cast(ctx, x, DType.F64 if x.tensor.dtype is DType.F64 else DType.F32)


def _cast(ctx: NodeContext, x: Value, to: DType) -> Value:
    return x if x.tensor.dtype is to else ctx.add(Cast(to), x)
