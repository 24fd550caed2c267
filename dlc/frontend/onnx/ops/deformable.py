"""DeformConv."""
from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.ops.convolution import groups, require_whole_groups
from dlc.frontend.onnx.registry import importer
from dlc.frontend.onnx.windows import explicit_pads, kernel_shape, per_axis, spatial_operand
from dlc.ir.graph import Value
from dlc.ir.ops.deformable import DeformConv


@importer("DeformConv", since=19)
def deform_conv(ctx: NodeContext) -> Value:
    """Convolution with displaced taps."""
    rank = len(spatial_operand(ctx, 0).shape[2:])
    kernel_shape(ctx, spatial_operand(ctx, 1).shape[2:])
    offset_groups = ctx.int("offset_group", 1)
    if offset_groups < 1:
        ctx.fail(f"attribute 'offset_group' must be positive, but is {offset_groups}")
    strides, dilations = per_axis(ctx, "strides", rank), per_axis(ctx, "dilations", rank)
    x, w = ctx.required(0), ctx.required(1)
    require_whole_groups(ctx, w.tensor.shape[0], groups(ctx), "output channels")
    require_whole_groups(ctx, x.tensor.shape[1], offset_groups, "input channels")
    op = DeformConv(strides, dilations, explicit_pads(ctx, rank), groups(ctx), offset_groups)
    return ctx.add(op, x, w, ctx.required(2), ctx.optional(3), ctx.optional(4))
