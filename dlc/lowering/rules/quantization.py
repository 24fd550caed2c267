"""Kernels of QuantizeLinear and DequantizeLinear, with parameters for a tensor, an axis or blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType, Kind
from dlc.ir.graph import Node, Value
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, cast, const, unary
from dlc.lowering.rules.formulas import select
from dlc.lowering.rules.registry import rule


@rule(QuantizeLinear)
def quantize(draft: Draft, node: Node) -> None:
    """y[i] = saturate(round(x[i] / scale) + zero_point); NaN gives the smallest number.

    The quotient is rounded to the operator's precision. To floats there is no rounding to whole numbers.
    """
    assert isinstance(node.op, QuantizeLinear)
    op, target, zero_point = node.op, node.outputs[0], draft.optional(2)
    axes = draft.axes_of(target.tensor.shape)
    x, scale = draft.load(draft.operand(0), axes), _parameter(draft, op, draft.operand(1), axes)
    quotient = cast(x, DType.F32)
    if not _is_all(node.operands[1], 1.0):
        quotient = binary("div", quotient, cast(scale, DType.F32))
    precision = op.precision or scale.dtype
    if precision in (DType.F16, DType.BF16):
        quotient = cast(cast(quotient, precision), DType.F32)
    offset = None
    if zero_point is not None and not _is_all(zero_point, 0.0):
        offset = _parameter(draft, op, zero_point, axes)
    if op.to.is_float:
        mode = e.CastMode.SATURATE if op.saturate else e.CastMode.RNE
        if offset is not None:
            # The sum in f64 is exact or rounds far below what the result keeps.
            quotient = binary("add", cast(quotient, DType.F64), cast(offset, DType.F64))
        draft.store(target, axes, cast(quotient, op.to, mode))
        return
    number = unary("round", quotient)
    if offset is not None:
        # f32 holds whole numbers to 2^24 exactly, and what lies beyond saturates with or without the offset.
        number = binary("add", number, cast(offset, DType.F32))
    if op.to.kind is Kind.SIGNED:
        smallest = const(-(1 << (op.to.bits - 1)), DType.F32)
        number = select(unary("is_nan", number), smallest, number)
    draft.store(target, axes, cast(number, op.to, e.CastMode.SATURATE))


@rule(DequantizeLinear)
def dequantize(draft: Draft, node: Node) -> None:
    """y[i] = (x[i] - zero_point) * scale: the difference rounded to f32 once, the product to the result."""
    assert isinstance(node.op, DequantizeLinear)
    op, target, zero_point = node.op, node.outputs[0], draft.optional(2)
    axes = draft.axes_of(target.tensor.shape)
    x = draft.load(draft.operand(0), axes)
    if zero_point is not None and not _is_all(zero_point, 0.0):
        # A type that holds all differences: of integers a wider one; one rounding in f32 for small floats.
        exact = DType.F32 if x.dtype.is_float else DType.I32 if x.dtype.bits < 32 else DType.I64
        offset = _parameter(draft, op, zero_point, axes)
        x = binary("sub", cast(x, exact), cast(offset, exact))
    scale = cast(_parameter(draft, op, draft.operand(1), axes), DType.F32)
    draft.store(target, axes, binary("mul", cast(x, DType.F32), scale))


def _parameter(
    draft: Draft, op: QuantizeLinear | DequantizeLinear, value: Value, index: Sequence[Dim]
) -> e.Expr:
    """The scale or zero point that holds for the element at `index`."""
    rank = len(index)
    if op.block_size:
        axis = op.axis % rank
        at = [entry // op.block_size if i == axis else entry for i, entry in enumerate(index)]
        return draft.load(value, at)
    if value.tensor.rank == 0:
        return draft.load(value, [])
    return draft.load(value, [0 if value.tensor.shape == (1,) else index[op.axis % rank]])


def _is_all(parameter: Value, number: float) -> bool:
    """Whether a parameter is known to be `number` throughout."""
    data = parameter.data
    return data is not None and bool(np.all(data.astype(np.float64) == number))
