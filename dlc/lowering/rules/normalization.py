"""Kernels of softmax and the norms: a few reductions over a row (or channel), then a map."""

from __future__ import annotations

from dlc.ir.dims import Dim, Symbol, product
from dlc.ir.graph import Node, Value
from dlc.ir.ops.normalization import (
    LRN,
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LogSoftmax,
    LpNorm,
    RMSNorm,
    Softmax,
)
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, cast, const, unary
from dlc.lowering.kernel import AxisKind, Monoid
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.reduction import divide_by_count, split_axes
from dlc.lowering.rules.registry import rule


@rule(Softmax, LogSoftmax)
def softmax(draft: Draft, node: Node) -> None:
    """exp(x - max) / sum, or x - max - log(sum). A row of -inf gives NaN, as the definition does."""
    assert isinstance(node.op, Softmax | LogSoftmax)
    source = draft.operand(0)
    everything, kept, reduced = split_axes(draft, source.tensor.shape, (node.op.axis,), AxisKind.PARALLEL)
    x = draft.load_arithmetic(source, everything)
    top = draft.reduce(Monoid.MAX, reduced, x, kept)
    shifted = binary("sub", x, top)
    if isinstance(node.op, Softmax):
        weight = draft.map(unary("exp", shifted), everything)
        total = draft.reduce(Monoid.SUM, reduced, weight, kept)
        draft.store(node.outputs[0], everything, binary("mul", weight, unary("reciprocal", total)))
    else:
        total = draft.reduce(Monoid.SUM, reduced, unary("exp", shifted), kept)
        draft.store(node.outputs[0], everything, binary("sub", shifted, unary("log", total)))


def moments(
    draft: Draft, x: e.Expr, reduced: list[Symbol], kept: list[Symbol], count: Dim
) -> tuple[e.Expr, e.Expr]:
    """Mean and variance of `x` over `reduced`, in two passes."""
    mean = divide_by_count(draft.reduce(Monoid.SUM, reduced, x, kept), count)
    deviation = binary("sub", x, mean)
    variance = divide_by_count(
        draft.reduce(Monoid.SUM, reduced, binary("mul", deviation, deviation), kept), count
    )
    return mean, variance


def inverse_deviation(variance: e.Expr, epsilon: float) -> e.Expr:
    """1 / sqrt(variance + epsilon)."""
    return unary("reciprocal", unary("sqrt", binary("add", variance, epsilon)))


def scale_and_shift(
    draft: Draft,
    x: e.Expr,
    scale: Value | None,
    shift: Value | None,
    index: list[Symbol],
    shape: tuple[Dim, ...],
) -> e.Expr:
    """x * scale + shift, both broadcast to `shape`; absent ones are left out."""
    if scale is not None:
        x = binary("mul", x, cast(draft.load_broadcast(scale, index, shape), x.dtype))
    if shift is not None:
        x = binary("add", x, cast(draft.load_broadcast(shift, index, shape), x.dtype))
    return x


