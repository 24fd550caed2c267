"""onnxruntime's normalizations: after a residual sum, without a mean, with channels last."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.axes import axis_attribute
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, kept, standard, standard_all
from dlc.frontend.onnx.geometry import reshape
from dlc.frontend.onnx.operands import require_fits, require_shape
from dlc.frontend.onnx.ops.contrib_activations import biased
from dlc.frontend.onnx.ops.contrib_products import channels_first, channels_last
from dlc.frontend.onnx.registry import importer
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.normalization import LayerNorm, RMSNorm
from dlc.ir.ops.pointwise import Binary, Cast, Unary
from dlc.ir.ops.reduction import Reduce


@contrib("SkipLayerNormalization", (3, 5), "epsilon", results=4)
def skip_layer_normalization(ctx: NodeContext) -> Sequence[Value | None]:
    """LayerNorm of x + skip (+ bias); results y, mean, inverse deviation and the sum."""
    total = _residual_sum(ctx, ctx.optional(4))
    scale, bias = ctx.required(2), ctx.optional(3)
    statistics = ctx.wants(1) or ctx.wants(2)
    operator = LayerNorm(total.tensor.rank - 1, ctx.float("epsilon", 1e-12), statistics)
    y, *rows = _vectors_fit(ctx, operator, total, scale, bias)
    mean, inverse = rows or (None, None)
    return [y, mean, inverse, total][: len(ctx.output_names)]


@contrib("SkipSimplifiedLayerNormalization", (3, 4), "epsilon", results=4)
def skip_simplified_layer_normalization(ctx: NodeContext) -> Sequence[Value | None]:
    """RMSNorm of x + skip (+ bias); results y, nothing, the inverse root mean square and the sum."""
    if ctx.wants(1):
        ctx.unsupported("the mean is wanted of a normalization that has none")
    total = _residual_sum(ctx, ctx.optional(3))
    axis, epsilon = total.tensor.rank - 1, ctx.float("epsilon", 1e-12)
    (y,) = _vectors_fit(ctx, RMSNorm(axis, epsilon), total, ctx.required(2))
    inverse = _inverse_root_mean_square(ctx, total, axis, epsilon) if ctx.wants(2) else None
    return [y, None, inverse, total][: len(ctx.output_names)]


def _residual_sum(ctx: NodeContext, bias: Value | None) -> Value:
    """x + skip + bias; skip may lack the batch axis of x or repeat along it."""
    x, skip = ctx.required(0), ctx.required(1)
    require_fits(ctx, skip, x, "the residual")
    return ctx.builder.add(Binary("add"), biased(ctx, x, bias), skip)


def _vectors_fit(
    ctx: NodeContext, operator: LayerNorm | RMSNorm, x: Value, *vectors: Value | None
) -> tuple[Value, ...]:
    """The results of `operator` on x and vectors, which must have an element for each of x's last axis."""
    for vector in vectors:
        require_shape(ctx, vector, x.tensor.shape[-1:], "a vector of the normalization")
    return ctx.builder.add_all(operator, x, *vectors)


def _inverse_root_mean_square(ctx: NodeContext, x: Value, axis: int, epsilon: float) -> Value:
    """1 / sqrt(mean(x^2) + epsilon) over the axes from `axis` on, at least in float32."""
    add = ctx.builder.add
    wide = x if x.tensor.dtype in (DType.F64, DType.F32) else add(Cast(DType.F32), x)
    squares = add(Reduce("mean", tuple(range(axis, x.tensor.rank))), add(Binary("mul"), wide, wide))
    moved = add(Binary("add"), squares, ctx.const(epsilon, wide.tensor.dtype))
    return add(Unary("reciprocal"), add(Unary("sqrt"), moved))


