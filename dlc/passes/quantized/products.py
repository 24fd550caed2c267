"""Convolutions and matrix products of quantized tensors, as exact sums of integers."""
from __future__ import annotations

import dataclasses

import numpy as np

from dlc.ir import dims
from dlc.ir.affine import centred, in_f32, is_zero, requantized
from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.operator import Array
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.conversion import integer_range
from dlc.ir.ops.convolution import Conv
from dlc.ir.ops.movement import Reshape
from dlc.ir.ops.pointwise import Binary, Clip, Unary
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.passes.match import made_by, operand, used_once
from dlc.passes.quantized.movement import MOVEMENTS
from dlc.passes.quantized.stored import BYTES, Stored, content, dequantized, rounding
from dlc.passes.rewrite import Decline, Outcome, rule

#: Products of two bytes, centred, of which sums cannot leave i32.
DEPTH = (1 << 31) // (255 * 255)

#: How far the scale of a bias may be from the product of the scales, relatively: roundings of float32.
_SAME_SCALE = 1e-6

#: Why products stay in floats on targets whose integer kernels are slower.
SLOW = "the target has no fast dot products of bytes"


@dataclasses.dataclass(frozen=True)
class _Product:
    """x times w plus a bias, of stored numbers; `rank` is that of the result."""

    op: Conv | MatMul
    x: Stored
    w: Stored
    bias: Stored | None
    rank: int

    @property
    def scale(self) -> Array:
        """scale(x) * scale(w) in float32: one number, or one for each channel or column of the result."""
        return np.asarray(self.x.scale * self.w.scale, np.float32)

    def along_channels(self, numbers: Array) -> Array:
        """A vector of numbers of channels or columns so that it broadcasts to the result; one as it is."""
        spatial = self.rank - 2 if isinstance(self.op, Conv) else 0
        return numbers.reshape(-1, *[1] * spatial) if numbers.ndim else numbers

    def sums(self, builder: GraphBuilder) -> Value:
        """The exact sums, in i32; of depthwise convolutions, which have no integer kernels, in f32 if exact.

        No pass that multiplies weights by constants may come after that.
        """
        if self._is_exact_in_f32():
            return self._sums_in_f32(builder)
        left = centred(builder, self.x.value, self.x.affine.zero_point)
        right = centred(builder, self.w.value, self._zero_points(builder))
        if isinstance(self.op, Conv):
            return builder.add(self.op, left, right, None if self.bias is None else self.bias.value)
        sums = builder.add(self.op, left, right)
        return sums if self.bias is None else builder.add(Binary("add"), sums, self.bias.value)

    def _is_exact_in_f32(self) -> bool:
        """Whether this is a depthwise convolution whose sums, in any order, are integers that f32 holds."""
        x, w, bias = self.x, self.w.value, None if self.bias is None else self.bias.value
        if not isinstance(self.op, Conv) or w.data is None or w.tensor.shape[1] != 1 or self.op.groups == 1:
            return False
        if bias is not None and bias.data is None:
            return False
        low, high = integer_range(x.dtype)
        zero = 0 if x.affine.zero_point is None else int(content(x.affine.zero_point).reshape(()))
        weights = np.abs(self._centred_weights()).reshape(len(w.data), -1).sum(axis=1)
        sums = weights * max(high - zero, zero - low)
        largest = sums + (0 if bias is None else np.abs(content(bias).astype(np.int64)))
        return int(largest.max(initial=0)) <= 1 << 24

    def _centred_weights(self) -> Array:
        """The constant weights minus their zero points, i64."""
        data = content(self.w.value).astype(np.int64)
        zero_point = self.w.affine.zero_point
        if zero_point is None:
            return data
        return data - content(zero_point).astype(np.int64).reshape(-1, *[1] * (data.ndim - 1))

    def _sums_in_f32(self, builder: GraphBuilder) -> Value:
        x = centred(builder, self.x.value, self.x.affine.zero_point, DType.F32)
        w = builder.constant(self._centred_weights(), "weights", DType.F32)
        bias = None if self.bias is None else builder.constant(content(self.bias.value), "bias", DType.F32)
        return builder.add(self.op, x, w, bias)

    def _zero_points(self, builder: GraphBuilder) -> Value | None:
        """Those of w, so that they broadcast to it."""
        zero_point = self.w.affine.zero_point
        if zero_point is None or self.w.axis != 0:
            return zero_point
        (count,) = zero_point.tensor.shape
        return builder.add(Reshape((count, *[1] * (self.w.value.tensor.rank - 1))), zero_point)


def _product(builder: GraphBuilder, real: Value) -> _Product | Decline | None:
    """The product of stored numbers that `real` is; None when it is none, or not all of bytes."""
    found = _parts(builder.graph, real)
    if found is None:
        return None
    op, node, bias = found
    x, w = (dequantized(builder, operand(node, index)) for index in (0, 1))
    if x is None or w is None or not {x.dtype, w.dtype} <= BYTES:
        one = x is not None or w is not None
        return Decline("only one operand is dequantized from bytes by constants") if one else None
    offset = None if bias is None else dequantized(builder, bias)
    if bias is not None and offset is None:
        return Decline("the bias is not stored")
    return _checked(_Product(op, x, w, offset, real.tensor.rank))


