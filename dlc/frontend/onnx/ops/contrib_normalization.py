"""onnxruntime's normalizations: after a residual sum, of embeddings, without a mean, with channels last."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.axes import axis_attribute
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, kept, standard, standard_all
from dlc.frontend.onnx.geometry import require_equal
from dlc.frontend.onnx.operands import require_fits, require_shape
from dlc.frontend.onnx.ops.contrib_activations import biased
from dlc.frontend.onnx.ops.contrib_products import channels_first, channels_last
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Expand, Slice
from dlc.ir.ops.normalization import LayerNorm, RMSNorm
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary
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


@contrib("EmbedLayerNormalization", (7, 9), "epsilon mask_index_type", results=3)
def embed_layer_normalization(ctx: NodeContext) -> Sequence[Value | None]:
    """LayerNorm of the sum of embeddings of words, positions and segments.

    Results: the normalized embeddings, the number of ones in each row of the mask (0 without a mask), and the
    sum. `mask_index_type` says what the second result is for and changes nothing.
    """
    ctx.int("mask_index_type", 0)
    ids, segments, mask, positions = (ctx.optional(index) for index in (0, 1, 7, 8))
    words, table, segment_table = ctx.required(2), ctx.required(3), ctx.optional(4)
    if ids is None or ids.tensor.rank != 2:
        ctx.fail("input_ids must be of shape [batch, sequence]")
    if (segments is None) != (segment_table is None):
        ctx.fail("segment_ids and segment_embedding come together")
    shape = ids.tensor.shape
    total = standard(ctx, "Gather", words, ids)
    total = ctx.builder.add(Binary("add"), total, _positions(ctx, table, positions, shape))
    if segments is not None and segment_table is not None:
        require_shape(ctx, segments, shape, "segment_ids")
        total = ctx.builder.add(Binary("add"), total, standard(ctx, "Gather", segment_table, segments))
    y = ctx.add(LayerNorm(2, ctx.float("epsilon", 1e-12)), total, ctx.required(5), ctx.required(6))
    return [y, _mask_index(ctx, mask, shape) if ctx.wants(1) else None, total][: len(ctx.output_names)]


def _positions(ctx: NodeContext, table: Value, positions: Value | None, shape: Sequence[Dim]) -> Value:
    """The embeddings of the given positions, or those of the first of the table, as [1 or batch, S, H]."""
    if positions is not None:
        require_equal(ctx, positions.tensor.shape[-1], shape[1], "the positions and the words")
        return standard(ctx, "Gather", table, positions)
    width = table.tensor.shape[1]
    return ctx.builder.add(Slice((0, 0), (shape[1], width), (1, 1)), table)


def _mask_index(ctx: NodeContext, mask: Value | None, shape: Sequence[Dim]) -> Value:
    """How many ones each row of the mask has."""
    if mask is None:
        return ctx.builder.add(Expand((shape[0],)), ctx.const(0, DType.I32))
    require_shape(ctx, mask, shape, "mask")
    ones = ctx.builder.add(Compare("eq"), mask, ctx.const(1, mask.tensor.dtype))
    counted = ctx.builder.add(Cast(DType.I32), ones)
    return ctx.builder.add(Reduce("sum", (1,), keepdims=False), counted)


@contrib("GroupNorm", (3, 3), "activation channels_last epsilon groups")
def group_norm(ctx: NodeContext) -> Value:
    """GroupNormalization, by default of [N, H, W, C], and SiLU if `activation` is 1."""
    last, activation = bool(ctx.int("channels_last", 1)), ctx.int("activation")
    if activation not in (0, 1):
        ctx.fail(f"attribute 'activation' must be 0 or 1, but is {activation}")
    x, dtype = ctx.required(0), ctx.required(0).tensor.dtype
    vectors = [
        v if v.tensor.dtype is dtype else ctx.add(Cast(dtype), v) for v in (ctx.required(1), ctx.required(2))
    ]
    attributes = {"num_groups": ctx.int("groups"), "epsilon": ctx.float("epsilon", 1e-5)}
    image = channels_first(ctx, x) if last else x
    y = standard(ctx, "GroupNormalization", image, *vectors, attributes=attributes)
    if activation:
        y = ctx.add(Unary("silu"), y)
    return channels_last(ctx, y) if last else y