@contrib("LayerNormalization", (2, 3), "axis epsilon stash_type", results=3)
@importer("LayerNormalization", since=1)
def layer_normalization(ctx: NodeContext) -> Sequence[Value | None]:
    """What onnxruntime's optimizer writes into models of opsets before the standard had the operator."""
    return standard_all(
        ctx,
        "LayerNormalization",
        *ctx.operands,
        attributes=ctx.attributes,
        results=len(ctx.output_names),
    )


@contrib("SimplifiedLayerNormalization", (2, 2), "axis epsilon stash_type", results=2)
@contrib("SimplifiedLayerNormalization", (2, 2), "axis epsilon stash_type", results=2, domain="")
def simplified_layer_normalization(ctx: NodeContext) -> Sequence[Value | None]:
    """RMSNormalization, which onnxruntime's optimizer writes in the standard's domain; its result has the
    type of the scale, and the inverse root mean square is float32 for narrower types.
    """
    x, scale = ctx.required(0), ctx.required(1)
    dtype = scale.tensor.dtype
    if x.tensor.dtype is not dtype:
        x = ctx.add(Cast(dtype), x)
    attributes = kept(ctx, "axis", "epsilon", "stash_type")
    y = standard(ctx, "RMSNormalization", x, scale, opset=23, attributes=attributes)
    if not ctx.wants(1):
        return [y]
    inverse = _inverse_root_mean_square(
        ctx, ctx.required(0), axis_attribute(ctx, x, -1), ctx.float("epsilon", 1e-5)
    )
    return [y, inverse]


@contrib("GroupNorm", (3, 3), "activation channels_last epsilon groups")
def group_norm(ctx: NodeContext) -> Value:
    """GroupNormalization, by default of [N, H, W, C], and SiLU if `activation` is 1."""
    last = bool(ctx.int("channels_last", 1))
    x = ctx.required(0)
    y = _group_norm(ctx, channels_first(ctx, x) if last else x)
    return channels_last(ctx, y) if last else y


@contrib("SkipGroupNorm", (4, 5), "activation channels_last epsilon groups", results=2)
def skip_group_norm(ctx: NodeContext) -> Sequence[Value | None]:
    """GroupNorm of x + skip + bias, and that sum; skip is like x, or a number a channel [N, C]."""
    last = bool(ctx.int("channels_last", 1))
    x, skip, bias = ctx.required(0), ctx.required(3), ctx.optional(4)
    image = channels_first(ctx, x) if last else x
    channels = image.tensor.shape[1]
    spatial = (1,) * (image.tensor.rank - 2)
    if skip.tensor.rank == 2:
        require_shape(ctx, skip, image.tensor.shape[:2], "skip")
        skip = reshape(ctx, skip, (*skip.tensor.shape, *spatial))
    elif last:
        skip = channels_first(ctx, skip)
    require_fits(ctx, skip, image, "skip")
    total = ctx.builder.add(Binary("add"), image, skip)
    if bias is not None:
        require_shape(ctx, bias, (channels,), "the bias")
        total = ctx.builder.add(Binary("add"), total, reshape(ctx, bias, (channels, *spatial)))
    results = _group_norm(ctx, total), total
    return [channels_last(ctx, y) if last else y for y in results][: len(ctx.output_names)]


def _group_norm(ctx: NodeContext, image: Value) -> Value:
    """The norm of [N, C, spatial...] that the node's attributes and its operands 1 and 2 describe."""
    activation, dtype = ctx.int("activation"), image.tensor.dtype
    if activation not in (0, 1):
        ctx.fail(f"attribute 'activation' must be 0 or 1, but is {activation}")
    vectors = [
        v if v.tensor.dtype is dtype else ctx.builder.add(Cast(dtype), v)
        for v in (ctx.required(1), ctx.required(2))
    ]
    attributes = {"num_groups": ctx.int("groups"), "epsilon": ctx.float("epsilon", 1e-5)}
    y = standard(ctx, "GroupNormalization", image, *vectors, attributes=attributes)
    return ctx.builder.add(Unary("silu"), y) if activation else y