def _parts(graph: Graph, real: Value) -> tuple[Conv | MatMul, Node, Value | None] | None:
    """Operator, node and bias of the product that is `real`, or that alone it reads to add a bias to it."""
    node = real.producer
    if node is None:
        return None
    match node.op:
        case Conv() as op:
            return op, node, node.inputs[2] if len(node.inputs) > 2 else None
        case MatMul() as op:
            return op, node, None
        case Binary(fn="add"):
            terms = operand(node, 0), operand(node, 1)
        case _:
            return None
    for product, bias in (terms, terms[::-1]):
        made = made_by(product, MatMul)
        if made is not None and used_once(graph, product):
            return *made, bias
    return None


def _checked(product: _Product) -> _Product | Decline:
    """`product` if the scales belong to what can be multiplied after the sum, and no sum overflows."""
    x, w, bias = product.x, product.w, product.bias
    if x.axis is not None:
        return Decline("the scales of the first operand belong to an axis")
    rank = w.value.tensor.rank
    of_rows = not isinstance(product.op, Conv) and rank < 2
    if w.axis is not None and (of_rows or w.axis != (0 if isinstance(product.op, Conv) else rank - 1)):
        return Decline("the scales of the second operand do not belong to output channels or columns")
    if isinstance(product.op, Conv):
        depth = dims.product(w.value.tensor.shape[1:])
    else:
        depth = x.value.tensor.shape[-1]
    if isinstance(depth, int) and depth > DEPTH:
        return Decline(f"sums of {depth:,} products may leave i32")
    if bias is None:
        return product
    if bias.dtype is not DType.I32 or not is_zero(bias.affine.zero_point):
        return Decline("the bias is not stored in i32 around 0")
    shape, scale = bias.value.tensor.shape, product.scale
    if len(shape) > 1 or bias.scale.ndim > scale.ndim:
        return Decline("the bias, or its scale, is not that of output channels or columns")
    if not np.allclose(bias.scale, scale, rtol=_SAME_SCALE, atol=0):
        return Decline("the scale of the bias is not the product of the operands' scales")
    return product


@rule(QuantizeLinear)
def rounded_product(node: Node, builder: GraphBuilder) -> Outcome:
    """q(product(dq(x), dq(w)) + dq(bias)): QLinearConv, QLinearMatMul and QGemm.

    The sums, in float32, are multiplied by float32(float32(scale(x) scale(w)) / scale(y)) and rounded.
    """
    to, real = rounding(node), operand(node, 0)
    if to is None:
        return None
    found = _product(builder, real)
    if not isinstance(found, _Product):
        return found
    if not used_once(builder.graph, real):
        return Decline("others read the result before it is rounded")
    scale = np.asarray(found.along_channels(found.scale) / to.scale, np.float32)
    steps = builder.constant(scale, "scale")
    return requantized(builder, found.sums(builder), steps, to.affine.zero_point, to.to)


@rule(MatMul, Conv, Binary)
def real_product(node: Node, builder: GraphBuilder) -> Outcome:
    """product(dq(x), dq(w)) + dq(bias) that is not rounded: sums times scale(x) scale(w), in float32."""
    real = node.output
    if _is_rounded(builder.graph, real) or _has_bias(builder.graph, real):
        return None
    found = _product(builder, real)
    if not isinstance(found, _Product):
        return None if isinstance(node.op, Binary) else found
    scale = builder.constant(found.along_channels(found.scale), "scale")
    return builder.add(Binary("mul"), in_f32(builder, found.sums(builder)), scale)


def _is_rounded(graph: Graph, value: Value) -> bool:
    """Whether only a QuantizeLinear waits for `value`, or for its sum with a stored bias, at the end of a
    chain that other rules shorten.
    """
    while used_once(graph, value):
        (reader,) = value.uses
        if isinstance(reader.op, QuantizeLinear):
            return True
        shortened = isinstance(reader.op, (Clip, *MOVEMENTS)) or reader.op == Unary("relu")
        if not shortened and not _has_bias(graph, value):
            return False
        value = reader.output
    return False


def _has_bias(graph: Graph, value: Value) -> bool:
    """Whether all that reads `value` is an addition of numbers that are stored in i32."""
    if not used_once(graph, value):
        return False
    (reader,) = value.uses
    if reader.op != Binary("add"):
        return False
    made = (made_by(term, DequantizeLinear) for term in reader.operands)
    return any(each is not None and operand(each[1], 0).tensor.dtype is DType.I32 for each in made)


@rule(QuantizeLinear, MatMul, Conv)
def slow_product(node: Node, builder: GraphBuilder) -> Outcome:
    """Says of a product of stored numbers why it stays in floats."""
    real = operand(node, 0) if isinstance(node.op, QuantizeLinear) else node.output
    if isinstance(node.op, QuantizeLinear) or not _is_rounded(builder.graph, real):
        return Decline(SLOW) if isinstance(_product(builder, real), _Product) else None
    return None
