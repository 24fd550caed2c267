"""onnxruntime's matrix products and convolutions that were fused with what follows, or take channels last;
distances of rows.
"""

from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, kept, refuse, standard
from dlc.frontend.onnx.geometry import require_equal, reshape, static_ints, transposed
from dlc.frontend.onnx.operands import require_fits
from dlc.frontend.onnx.ops.contrib_activations import FUSABLE, fused_activation
from dlc.ir.dims import known_equal
from dlc.ir.graph import Value
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.ir.ops.reduction import Reduce

#: The attributes of a convolution.
WINDOW = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


@contrib("FusedMatMul", (2, 2), "alpha transA transB transBatchA transBatchB")
def fused_matmul(ctx: NodeContext) -> Value:
    """alpha times the product of a and b, each transposed as its flags say."""
    return _transposed_product(ctx, "transBatchA", "transBatchB")


@contrib("TransposeMatMul", (2, 2), "alpha transA transB")
def transpose_matmul(ctx: NodeContext) -> Value:
    """FusedMatMul under its first name."""
    return _transposed_product(ctx)


@contrib(
    "FusedMatMulActivation",
    (2, 2),
    "activation activation_alpha activation_axis activation_beta activation_gamma alpha transA transB "
    "transBatchA transBatchB",
)
def fused_matmul_activation(ctx: NodeContext) -> Value:
    """FusedMatMul, then an activation."""
    refuse(ctx, "activation_axis", None)
    product = _transposed_product(ctx, "transBatchA", "transBatchB")
    return fused_activation(ctx, product, ctx.string("activation"), _named_parameters(ctx))


def _transposed_product(ctx: NodeContext, *batch_flags: str) -> Value:
    """The product of FusedMatMul; `batch_flags` names the flags that move rows in front of the batches."""
    operands = []
    for index, flag in enumerate(("transA", "transB")):
        operand = ctx.required(index)
        axes = list(range(operand.tensor.rank))
        if batch_flags and ctx.int(batch_flags[index], 0) and len(axes) > 2:
            # [M, batches..., K] becomes [batches..., M, K].
            axes = [*axes[1:-1], axes[0], axes[-1]]
        if ctx.int(flag, 0) and len(axes) > 1:
            axes[-2:] = axes[:-3:-1]
        operands.append(transposed(ctx, operand, axes))
    product = standard(ctx, "MatMul", *operands)
    alpha = ctx.float("alpha", 1.0)
    if alpha == 1:
        return product
    dtype = product.tensor.dtype
    return ctx.add(Binary("mul"), product, ctx.const(np.asarray(alpha).astype(dtype.numpy)))


@contrib(
    "FusedGemm",
    (2, 3),
    "activation activation_alpha activation_beta activation_gamma alpha beta transA transB",
)
def fused_gemm(ctx: NodeContext) -> Value:
    """Gemm, then an activation."""
    operands = ctx.required(0), ctx.required(1), ctx.optional(2)
    names = "alpha", "beta", "transA", "transB"
    product = standard(ctx, "Gemm", *operands, attributes=kept(ctx, *names))
    return fused_activation(ctx, product, ctx.string("activation", ""), _named_parameters(ctx))


def _named_parameters(ctx: NodeContext) -> dict[str, float]:
    """The attributes activation_alpha and the like, under the names that the activation calls them."""
    names = [name for name in ("alpha", "beta", "gamma") if ctx.has(f"activation_{name}")]
    return {name: ctx.float(f"activation_{name}") for name in names}


@contrib("CDist", (2, 2), "metric")
def pairwise_distance(ctx: NodeContext) -> Value:
    """The distance of each row of a [M, K] from each of b [N, K], or by default its square."""
    a, b = ctx.required(0), ctx.required(1)
    metric = ctx.string("metric", "sqeuclidean")
    if metric not in ("euclidean", "sqeuclidean"):
        ctx.unsupported(f"the metric is {metric!r}", "compute it from the standard's operators")
    for operand in (a, b):
        if operand.tensor.rank != 2:
            ctx.fail(f"%{operand.name} must be a matrix, but is {operand.type}")
    (rows, width), (others, _) = a.tensor.shape, b.tensor.shape
    require_equal(ctx, width, b.tensor.shape[1], "the columns of both matrices")
    first, second = reshape(ctx, a, (rows, 1, width)), reshape(ctx, b, (1, others, width))
    difference = ctx.builder.add(Binary("sub"), first, second)
    squares = ctx.add(Reduce("sum_square", (2,), keepdims=False), difference)
    return ctx.add(Unary("sqrt"), squares) if metric == "euclidean" else squares


