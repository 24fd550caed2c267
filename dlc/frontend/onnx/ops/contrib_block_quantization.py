"""onnxruntime's MatMulNBits: a product with weights of 2, 4 or 8 bits, a scale for each block of them."""

from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, refuse
from dlc.frontend.onnx.geometry import reshape, transposed
from dlc.frontend.onnx.ops.contraction import matrix_product
from dlc.frontend.onnx.ops.contrib_activations import biased
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.quantization import DequantizeLinear

_STORED = {2: DType.U2, 4: DType.U4, 8: DType.U8}


@contrib("MatMulNBits", (3, 6), "K N accuracy_level bits block_size weight_prepacked")
def matmul_nbits(ctx: NodeContext) -> Value:
    """a times the transposed weights [N, K], plus a bias.

    The weights lie packed in bytes [N, blocks, bytes of a block], lowest bits first; weight k of a row is
    (stored - zero point) * scale of block k / block_size. `accuracy_level` names the least precision of a,
    which dlc never reduces.
    """
    refuse(ctx, "weight_prepacked", 0, "export the weights in onnxruntime's portable layout")
    if ctx.int("accuracy_level", 0) not in range(5):
        ctx.fail(f"accuracy_level {ctx.int('accuracy_level')} is none of 0, 1, 2, 3, 4")
    weights = transposed(ctx, _Weights(ctx).real(), (1, 0))
    return biased(ctx, matrix_product(ctx, ctx.required(0), weights), ctx.optional(5))


def unpacked(packed: Array, bits: int, count: int) -> Array:
    """The first `count` numbers of each last row of bytes, lowest bits first, one element each."""
    parts = packed[..., None] >> (np.arange(8 // bits, dtype=np.uint8) * bits)
    numbers = (parts & ((1 << bits) - 1)).reshape(*packed.shape[:-1], -1)[..., :count]
    return np.ascontiguousarray(numbers).astype(_STORED[bits].numpy)


class _Weights:
    """The operands of MatMulNBits that describe the weights, checked."""

    def __init__(self, ctx: NodeContext) -> None:
        self.ctx = ctx
        self.rows, self.columns = ctx.int("N"), ctx.int("K")
        self.bits, self.block = ctx.int("bits", 4), ctx.int("block_size")
        if self.bits not in _STORED:
            ctx.unsupported(f"weights have {self.bits} bits", "quantize the weights to 2, 4 or 8 bits")
        if self.rows < 1 or self.columns < 1 or self.block < 16 or self.block & (self.block - 1):
            ctx.fail(f"N = {self.rows}, K = {self.columns} and block_size = {self.block} make no weights")
        self.blocks = -(-self.columns // self.block)

    def real(self) -> Value:
        """The weights [N, K] as numbers of the type of the left operand."""
        ctx = self.ctx
        dtype = ctx.required(0).tensor.dtype
        scale = ctx.required(2)
        if scale.tensor.dtype is not dtype:
            ctx.fail(f"the scales are {scale.type}, but the left operand is {ctx.required(0).type}")
        stored = self._unpacked(self._constant(1, "the weights"), self.columns)
        zero_point = self._zero_point()
        block_of = self._block_of()
        if block_of is None and zero_point.dtype == stored.dtype:
            scale = self._shaped(scale)
            operator = DequantizeLinear(1, self.block, dtype)
            return ctx.builder.add(operator, ctx.const(stored), scale, ctx.const(zero_point))
        # Zero points that are no whole numbers, or blocks in another order: a plain matrix.
        places = np.arange(self.columns) // self.block if block_of is None else block_of
        scales = self._constant(2, "the scales").reshape(self.rows, self.blocks).astype(np.float32)
        offset = zero_point.astype(np.float32)[:, places]
        return ctx.const(((stored.astype(np.float32) - offset) * scales[:, places]).astype(dtype.numpy))

    def _constant(self, index: int, what: str) -> Array:
        array = self.ctx.constant(index)
        if array is None:
            self.ctx.unsupported(f"{what} are computed at run time", "make them constants of the model")
        return array

    def _unpacked(self, packed: Array, count: int) -> Array:
        """The first `count` numbers of each row of bytes, one element each."""
        ctx = self.ctx
        per_byte = 8 // self.bits
        if packed.dtype != np.uint8 or packed.size % self.rows or packed.size // self.rows * per_byte < count:
            ctx.fail(
                f"{packed.size} elements of type {packed.dtype} do not hold {self.rows} x {count} numbers"
            )
        return unpacked(packed.reshape(self.rows, -1), self.bits, count)

    def _zero_point(self) -> Array:
        """The zero points [N, blocks], in the type of the stored weights or as floats."""
        if self.ctx.optional(3) is None:
            half = np.full((self.rows, self.blocks), 1 << (self.bits - 1))
            return half.astype(_STORED[self.bits].numpy)
        given = self._constant(3, "the zero points")
        if given.dtype == np.uint8:
            return self._unpacked(given, self.blocks)
        if given.size != self.rows * self.blocks:
            self.ctx.fail(f"{given.size} zero points are given for {self.rows} x {self.blocks} blocks")
        return given.reshape(self.rows, self.blocks)

    def _block_of(self) -> Array | None:
        """The block whose scale each column has; None where that is the block that it lies in."""
        if self.ctx.optional(4) is None:
            return None
        given = self._constant(4, "the blocks of the columns").reshape(-1)[: self.columns]
        if len(given) < self.columns or given.min() < 0 or given.max() >= self.blocks:
            self.ctx.fail(f"g_idx must name one of {self.blocks} blocks for each of {self.columns} columns")
        return None if np.array_equal(given, np.arange(self.columns) // self.block) else given

    def _shaped(self, scale: Value) -> Value:
        """The scales as [N, blocks]; exporters also write them flat."""
        ctx = self.ctx
        if scale.tensor.elements != self.rows * self.blocks:
            ctx.fail(f"the scales {scale.type} are not {self.rows} x {self.blocks}")
        return reshape(ctx, scale, (self.rows, self.blocks))
