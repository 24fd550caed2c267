"""onnxruntime's quantized elementwise operators, pools and joins: on 8-bit numbers with a scale each.

Most are what their descriptions say: dequantize, compute in float32, quantize. Sums, products and averages
are computed as onnxruntime computes them (`dlc.ir.affine`), which gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.axes import front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, kept, standard
from dlc.frontend.onnx.geometry import many_axes, require_broadcast
from dlc.frontend.onnx.ops.contrib_products import WINDOW, channels_first, channels_last
from dlc.frontend.onnx.ops.integer_contraction import requantized
from dlc.ir.affine import Affine, averaged, in_steps, product_in_steps, sum_in_steps
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.pointwise import Activation, Unary, Where
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear


def _affine(ctx: NodeContext, index: int) -> Affine:
    """The scale at operand `index` and the zero point after it."""
    zero_point = ctx.single(index + 1) if ctx.optional(index + 1) is not None else None
    return Affine(ctx.single(index), zero_point)


def _stored(ctx: NodeContext, affine: Affine, real: Value, dtype: DType) -> Value:
    """The numbers `real` as they are stored in `dtype`."""
    return ctx.add(QuantizeLinear(0, 0, dtype), real, affine.scale, affine.zero_point)


def _rounded(ctx: NodeContext, steps: Value, dtype: DType) -> Value:
    """Numbers in steps from the number 0, rounded to `dtype`."""
    return ctx.add(QuantizeLinear(0, 0, dtype), steps, ctx.const(1.0, DType.F32))


def _granularity(ctx: NodeContext, x: Value, scale: Value) -> int:
    """The axis that a vector of scales belongs to; 0 for a scalar."""
    if scale.tensor.rank == 0 or x.tensor.rank <= 1:
        return 0
    return front_axis(ctx, ctx.int("axis", 1), x.tensor.rank)


@contrib("QuantizeLinear", (2, 3), "axis")
def quantize_linear(ctx: NodeContext) -> Value:
    """The standard's, of scalars or vectors along `axis`; u8 without a zero point."""
    x, scale, zero_point = ctx.required(0), ctx.required(1), ctx.optional(2)
    to = DType.U8 if zero_point is None else zero_point.tensor.dtype
    return ctx.add(QuantizeLinear(_granularity(ctx, x, scale), 0, to), x, scale, zero_point)


@contrib("DequantizeLinear", (2, 3), "axis")
def dequantize_linear(ctx: NodeContext) -> Value:
    """The standard's, of scalars or vectors along `axis`."""
    x, scale = ctx.required(0), ctx.required(1)
    operator = DequantizeLinear(_granularity(ctx, x, scale), 0, scale.tensor.dtype)
    return ctx.add(operator, x, scale, ctx.optional(2))


@contrib("QLinearAdd", (7, 8))
def qlinear_add(ctx: NodeContext) -> Value:
    """The sum of two quantized tensors that broadcast."""
    a, b = ctx.required(0), ctx.required(3)
    require_broadcast(ctx, a.tensor.shape, b.tensor.shape)
    left, right, result = (_affine(ctx, index) for index in (1, 4, 6))
    return _rounded(ctx, sum_in_steps(ctx.builder, (a, left), (b, right), result), a.tensor.dtype)


@contrib("QLinearMul", (7, 8))
def qlinear_mul(ctx: NodeContext) -> Value:
    """The product of two quantized tensors that broadcast."""
    a, b = ctx.required(0), ctx.required(3)
    require_broadcast(ctx, a.tensor.shape, b.tensor.shape)
    left, right, result = (_affine(ctx, index) for index in (1, 4, 6))
    return _rounded(ctx, product_in_steps(ctx.builder, (a, left), (b, right), result), a.tensor.dtype)


def _zero_point(ctx: NodeContext, affine: Affine, dtype: DType) -> Value:
    return ctx.const(0, dtype) if affine.zero_point is None else affine.zero_point


@contrib("QLinearSigmoid", (4, 5))
def qlinear_sigmoid(ctx: NodeContext) -> Value:
    """The sigmoid of a quantized tensor."""
    return _unary(ctx, Unary("sigmoid"))


@contrib("QLinearLeakyRelu", (4, 5), "alpha")
def qlinear_leaky_relu(ctx: NodeContext) -> Value:
    """x, or alpha x where x < 0, of a quantized tensor."""
    return _unary(ctx, Activation("leaky_relu", ctx.float("alpha", 0.01)))


def _unary(ctx: NodeContext, operator: Unary | Activation) -> Value:
    x = ctx.required(0)
    y = ctx.builder.add(operator, _affine(ctx, 1).real(ctx.builder, x))
    return _stored(ctx, _affine(ctx, 3), y, x.tensor.dtype)


