"""onnxruntime's operators on shapes and images that the standard has too, or almost."""

from __future__ import annotations

from dlc.frontend.onnx.axes import front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, standard
from dlc.frontend.onnx.geometry import require_equal, static_ints
from dlc.frontend.onnx.ops.contrib_products import channels_first, channels_last
from dlc.ir.graph import Value
from dlc.ir.ops.linear_algebra import Inverse


@contrib("Trilu", (1, 2), "upper")
def trilu(ctx: NodeContext) -> Value:
    """The standard's."""
    return standard(ctx, "Trilu", *ctx.operands, attributes=ctx.attributes)


@contrib("GatherND", (2, 2))
def gather_nd(ctx: NodeContext) -> Value:
    """The standard's without batch_dims."""
    return standard(ctx, "GatherND", *ctx.operands)


@contrib("Pad", (2, 3), "mode")
def pad(ctx: NodeContext) -> Value:
    """The standard's of opset 11."""
    return standard(ctx, "Pad", *ctx.operands, opset=11, attributes=ctx.attributes)


@contrib("Range", (2, 3))
def range_(ctx: NodeContext) -> Value:
    """The standard's, with steps of 1 unless there is a third operand."""
    start, limit, delta = ctx.single(0), ctx.single(1), ctx.optional(2)
    if delta is None:
        delta = ctx.const(1, start.tensor.dtype)
    return standard(ctx, "Range", start, limit, delta)


@contrib("ExpandDims", (2, 2))
def expand_dims(ctx: NodeContext) -> Value:
    """A new axis of extent 1 at a place that is known at compile time."""
    axes = static_ints(ctx, 1, "the axes to insert")
    if len(axes) != 1:
        ctx.fail(f"one axis is inserted, not {len(axes)}")
    axis = front_axis(ctx, axes[0], ctx.required(0).tensor.rank + 1)
    return standard(ctx, "Unsqueeze", ctx.required(0), opset=11, attributes={"axes": [axis]})


@contrib("GridSample", (2, 2), "align_corners mode padding_mode")
def grid_sample(ctx: NodeContext) -> Value:
    """The standard's of opset 16: images only."""
    return standard(ctx, "GridSample", *ctx.operands, opset=16, attributes=ctx.attributes)


@contrib("NhwcMaxPool", (1, 1), "auto_pad ceil_mode dilations kernel_shape pads strides")
def nhwc_max_pool(ctx: NodeContext) -> Value:
    """MaxPool of [N, spatial..., C]."""
    image = channels_first(ctx, ctx.required(0))
    return channels_last(ctx, standard(ctx, "MaxPool", image, attributes=ctx.attributes))


@contrib("Inverse", (1, 1))
def inverse(ctx: NodeContext) -> Value:
    """Inverses of square matrices."""
    x = ctx.required(0)
    if x.tensor.rank < 2:
        ctx.fail(f"the operand must hold matrices, but is {x.type}")
    require_equal(ctx, x.tensor.shape[-2], x.tensor.shape[-1], "rows and columns of a matrix")
    return ctx.add(Inverse(), x)
