"""onnxruntime's matrix products of 8-bit operands: exact sums in i32, then scales in float32."""

from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib
from dlc.frontend.onnx.geometry import transposed
from dlc.frontend.onnx.operands import require_fits
from dlc.frontend.onnx.ops.contraction import matrix_product
from dlc.frontend.onnx.ops.contrib_activations import biased
from dlc.frontend.onnx.ops.integer_contraction import centred, product_scale, requantized
from dlc.frontend.onnx.ops.quantization import dynamically_quantized
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.pointwise import Binary, Cast


@contrib("MatMulIntegerToFloat", (4, 7))
def matmul_integer_to_float(ctx: NodeContext) -> Value:
    """(a - zero(a)) (b - zero(b)) times scale(a) * scale(b), plus a bias.

    Scale and zero point of b may belong to its columns.
    """
    a, a_scale = ctx.required(0), ctx.single(2)
    a_zero = ctx.single(4) if ctx.optional(4) is not None else None
    b, b_scale, b_zero = ctx.required(1), ctx.required(3), ctx.optional(5)
    return scaled_product(ctx, (a, a_scale, a_zero), (b, b_scale, b_zero), ctx.optional(6))


@contrib("DynamicQuantizeMatMul", (3, 5))
def dynamic_quantize_matmul(ctx: NodeContext) -> Value:
    """As MatMulIntegerToFloat of `a` quantized by DynamicQuantizeLinear."""
    a = ctx.required(0)
    if a.tensor.dtype is not DType.F32:
        ctx.fail(f"the left operand must be of type f32, but is {a.type}")
    b, b_scale, b_zero = ctx.required(1), ctx.required(2), ctx.optional(3)
    return scaled_product(ctx, dynamically_quantized(ctx, a), (b, b_scale, b_zero), ctx.optional(4))


def scaled_product(
    ctx: NodeContext,
    left: tuple[Value, Value, Value | None],
    right: tuple[Value, Value, Value | None],
    bias: Value | None,
) -> Value:
    """The product of two operands (stored, scale, zero point) in the type of their scales, plus `bias`."""
    (a, a_scale, a_zero), (b, b_scale, b_zero) = left, right
    sums = matrix_product(ctx, centred(ctx, a, a_zero), centred(ctx, b, b_zero))
    dtype = a_scale.tensor.dtype
    wide = [
        scale if scale.tensor.dtype is DType.F32 else ctx.add(Cast(DType.F32), scale)
        for scale in (a_scale, b_scale)
    ]
    scale = ctx.builder.add(Binary("mul"), *wide)
    real = ctx.builder.add(Binary("mul"), ctx.builder.add(Cast(DType.F32), sums), scale)
    return biased(ctx, real if dtype is DType.F32 else ctx.builder.add(Cast(dtype), real), bias)


@contrib("QGemm", (6, 9), "alpha transA transB")
def qgemm(ctx: NodeContext) -> Value:
    """alpha times the product of two quantized matrices plus an i32 C that is in units of their scales.

    The result is quantized if there is a scale for it, else f32.
    """
    a, b, c = ctx.required(0), ctx.required(3), ctx.optional(6)
    for operand in (a, b):
        if operand.tensor.rank != 2:
            ctx.fail(f"%{operand.name} must be a matrix, but is {operand.type}")
    left, right = (
        transposed(ctx, x, (1, 0) if ctx.int(flag, 0) else (0, 1))
        for x, flag in ((a, "transA"), (b, "transB"))
    )
    a_scale, b_scale = ctx.single(1), ctx.required(4)
    sums = matrix_product(ctx, centred(ctx, left, ctx.single(2)), centred(ctx, right, ctx.required(5)))
    if c is not None:
        require_fits(ctx, c, sums, "C")
        sums = ctx.builder.add(Binary("add"), sums, c)
    alpha = ctx.float("alpha", 1.0)
    if alpha != 1:
        a_scale = ctx.builder.add(Binary("mul"), a_scale, ctx.const(alpha, DType.F32))
    if ctx.optional(7) is None:
        scale = ctx.builder.add(Binary("mul"), a_scale, b_scale)
        return ctx.add(Binary("mul"), ctx.builder.add(Cast(DType.F32), sums), scale)
    zero_point = ctx.const(0, a.tensor.dtype) if ctx.optional(8) is None else ctx.single(8)
    return requantized(ctx, sums, product_scale(ctx, a_scale, b_scale, ctx.single(7)), zero_point, axis=0)