@contrib("QLinearSoftmax", (5, 5), "axis opset")
def qlinear_softmax(ctx: NodeContext) -> Value:
    """The softmax of the standard's `opset` of a quantized tensor."""
    x, opset = ctx.required(0), ctx.int("opset")
    if opset < 1:
        ctx.fail(f"there is no opset {opset}")
    attributes = {"axis": ctx.int("axis", -1)}
    real = _affine(ctx, 1).real(ctx.builder, x)
    y = standard(ctx, "Softmax", real, opset=13 if opset >= 13 else 11, attributes=attributes)
    return _stored(ctx, _affine(ctx, 3), y, x.tensor.dtype)


@contrib("QLinearWhere", (9, 9))
def qlinear_where(ctx: NodeContext) -> Value:
    """x where the condition holds, else y, of quantized tensors that broadcast."""
    condition, x, y = ctx.required(0), ctx.required(1), ctx.required(4)
    shape = require_broadcast(ctx, x.tensor.shape, y.tensor.shape)
    require_broadcast(ctx, condition.tensor.shape, shape)
    choices = _affine(ctx, 2).real(ctx.builder, x), _affine(ctx, 5).real(ctx.builder, y)
    chosen = ctx.builder.add(Where(), condition, *choices)
    return _stored(ctx, _affine(ctx, 7), chosen, x.tensor.dtype)


@contrib("QLinearConcat", (5, 2**31), "axis")
def qlinear_concat(ctx: NodeContext) -> Value:
    """Quantized tensors side by side: scale and zero point of the result, then each tensor with its own."""
    if len(ctx.operands) % 3 != 2:
        ctx.fail(f"each tensor needs a scale and a zero point, but there are {len(ctx.operands)} operands")
    result = _affine(ctx, 0)
    parts = []
    for index in range(2, len(ctx.operands), 3):
        part, affine = ctx.required(index), _affine(ctx, index + 1)
        parts.append(_stored(ctx, result, affine.real(ctx.builder, part), part.tensor.dtype))
    axis = front_axis(ctx, ctx.int("axis"), parts[0].tensor.rank)
    return standard(ctx, "Concat", *parts, attributes={"axis": axis})


@contrib("QLinearGlobalAveragePool", (5, 5), "channels_last")
def qlinear_global_average_pool(ctx: NodeContext) -> Value:
    """The average over the spatial axes, from exact sums."""
    x = ctx.required(0)
    first = 1 if ctx.int("channels_last", 0) else 2
    axes = tuple(range(first, x.tensor.rank - (first == 1)))
    if not axes:
        ctx.fail(f"the operand must have spatial axes, but is {x.type}")
    return _average(ctx, x, axes, keepdims=True)


@contrib("QLinearReduceMean", (4, 5), "axes keepdims")
def qlinear_reduce_mean(ctx: NodeContext) -> Value:
    """The mean along axes, from exact sums; keepdims is an attribute without a default."""
    x = ctx.required(0)
    axes = many_axes(ctx, ctx.ints("axes"), x.tensor.rank) or tuple(range(x.tensor.rank))
    return _average(ctx, x, tuple(sorted(axes)), keepdims=bool(ctx.int("keepdims")))


def _average(ctx: NodeContext, x: Value, axes: tuple[int, ...], keepdims: bool) -> Value:
    """Sums of x - zero(x) along `axes`, times scale(x) / (scale(y) * count), quantized."""
    source, result = _affine(ctx, 1), _affine(ctx, 3)
    sums, scale = averaged(ctx.builder, x, source, result, axes, keepdims)
    return requantized(ctx, sums, scale, _zero_point(ctx, result, x.tensor.dtype), axis=0)


@contrib(
    "QLinearAveragePool",
    (4, 5),
    "auto_pad ceil_mode channels_last count_include_pad kernel_shape pads strides",
)
def qlinear_average_pool(ctx: NodeContext) -> Value:
    """AveragePool of a quantized tensor; padding counts as the number 0."""
    x = ctx.required(0)
    last = bool(ctx.int("channels_last", 0))
    real = _affine(ctx, 1).real(ctx.builder, channels_first(ctx, x) if last else x)
    names = "auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"
    y = standard(ctx, "AveragePool", real, attributes=kept(ctx, *names))
    stored = _rounded(ctx, in_steps(ctx.builder, y, _affine(ctx, 3)), x.tensor.dtype)
    return channels_last(ctx, stored) if last else stored


@contrib("QLinearConv", (8, 9), " ".join(("channels_last", *WINDOW)))
def qlinear_conv(ctx: NodeContext) -> Value:
    """The standard's, also of [N, spatial..., C]."""
    last = bool(ctx.int("channels_last", 0))
    operands: Sequence[Value | None] = ctx.operands
    if last:
        operands = [channels_first(ctx, ctx.required(0)), *operands[1:]]
    y = standard(ctx, "QLinearConv", *operands, attributes=kept(ctx, *WINDOW))
    return channels_last(ctx, y) if last else y
