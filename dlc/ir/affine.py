"""The arithmetic of integer operators on quantized tensors, as nodes.

Sums of products are exact, in i32; their scales are combined in float32, and one rounding, half to even,
makes the result. Where onnxruntime adds a zero point before it rounds, or fuses a multiplication with an
addition, which shows at ties, so do these nodes: they give its bytes.
"""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, product
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.movement import DimTensor
from dlc.ir.ops.pointwise import Binary, Cast
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.ir.ops.reduction import Reduce


@dataclasses.dataclass(frozen=True)
class Affine:
    """How numbers of a tensor are stored: its scale and its zero point (None: 0), each of one element."""

    scale: Value
    zero_point: Value | None

    def real(self, builder: GraphBuilder, stored: Value) -> Value:
        """The numbers that `stored` stands for, in the scale's type."""
        op = DequantizeLinear(0, 0, self.scale.tensor.dtype)
        return builder.add(op, stored, self.scale, self.zero_point)

    def offset(self, builder: GraphBuilder, to: DType) -> Value:
        """The zero point in another type."""
        if self.zero_point is None:
            return builder.constant(0, dtype=to)
        return builder.add(Cast(to), self.zero_point)


def is_zero(zero_point: Value | None) -> bool:
    """Whether a zero point is known to be 0 throughout."""
    return zero_point is None or (zero_point.data is not None and not np.any(zero_point.data))


def centred(builder: GraphBuilder, stored: Value, zero_point: Value | None, wide: DType = DType.I32) -> Value:
    """`stored` minus a zero point that broadcasts to it, in the type `wide`."""
    result = builder.add(Cast(wide), stored)
    if zero_point is None or is_zero(zero_point):
        return result
    return builder.add(Binary("sub"), result, builder.add(Cast(wide), zero_point))


def rounded(builder: GraphBuilder, steps: Value, to: DType, zero_point: Value | None = None) -> Value:
    """saturate(round(`steps`) + zero_point): a number in steps of the result's scale, stored in `to`."""
    return builder.add(QuantizeLinear(0, 0, to), steps, builder.constant(1.0, dtype=DType.F32), zero_point)


def in_f32(builder: GraphBuilder, sums: Value) -> Value:
    """`sums` rounded to float32."""
    return sums if sums.tensor.dtype is DType.F32 else builder.add(Cast(DType.F32), sums)


def requantized(
    builder: GraphBuilder, sums: Value, scale: Value, zero_point: Value | None, to: DType
) -> Value:
    """Exact `sums` in i32 or f32, times `scale`, which broadcasts to them, stored in `to`."""
    real = builder.add(Binary("mul"), in_f32(builder, sums), scale)
    return rounded(builder, real, to, zero_point)


def sum_in_steps(
    builder: GraphBuilder, left: tuple[Value, Affine], right: tuple[Value, Affine], result: Affine
) -> Value:
    """The sum of two stored tensors that broadcast, in steps of `result` from the number 0.

    With A and B the quotients of the scales: fma(a, A, fma(b, B, z - fma(A, za, B zb))) in float32, as
    onnxruntime computes it where the processor has fused multiplication and addition. A tensor of which rows
    of the sum read a single number comes second.
    """
    if _repeats_within(left[0].tensor.shape, right[0].tensor.shape):
        left, right = right, left
    (a, a_affine), (b, b_affine) = left, right
    add = builder.add
    a_ratio, b_ratio = (add(Binary("div"), affine.scale, result.scale) for affine in (a_affine, b_affine))
    shift = add(Binary("mul"), b_ratio, b_affine.offset(builder, DType.F32))
    shift = _fused(builder, a_ratio, a_affine.offset(builder, DType.F32), shift)
    fixed = add(Binary("sub"), result.offset(builder, DType.F32), shift)
    return _fused(builder, a, a_ratio, _fused(builder, b, b_ratio, fixed))


def _fused(builder: GraphBuilder, x: Value, y: Value, z: Value) -> Value:
    """x y + z, rounded to float32 once.

    Of a number of 8 bits and a float32 the product is exact in float64. So is the sum, unless one term is
    some 2^20 times the other; then it is rounded far below what float32 keeps.
    """
    x, y, z = (builder.add(Cast(DType.F64), value) for value in (x, y, z))
    exact = builder.add(Binary("add"), builder.add(Binary("mul"), x, y), z)
    return builder.add(Cast(DType.F32), exact)


def _repeats_within(shape: Sequence[Dim], other: Sequence[Dim]) -> bool:
    """Whether of two tensors that broadcast the first has one number where the other has a row."""
    for mine, theirs in itertools.zip_longest(reversed(shape), reversed(other), fillvalue=1):
        if mine != 1 or theirs != 1:
            return mine == 1
    return False


def product_in_steps(
    builder: GraphBuilder, left: tuple[Value, Affine], right: tuple[Value, Affine], result: Affine
) -> Value:
    """The product of two stored tensors that broadcast, in steps of `result` from the number 0.

    The exact product times scale(a) scale(b) / scale(y), plus the zero point, each rounded to float32.
    """
    add = builder.add
    whole = (centred(builder, stored, affine.zero_point) for stored, affine in (left, right))
    exact = add(Binary("mul"), *whole)
    scale = add(Binary("div"), add(Binary("mul"), left[1].scale, right[1].scale), result.scale)
    steps = add(Binary("mul"), add(Cast(DType.F32), exact), scale)
    return _shifted(builder, steps, result)


def in_steps(builder: GraphBuilder, real: Value, result: Affine) -> Value:
    """The numbers `real` divided by the scale of `result`, plus its zero point, each rounded to float32."""
    return _shifted(builder, builder.add(Binary("div"), real, result.scale), result)


def _shifted(builder: GraphBuilder, steps: Value, result: Affine) -> Value:
    if is_zero(result.zero_point):
        return steps
    return builder.add(Binary("add"), steps, result.offset(builder, DType.F32))


def averaged(
    builder: GraphBuilder,
    stored: Value,
    source: Affine,
    result: Affine,
    axes: tuple[int, ...],
    keepdims: bool,
) -> tuple[Value, Value]:
    """The exact sums along `axes` in i32, and what to multiply them by: scale(x) / (scale(y) * count)."""
    add = builder.add
    sums = add(Reduce("sum", axes, keepdims), centred(builder, stored, source.zero_point))
    extent = product([stored.tensor.shape[axis] for axis in axes])
    count = add(Cast(DType.F32), add(DimTensor((extent,), ())))
    return sums, add(Binary("div"), source.scale, add(Binary("mul"), result.scale, count))
