"""Matrix products and convolutions of quantized tensors, as exact arithmetic on i32.

The operands are widened to i32, their zero points subtracted, and products summed modulo 2**32; QLinear
operators then multiply by scale(x) * scale(w) / scale(y) in float32 and quantize, as the reference and
onnxruntime do.
"""
from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.ops.contraction import matrix_product
from dlc.frontend.onnx.ops.convolution import conv_operator
from dlc.frontend.onnx.registry import importer
from dlc.frontend.onnx.windows import channel_vector
from dlc.ir import affine
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.conversion import integer_range
from dlc.ir.ops.movement import Reshape
from dlc.ir.ops.pointwise import Binary, Cast, Clip, Unary
from dlc.ir.ops.quantization import QuantizeLinear


@importer("MatMulInteger", since=10)
def matmul_integer(ctx: NodeContext) -> Value:
    """The product of a - a_zero_point and b - b_zero_point in i32."""
    a, b, a_zero = ctx.required(0), ctx.required(1), ctx.optional(2)
    if a_zero is not None:
        a_zero = _of_rows(ctx, a_zero, a)
    return matrix_product(ctx, centred(ctx, a, a_zero), centred(ctx, b, ctx.optional(3)))


@importer("ConvInteger", since=10)
def conv_integer(ctx: NodeContext) -> Value:
    """The convolution of x - x_zero_point and w - w_zero_point in i32; padding is zero after subtraction."""
    op = conv_operator(ctx)
    x, w, w_zero = ctx.required(0), ctx.required(1), ctx.optional(3)
    if w_zero is not None:
        w_zero = _of_filters(ctx, w_zero, w)
    return ctx.add(op, centred(ctx, x, ctx.optional(2)), centred(ctx, w, w_zero))


@importer("QLinearMatMul", since=10)
def qlinear_matmul(ctx: NodeContext) -> Value:
    """The product of two quantized matrices, quantized; since opset 21 also of 8-bit floats.

    Scales and zero points are scalars, or belong to rows of a and y and columns of b.
    """
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (ctx.required(index) for index in range(8))
    floats = a.tensor.dtype.is_float or b.tensor.dtype.is_float
    left, right = centred(ctx, a, _of_rows(ctx, a_zero, a), floats), centred(ctx, b, b_zero, floats)
    sums = matrix_product(ctx, left, right)
    scale = product_scale(ctx, _of_rows(ctx, a_scale, a), b_scale, _of_rows(ctx, y_scale, a))
    return requantized(ctx, sums, scale, y_zero, axis=max(sums.tensor.rank - 2, 0))


@importer("QLinearConv", since=10)
def qlinear_conv(ctx: NodeContext) -> Value:
    """The convolution of two quantized tensors, with an i32 bias, quantized.

    The weights' scale and zero point are scalars or belong to the output channels.
    """
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = (ctx.required(index) for index in range(8))
    sums = ctx.add(conv_operator(ctx, x=0, w=3), centred(ctx, x, x_zero),
                   centred(ctx, w, _of_filters(ctx, w_zero, w)), ctx.optional(8))
    scale = product_scale(ctx, x_scale, channel_vector(ctx, w_scale, x.tensor.rank), y_scale)
    return requantized(ctx, sums, scale, y_zero, axis=1)


def centred(ctx: NodeContext, value: Value, zero_point: Value | None, floats: bool = False) -> Value:
    """`value` minus its zero point: in i32, or in f32 for `floats` and when it is a float."""
    wide = DType.F32 if floats or value.tensor.dtype.is_float else DType.I32
    return affine.centred(ctx.builder, value, zero_point, wide)


def _of_rows(ctx: NodeContext, parameter: Value, matrix: Value) -> Value:
    """A scale or zero point of the rows of `matrix`: a vector [M] becomes [M, 1]."""
    shape = parameter.tensor.shape
    if len(shape) != 1 or shape == (1,) or matrix.tensor.rank < 2:
        return parameter
    return _reshaped(ctx, parameter, (shape[0], 1))


def _of_filters(ctx: NodeContext, parameter: Value, weights: Value) -> Value:
    """A zero point of the filters: a vector [O] becomes [O, 1, ...]."""
    shape = parameter.tensor.shape
    if not shape or shape == (1,):
        return parameter
    return _reshaped(ctx, parameter, (shape[0], *[1] * (weights.tensor.rank - 1)))


def _reshaped(ctx: NodeContext, parameter: Value, shape: tuple[Dim, ...]) -> Value:
    """A parameter in another shape: a constant stays one, so that it can be seen to be zero."""
    if parameter.data is None:
        return ctx.add(Reshape(shape), parameter)
    return ctx.const(parameter.data.reshape(parameter.data.shape[0], *shape[1:]), parameter.tensor.dtype)


def product_scale(ctx: NodeContext, x: Value, w: Value, y: Value) -> Value:
    """scale(x) * scale(w) / scale(y) in float32."""
    wide = [value if value.tensor.dtype is DType.F32 else ctx.add(Cast(DType.F32), value)
            for value in (x, w, y)]
    return ctx.add(Binary("div"), ctx.add(Binary("mul"), wide[0], wide[1]), wide[2])


def requantized(ctx: NodeContext, sums: Value, scale: Value, zero_point: Value, axis: int) -> Value:
    """`sums` times `scale` plus `zero_point`, in the zero point's type.

    The zero point is a scalar, a vector along `axis`, or a tensor of integers that broadcasts.
    """
    real = sums if sums.tensor.dtype is DType.F32 else ctx.add(Cast(DType.F32), sums)
    scaled = ctx.add(Binary("mul"), real, scale)
    to = zero_point.tensor.dtype
    if zero_point.tensor.rank > 1:
        if not to.is_integer:
            ctx.unsupported(f"the zero point of the result, {zero_point.type}, is neither scalar nor vector")
        zero = ctx.add(Cast(DType.F32), zero_point)
        shifted = ctx.add(Binary("add"), ctx.add(Unary("round"), scaled), zero)
        low, high = integer_range(to)
        return ctx.add(Cast(to), ctx.add(Clip(float(low), float(high)), shifted))
    op = QuantizeLinear(axis, 0, to)
    return ctx.add(op, scaled, ctx.const(1.0, dtype=DType.F32), zero_point)