@rule(LayerNorm)
def layer_norm(draft: Draft, node: Node) -> None:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` on."""
    assert isinstance(node.op, LayerNorm)
    source = draft.operand(0)
    shape = source.tensor.shape
    normalized = tuple(range(node.op.axis, len(shape)))
    everything, kept, reduced = split_axes(draft, shape, normalized, AxisKind.PARALLEL)
    x = draft.load_arithmetic(source, everything)
    mean, variance = moments(draft, x, reduced, kept, product(shape[node.op.axis :]))
    inverse = inverse_deviation(variance, node.op.epsilon)
    y = binary("mul", binary("sub", x, mean), inverse)
    draft.store(
        node.outputs[0],
        everything,
        scale_and_shift(draft, y, draft.operand(1), draft.optional(2), everything, shape),
    )
    for output, statistic in zip(node.outputs[1:], (mean, inverse), strict=False):
        draft.store(output, kept, statistic, [*kept, *([0] * len(reduced))])


@rule(RMSNorm)
def rms_norm(draft: Draft, node: Node) -> None:
    """x / sqrt(mean(x^2) + epsilon) * scale over the axes from `axis` on."""
    assert isinstance(node.op, RMSNorm)
    source = draft.operand(0)
    shape = source.tensor.shape
    everything, kept, reduced = split_axes(
        draft, shape, tuple(range(node.op.axis, len(shape))), AxisKind.PARALLEL
    )
    x = draft.load_arithmetic(source, everything)
    square = divide_by_count(
        draft.reduce(Monoid.SUM, reduced, binary("mul", x, x), kept), product(shape[node.op.axis :])
    )
    y = binary("mul", x, inverse_deviation(square, node.op.epsilon))
    draft.store(
        node.outputs[0], everything, scale_and_shift(draft, y, draft.operand(1), None, everything, shape)
    )


@rule(BatchNorm)
def batch_norm(draft: Draft, node: Node) -> None:
    """scale * (x - mean) / sqrt(variance + epsilon) + bias, all by channel (axis 1)."""
    assert isinstance(node.op, BatchNorm)
    source = draft.operand(0)
    axes = draft.axes_of(source.tensor.shape)
    channel = axes[1] if len(axes) > 1 else 0
    x = draft.load_arithmetic(source, axes)
    scale, bias, mean, variance = (
        cast(draft.load(draft.operand(i), [channel]), x.dtype) for i in range(1, 5)
    )
    y = binary(
        "mul", binary("sub", x, mean), binary("mul", scale, inverse_deviation(variance, node.op.epsilon))
    )
    draft.store(node.outputs[0], axes, binary("add", y, bias))


@rule(InstanceNorm)
def instance_norm(draft: Draft, node: Node) -> None:
    """Each (sample, channel) plane normalized, then scaled and shifted by channel."""
    assert isinstance(node.op, InstanceNorm)
    source = draft.operand(0)
    shape = source.tensor.shape
    everything, kept, reduced = split_axes(draft, shape, tuple(range(2, len(shape))), AxisKind.PARALLEL)
    x = draft.load_arithmetic(source, everything)
    mean, variance = moments(draft, x, reduced, kept, product(shape[2:]))
    scale, bias = (cast(draft.load(draft.operand(i), [everything[1]]), x.dtype) for i in (1, 2))
    y = binary(
        "mul", binary("sub", x, mean), binary("mul", inverse_deviation(variance, node.op.epsilon), scale)
    )
    draft.store(node.outputs[0], everything, binary("add", y, bias))


@rule(GroupNorm)
def group_norm(draft: Draft, node: Node) -> None:
    """Each (sample, group of channels) normalized, then scaled and shifted by channel."""
    assert isinstance(node.op, GroupNorm)
    source = draft.operand(0)
    batch, channels, *spatial = source.tensor.shape
    groups = node.op.groups
    each = channels // groups
    n, g = draft.axis(batch), draft.axis(groups)
    inner = draft.axes_of([each, *spatial])
    channel = g * each + inner[0]
    x = draft.load_arithmetic(source, [n, channel, *inner[1:]])
    mean, variance = moments(draft, x, inner, [n, g], product([each, *spatial]))
    scale, bias = (cast(draft.load(draft.operand(i), [channel]), x.dtype) for i in (1, 2))
    y = binary(
        "mul", binary("sub", x, mean), binary("mul", inverse_deviation(variance, node.op.epsilon), scale)
    )
    draft.store(node.outputs[0], [n, g, *inner], binary("add", y, bias), [n, channel, *inner[1:]])


@rule(LpNorm)
def lp_norm(draft: Draft, node: Node) -> None:
    """x divided by its norm (p = 1 or 2) along the axis; 0 where the norm is 0."""
    assert isinstance(node.op, LpNorm)
    source = draft.operand(0)
    everything, kept, reduced = split_axes(draft, source.tensor.shape, (node.op.axis,), AxisKind.PARALLEL)
    x = draft.load_arithmetic(source, everything)
    if node.op.p == 1:
        norm: e.Expr = draft.reduce(Monoid.SUM, reduced, unary("abs", x), kept)
    else:
        norm = unary("sqrt", draft.reduce(Monoid.SUM, reduced, binary("mul", x, x), kept))
    zero = compare("eq", norm, 0.0)
    safe = select(zero, const(1.0, norm.dtype), norm)
    draft.store(node.outputs[0], everything, select(zero, const(0.0, x.dtype), binary("div", x, safe)))


@rule(LRN)
def local_response(draft: Draft, node: Node) -> None:
    """x / (bias + alpha / size * sum of squares)^beta, the sum over a window of channels around each."""
    assert isinstance(node.op, LRN)
    op, source = node.op, draft.operand(0)
    axes = draft.axes_of(source.tensor.shape)
    tap = draft.axis(op.size, AxisKind.REDUCE)
    channel = axes[1] + tap - (op.size - 1) // 2
    mask = [e.InRange(channel, 0, source.tensor.shape[1])]
    index = [axes[0], channel, *axes[2:]]
    near = draft.load_arithmetic(source, index, mask, const(0, source.tensor.dtype))
    total = draft.reduce(Monoid.SUM, [tap], binary("mul", near, near), axes)
    x = draft.load_arithmetic(source, axes)
    divisor = binary("add", binary("mul", total, op.alpha / op.size), op.bias)
    draft.store(node.outputs[0], axes, binary("div", x, binary("pow", divisor, op.beta)))
