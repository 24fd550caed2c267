"""onnxruntime's rows of tables that are quantized in blocks, and products with bitsandbytes' weights."""

from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.axes import front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, refuse
from dlc.frontend.onnx.geometry import reshape, transposed
from dlc.frontend.onnx.ops.contraction import matrix_product
from dlc.frontend.onnx.ops.contrib_block_quantization import unpacked
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.pointwise import Binary, Compare, Where
from dlc.ir.ops.quantization import DequantizeLinear

#: The numbers that 4 bits stand for by quant_type: FP4 and NF4 of bitsandbytes (QLoRA, arXiv:2305.14314,
#: appendix E).
_FP4 = (0.0, 0.0625 / 12, 8 / 12, 1.0, 4 / 12, 6 / 12, 2 / 12, 3 / 12)
_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
)
_CODES = {0: (*_FP4, *(-number for number in _FP4)), 1: _NF4}


@contrib("MatMulBnb4", (3, 3), "K N block_size quant_type training_mode transB")
def matmul_bnb4(ctx: NodeContext) -> Value:
    """a times the weights [N, K], by default transposed, whose elements are codes of 4 bits.

    Two lie in each byte, the first in the high bits; each block of the flattened weights has a factor.
    """
    refuse(ctx, "training_mode", 0)
    rows, columns, block = ctx.int("N"), ctx.int("K"), ctx.int("block_size")
    codes, factors = ctx.constant(1), ctx.constant(2)
    if codes is None or factors is None:
        ctx.unsupported("the weights are computed at run time", "make them constants of the model")
    if ctx.int("quant_type") not in _CODES:
        ctx.fail(f"quant_type {ctx.int('quant_type')} is neither 0 (FP4) nor 1 (NF4)")
    count = rows * columns
    if min(rows, columns, block) < 1 or codes.dtype != np.uint8 or codes.size * 2 < count:
        ctx.fail(f"{codes.size} elements of type {codes.dtype} do not hold {rows} x {columns} codes")
    if factors.size * block < count:
        ctx.fail(f"{factors.size} factors do not hold for {count} numbers in blocks of {block}")
    flat = codes.reshape(-1)
    numbers = np.array(_CODES[ctx.int("quant_type")], np.float32)[np.stack([flat >> 4, flat & 15], 1)]
    spread = np.repeat(factors.reshape(-1).astype(np.float32), block)[:count]
    weights = numbers.reshape(-1)[:count] * spread
    dtype = ctx.required(0).tensor.dtype
    matrix = ctx.const(weights.reshape(rows, columns).astype(dtype.numpy))
    if ctx.int("transB", 1):
        matrix = transposed(ctx, matrix, (1, 0))
    return matrix_product(ctx, ctx.required(0), matrix)


@contrib("GatherBlockQuantized", (3, 4), "bits block_size gather_axis quantize_axis")
def gather_block_quantized(ctx: NodeContext) -> Value:
    """Gather of a constant table whose blocks along `quantize_axis` have a scale each; zeros for indices
    outside of it.

    Bytes hold 8 / `bits` elements along the last axis, lowest bits first, which stand for numbers less
    2^(bits - 1) unless there are zero points.
    """
    table, zero_point = _table(ctx)
    scale, indices = ctx.required(2), ctx.required(1)
    axis = front_axis(ctx, ctx.int("gather_axis", 0), table.ndim)
    blocked = front_axis(ctx, ctx.int("quantize_axis", 1), table.ndim)
    if axis == blocked:
        ctx.unsupported("the indices are along the axis of the blocks", "quantize the table along another")
    add, count, dtype = ctx.builder.add, table.shape[axis], indices.tensor.dtype
    low, high = ctx.const(-count, dtype), ctx.const(count - 1, dtype)
    inside = add(Binary("and"), add(Compare("ge"), indices, low), add(Compare("le"), indices, high))
    safe = add(Binary("min"), add(Binary("max"), indices, low), high)
    rows, scales = add(Gather(axis), ctx.const(table), safe), add(Gather(axis), scale, safe)
    zeros = None if zero_point is None else add(Gather(axis), ctx.const(zero_point), safe)
    rank = indices.tensor.rank
    place = blocked + (rank - 1 if blocked > axis else 0)
    operator = DequantizeLinear(place, ctx.int("block_size", 128), scale.tensor.dtype)
    after: tuple[Dim, ...] = (1,) * (table.ndim - 1 - axis)
    known = reshape(ctx, inside, (*indices.tensor.shape, *after))
    return ctx.add(Where(), known, add(operator, rows, scales, zeros), ctx.const(0, scale.tensor.dtype))


def _table(ctx: NodeContext) -> tuple[Array, Array | None]:
    """The table and its zero points, one element each."""
    stored, zero_point, bits = ctx.constant(0), ctx.constant(3), ctx.int("bits", 4)
    if stored is None or (zero_point is None and ctx.optional(3) is not None):
        ctx.unsupported("the table is computed at run time", "make it a constant of the model")
    if ctx.required(0).tensor.dtype in (DType.U4, DType.I4):
        return stored, zero_point
    if stored.dtype != np.uint8:
        ctx.unsupported(f"the table is {ctx.required(0).type}", "quantize the table to integers")
    if bits not in (2, 4, 8):
        ctx.fail(f"elements have 2, 4 or 8 bits, not {bits}")
    if front_axis(ctx, ctx.int("quantize_axis", 1), stored.ndim) != stored.ndim - 1:
        ctx.fail("packed tables are quantized along the last axis")
    blocks = ctx.required(2).tensor.static_shape
    numbers = unpacked(stored, bits, stored.shape[-1] * 8 // bits)
    if zero_point is None:
        return numbers, np.full(blocks, 1 << (bits - 1)).astype(numbers.dtype)
    return numbers, unpacked(zero_point, bits, blocks[-1])
