"""Conv and ConvTranspose."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require_equal
from dlc.frontend.onnx.operands import require_shape
from dlc.frontend.onnx.registry import importer
from dlc.frontend.onnx.windows import (
    auto_pad,
    explicit_pads,
    kernel_shape,
    per_axis,
    require_windows_fit,
    spatial_operand,
    window_pads,
)
from dlc.ir.dims import Dim, maximum
from dlc.ir.graph import Value
from dlc.ir.ops.convolution import Conv, ConvTranspose
from dlc.ir.ops.windows import transposed_extent


def conv_operator(ctx: NodeContext, x: int = 0, w: int = 1) -> Conv:
    """The convolution that the node's attributes describe for its operands number `x` and `w`."""
    spatial = spatial_operand(ctx, x).shape[2:]
    kernel = kernel_shape(ctx, spatial_operand(ctx, w).shape[2:])
    strides = per_axis(ctx, "strides", len(spatial))
    dilations = per_axis(ctx, "dilations", len(spatial))
    if len(kernel) != len(spatial):
        ctx.fail(f"the weights have {len(kernel)} spatial axes, the input {len(spatial)}")
    pads = window_pads(ctx, spatial, kernel, strides, dilations)
    require_windows_fit(ctx, spatial, kernel, dilations, pads)
    op = Conv(strides, dilations, pads, groups(ctx))
    channels, per_group = ctx.required(x).tensor.shape[1], ctx.required(w).tensor.shape[1]
    require_equal(ctx, channels, per_group * op.groups, "the input's channels and those of the weights")
    require_whole_groups(ctx, ctx.required(w).tensor.shape[0], op.groups, "output channels")
    return op


def require_whole_groups(ctx: NodeContext, channels: Dim, count: int, what: str) -> None:
    """`channels` must be divisible by the number of groups."""
    if count > 1:
        text = f"the {what} and a multiple of {count} groups"
        require_equal(ctx, channels, channels // count * count, text)


def groups(ctx: NodeContext) -> int:
    """The attribute `group`; ModelError unless positive."""
    count = ctx.int("group", 1)
    if count < 1:
        ctx.fail(f"attribute 'group' must be positive, but is {count}")
    return count


@importer("Conv")
def conv(ctx: NodeContext) -> Value:
    """Cross-correlation over the spatial axes."""
    op, w, bias = conv_operator(ctx), ctx.required(1), ctx.optional(2)
    require_shape(ctx, bias, w.tensor.shape[:1], "the bias")
    return ctx.add(op, ctx.required(0), w, bias)


@importer("ConvTranspose")
def conv_transpose(ctx: NodeContext) -> Value:
    """The gradient of Conv.

    A given `output_shape`, or auto_pad SAME_* (extent times stride), determines the padding. The formulas of
    opsets 1 to 10 put an odd element on the other side than their own text on auto_pad; as in onnxruntime and
    the reference, all opsets follow the formulas of opset 11.
    """
    spatial = spatial_operand(ctx, 0).shape[2:]
    kernel = kernel_shape(ctx, spatial_operand(ctx, 1).shape[2:])
    if len(kernel) != len(spatial):
        ctx.fail(f"the weights have {len(kernel)} spatial axes, the input {len(spatial)}")
    strides = per_axis(ctx, "strides", len(spatial))
    dilations = per_axis(ctx, "dilations", len(spatial))
    padding: tuple[Dim, ...] = per_axis(ctx, "output_padding", len(spatial), default=0, least=0)
    mode = auto_pad(ctx)
    wanted: Sequence[Dim] | None = None
    if ctx.ints("output_shape", ()):
        wanted = _output_shape(ctx, len(spatial))
    elif mode.startswith("SAME"):
        wanted = [extent * stride for extent, stride in zip(spatial, strides, strict=True)]
    pads: tuple[tuple[Dim, Dim], ...] = explicit_pads(ctx, len(spatial))
    if wanted is not None:
        reached = [transposed_extent(*axis, (0, 0), 0)
                   for axis in zip(spatial, kernel, strides, dilations, strict=True)]
        geometry = zip(reached, padding, wanted, strict=True)
        fitted = [_fit(covered, extra, extent, mode == "SAME_UPPER") for covered, extra, extent in geometry]
        pads = tuple(axis for axis, _ in fitted)
        padding = tuple(longer for _, longer in fitted)
    elif mode == "VALID" and any(before or after for before, after in explicit_pads(ctx, len(spatial))):
        ctx.fail("'pads' and auto_pad VALID exclude each other")
    op = ConvTranspose(strides, dilations, pads, padding, groups(ctx))
    x, w, bias = ctx.required(0), ctx.required(1), ctx.optional(2)
    require_equal(ctx, x.tensor.shape[1], w.tensor.shape[0], "the input's channels and those of the weights")
    require_whole_groups(ctx, w.tensor.shape[0], op.groups, "input channels")
    require_shape(ctx, bias, [w.tensor.shape[1] * op.groups], "the bias")
    return ctx.add(op, x, w, bias)


def _output_shape(ctx: NodeContext, rank: int) -> tuple[int, ...]:
    """The spatial part of the attribute `output_shape`; in old models it begins with batch and channels."""
    shape = ctx.ints("output_shape")
    if len(shape) not in (rank, rank + 2) or min(shape) < 0:
        ctx.fail(f"output_shape {list(shape)} does not fit {rank} spatial axes")
    return shape[-rank:]


def _fit(covered: Dim, extra: Dim, wanted: Dim, upper: bool) -> tuple[tuple[Dim, Dim], Dim]:
    """Padding to cut off and output padding with which an output has `wanted` elements.

    `covered` elements are reached by the kernel, `extra` is the output padding that the node asks for.
    """
    total = covered + extra - wanted
    cut = maximum(total, 0)
    small = cut // 2
    pads = (small, cut - small) if upper else (cut - small, small)
    return pads, extra + cut - total