@contrib("FusedConv", (2, 4), " ".join(("activation", "activation_params", *WINDOW)))
def fused_conv(ctx: NodeContext) -> Value:
    """Conv, plus an optional tensor of the result's shape, then an activation."""
    operands = ctx.required(0), ctx.required(1), ctx.optional(2)
    return finished(ctx, standard(ctx, "Conv", *operands, attributes=kept(ctx, *WINDOW)))


@contrib("NhwcConv", (2, 3), " ".join(WINDOW))
def nhwc_conv(ctx: NodeContext) -> Value:
    """Conv of an input [N, spatial..., C] and weights [M, kernel..., C / group].

    That is what onnxruntime's tools write and its kernels read; its description has weights as in Conv, which
    are taken where they do not fit the other way.
    """
    x, w = ctx.required(0), ctx.required(1)
    rank = w.tensor.rank
    if rank >= 3 and (_fits(ctx, x, w, rank - 1) or not _fits(ctx, x, w, 1)):
        w = channels_first(ctx, w)
    return _channels_last_conv(ctx, w)


def _fits(ctx: NodeContext, x: Value, w: Value, axis: int) -> bool:
    """Whether `axis` of the weights can be that of the channels of x [N, spatial..., C]."""
    kernel = [extent for place, extent in enumerate(w.tensor.shape) if place not in (0, axis)]
    wanted = list(ctx.ints("kernel_shape", ()))
    channels = w.tensor.shape[axis] * ctx.int("group", 1)
    return known_equal(channels, x.tensor.shape[-1]) and wanted in ([], kernel)


@contrib("NhwcFusedConv", (2, 4), " ".join(("activation", "activation_params", *WINDOW)))
def nhwc_fused_conv(ctx: NodeContext) -> Value:
    """Conv of an input [N, spatial..., C] and weights as in Conv, plus an optional tensor of the result's
    shape, then an activation.
    """
    return finished(ctx, _channels_last_conv(ctx, ctx.required(1)))


def _channels_last_conv(ctx: NodeContext, w: Value) -> Value:
    x, bias = channels_first(ctx, ctx.required(0)), ctx.optional(2)
    return channels_last(ctx, standard(ctx, "Conv", x, w, bias, attributes=kept(ctx, *WINDOW)))


def finished(ctx: NodeContext, product: Value) -> Value:
    """`product` plus operand 3, if there is one, and the activation that the node names."""
    total = ctx.optional(3)
    if total is not None:
        require_fits(ctx, total, product, "the operand to be added")
        product = ctx.add(Binary("add"), product, total)
    name = ctx.string("activation", "")
    values = ctx.floats("activation_params", ())
    names = FUSABLE.get(name, ())
    if len(values) != len(names):
        ctx.fail(f"the activation {name!r} has {len(names)} parameters, but {len(values)} are given")
    return fused_activation(ctx, product, name, dict(zip(names, values)))


@contrib(
    "ConvTransposeWithDynamicPads",
    (2, 4),
    "auto_pad dilations group kernel_shape output_padding strides",
)
def conv_transpose_with_pads(ctx: NodeContext) -> Value:
    """ConvTranspose whose pads are an operand, which must be known at compile time."""
    pads = list(static_ints(ctx, 2, "the pads")) if ctx.optional(2) is not None else None
    names = "auto_pad", "dilations", "group", "kernel_shape", "output_padding", "strides"
    operands = ctx.required(0), ctx.required(1), ctx.optional(3)
    return standard(ctx, "ConvTranspose", *operands, attributes={**kept(ctx, *names), "pads": pads})


def channels_first(ctx: NodeContext, x: Value) -> Value:
    """[N, spatial..., C] as [N, C, spatial...]."""
    rank = x.tensor.rank
    if rank < 3:
        ctx.fail(f"%{x.name} must have a batch axis, spatial axes and channels, but is {x.type}")
    return transposed(ctx, x, [0, rank - 1, *range(1, rank - 1)])


def channels_last(ctx: NodeContext, x: Value) -> Value:
    """[N, C, spatial...] as [N, spatial..., C]."""
    return transposed(ctx, x, [0, *range(2, x.tensor.rank), 1])
