"""Quantization and dequantization of ONNX."""
from __future__ import annotations

from dlc.frontend.onnx.axes import front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import only_since, require, require_equal
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, ceildiv, known_equal, to_text
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Expand
from dlc.ir.ops.pointwise import Binary, Cast, Clip, Unary
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.ir.ops.reduction import Reduce


@importer("QuantizeLinear", since=10)
def quantize_linear(ctx: NodeContext) -> Value:
    """Attributes by opset: `axis` 13, `saturate` 19, `block_size` and `output_dtype` 21, `precision` 23."""
    x, scale, zero_point = ctx.required(0), ctx.required(1), ctx.optional(2)
    only_since(ctx, 19, "saturate")
    only_since(ctx, 21, "output_dtype")
    only_since(ctx, 23, "precision")
    to, precision = _dtype(ctx, "output_dtype"), _dtype(ctx, "precision")
    if zero_point is not None:
        if to is not None and to is not zero_point.tensor.dtype:
            ctx.fail(f"attribute 'output_dtype' names {to.text}, but the zero point is {zero_point.type}")
        to = zero_point.tensor.dtype
    axis, block_size, scale, zero_point = _granularity(ctx, x, scale, zero_point)
    saturate = bool(ctx.int("saturate", 1))
    operator = QuantizeLinear(axis, block_size, to or DType.U8, saturate, precision)
    return ctx.add(operator, x, scale, zero_point)


@importer("DequantizeLinear", since=10)
def dequantize_linear(ctx: NodeContext) -> Value:
    """Attributes by opset: `axis` 13, `block_size` 21, `output_dtype` 23."""
    x, scale, zero_point = ctx.required(0), ctx.required(1), ctx.optional(2)
    only_since(ctx, 23, "output_dtype")
    axis, block_size, scale, zero_point = _granularity(ctx, x, scale, zero_point)
    to = _dtype(ctx, "output_dtype") or scale.tensor.dtype
    return ctx.add(DequantizeLinear(axis, block_size, to), x, scale, zero_point)


def _dtype(ctx: NodeContext, key: str) -> DType | None:
    """The element type that an attribute numbers; None when it is absent or 0."""
    return ctx.dtype(key) if ctx.int(key, 0) else None


def _granularity(
    ctx: NodeContext, x: Value, scale: Value, zero_point: Value | None
) -> tuple[int, int, Value, Value | None]:
    """Axis (from the front; 0 where it has no meaning), block size, and scale and zero point to use."""
    only_since(ctx, 13, "axis")
    only_since(ctx, 21, "block_size")
    axis, block_size = ctx.int("axis", 1), ctx.int("block_size", 0)
    if block_size < 0:
        ctx.fail(f"attribute 'block_size' must not be negative, but is {block_size}")
    axis = 0 if scale.tensor.rank == 0 or x.tensor.rank <= 1 else front_axis(ctx, axis, x.tensor.rank)
    if block_size:
        for parameter in (scale, zero_point):
            if parameter is not None and parameter.tensor.rank == x.tensor.rank:
                _require_blocks(ctx, x, parameter, axis, block_size)
        return axis, block_size, scale, zero_point
    if x.tensor.rank:
        extent = x.tensor.shape[axis]
        if zero_point is not None and zero_point.tensor.rank == scale.tensor.rank == 1:
            have, wanted = zero_point.tensor.shape[0], scale.tensor.shape[0]
            if not (isinstance(have, int) and isinstance(wanted, int)):
                require_equal(ctx, have, wanted, "the extents of scale and zero point")
        scale = _along(ctx, scale, extent)
        if zero_point is not None:
            zero_point = _along(ctx, zero_point, 1 if scale.tensor.shape == (1,) else extent)
    return axis, block_size, scale, zero_point


def _require_blocks(ctx: NodeContext, x: Value, parameter: Value, axis: int, block_size: int) -> None:
    """Check the extents of a tensor of blocks along `axis`."""
    shape = x.tensor.shape
    blocks = (*shape[:axis], ceildiv(shape[axis], block_size), *shape[axis + 1:])
    for have, wanted in zip(parameter.tensor.shape, blocks):
        require_equal(ctx, have, wanted, "the extents of scale and of the blocks of x")


def _along(ctx: NodeContext, parameter: Value, extent: Dim) -> Value:
    """A vector with a number for each of `extent` positions, or with one for all; other ranks as they are.

    A symbolic extent may turn out to be 1, so that the vector is expanded when it is used.
    """
    if parameter.tensor.rank != 1 or parameter.tensor.shape == (1,):
        return parameter
    (have,) = parameter.tensor.shape
    if isinstance(have, int) or known_equal(have, extent):
        require_equal(ctx, have, extent, "the extents of scale and of the axis")
        return parameter
    message = f"a scale of {to_text(have)} numbers does not fit an axis of extent {to_text(extent)}"
    require(ctx, Relation.EQ, (have - 1) * (have - extent), 0, message)
    return ctx.builder.add(Expand((extent,)), parameter)


@importer("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(ctx: NodeContext) -> tuple[Value, ...]:
    """The function of the standard: scale and zero point of u8 from the range of x, extended to hold 0."""
    x = ctx.required(0)
    if x.tensor.dtype is not DType.F32:
        ctx.fail(f"the operand must be of type f32, but is {x.type}")
    return dynamically_quantized(ctx, x)


def dynamically_quantized(ctx: NodeContext, x: Value) -> tuple[Value, Value, Value]:
    """The f32 tensor `x` in u8, and its scale and zero point as DynamicQuantizeLinear chooses them."""
    add = ctx.builder.add
    axes = tuple(range(x.tensor.rank))
    zero, steps = ctx.const(0.0, DType.F32), ctx.const(255.0, DType.F32)
    low = add(Binary("min"), add(Reduce("min", axes, keepdims=False), x), zero)
    high = add(Binary("max"), add(Reduce("max", axes, keepdims=False), x), zero)
    scale = add(Binary("div"), add(Binary("sub"), high, low), steps)
    exact = add(Clip(0.0, 255.0), add(Binary("sub"), zero, add(Binary("div"), low, scale)))
    zero_point = add(Cast(DType.U8), add(Unary("round"), exact))
    return (ctx.add(QuantizeLinear(0, 0, DType.U8), x, scale, zero_point), scale, zero_point)
