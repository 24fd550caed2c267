"""onnxruntime's sums of embeddings before the first layer of an encoder, and their quantized form."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, standard
from dlc.frontend.onnx.geometry import require, require_equal
from dlc.frontend.onnx.operands import require_shape
from dlc.ir.affine import Affine
from dlc.ir.dims import Dim, Relation
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Expand, Slice
from dlc.ir.ops.normalization import LayerNorm
from dlc.ir.ops.pointwise import Binary, Cast, Compare
from dlc.ir.ops.reduction import Reduce


@contrib("EmbedLayerNormalization", (7, 9), "epsilon mask_index_type", results=3)
def embed_layer_normalization(ctx: NodeContext) -> Sequence[Value | None]:
    """LayerNorm of the sum of embeddings of words, positions and segments.

    Results: the normalized embeddings, the number of ones in each row of the mask (0 without a mask), and the
    sum. `mask_index_type` says what the second result is for and changes nothing.
    """
    ctx.int("mask_index_type", 0)
    return _normalized_sum(ctx, ctx.optional(8), quantized=False)


@contrib("QEmbedLayerNormalization", (18, 18), "epsilon", results=2)
def quantized_embed_layer_normalization(ctx: NodeContext) -> Sequence[Value | None]:
    """EmbedLayerNormalization of 8-bit tables and vectors.

    Their scales are the operands from 8 on and their zero points those from 13 on, each in the order of the
    tables of words, positions and segments, gamma and beta.
    """
    return _normalized_sum(ctx, None, quantized=True)


def _normalized_sum(ctx: NodeContext, positions: Value | None, quantized: bool) -> list[Value | None]:
    ids, segments, mask = ctx.required(0), ctx.optional(1), ctx.optional(7)
    if ids.tensor.rank != 2:
        ctx.fail("input_ids must be of shape [batch, sequence]")
    if (segments is None) != (ctx.optional(4) is None):
        ctx.fail("segment_ids and segment_embedding come together")

    def real(index: int, stored: Value) -> Value:
        """The numbers that rows of operand `index`, a table or a vector, stand for."""
        if not quantized:
            return stored
        return Affine(ctx.single(index + 6), ctx.single(index + 11)).real(ctx.builder, stored)

    add, shape = ctx.builder.add, ids.tensor.shape
    words = real(2, standard(ctx, "Gather", ctx.required(2), ids))
    total = add(Binary("add"), words, real(3, _positions(ctx, ctx.required(3), positions, shape)))
    if segments is not None:
        require_shape(ctx, segments, shape, "segment_ids")
        total = add(Binary("add"), total, real(4, standard(ctx, "Gather", ctx.required(4), segments)))
    gamma, beta = (real(index, ctx.required(index)) for index in (5, 6))
    for vector in (gamma, beta):
        require_shape(ctx, vector, total.tensor.shape[-1:], "a vector of the normalization")
    y = ctx.add(LayerNorm(2, ctx.float("epsilon", 1e-12)), total, gamma, beta)
    return [y, _mask_index(ctx, mask, shape) if ctx.wants(1) else None, total][: len(ctx.output_names)]


def _positions(ctx: NodeContext, table: Value, positions: Value | None, shape: Sequence[Dim]) -> Value:
    """The embeddings of the given positions, or those of the first of the table, as [1 or batch, S, H]."""
    if table.tensor.rank != 2:
        ctx.fail(f"the table of positions must have rank 2, but is {table.type}")
    if positions is not None:
        require_equal(ctx, positions.tensor.shape[-1], shape[1], "the positions and the words")
        return standard(ctx, "Gather", table, positions)
    rows, width = table.tensor.shape
    require(ctx, Relation.LE, shape[1], rows, "the sequence is longer than the table of positions")
    return ctx.builder.add(Slice((0, 0), (shape[1], width), (1, 1)), table)


def _mask_index(ctx: NodeContext, mask: Value | None, shape: Sequence[Dim]) -> Value:
    """How many ones each row of the mask has."""
    if mask is None:
        return ctx.builder.add(Expand((shape[0],)), ctx.const(0, DType.I32))
    require_shape(ctx, mask, shape, "mask")
    ones = ctx.builder.add(Compare("eq"), mask, ctx.const(1, mask.tensor.dtype))
    counted = ctx.builder.add(Cast(DType.I32), ones)
    return ctx.builder.add(Reduce("sum", (1,), keepdims=False), counted)
