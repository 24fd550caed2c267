"""Sums, products and averages of quantized tensors, rounded as onnxruntime's integer operators round them."""
from __future__ import annotations

from dlc.ir.affine import averaged, in_steps, product_in_steps, requantized, rounded, sum_in_steps
from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node, Value
from dlc.ir.ops.convolution import Pool
from dlc.ir.ops.pointwise import Binary
from dlc.ir.ops.quantization import QuantizeLinear
from dlc.ir.ops.reduction import Reduce
from dlc.passes.match import made_by, operand, used_once
from dlc.passes.quantized.stored import BYTES, Rounding, Stored, dequantized, rounding
from dlc.passes.rewrite import Decline, Outcome, rule


def _operands(
    builder: GraphBuilder, real: Value, to: Rounding, maker: Node
) -> list[Stored] | Decline | None:
    """The operands of `maker`, which makes `real`, as they are stored; None when one of them is not."""
    found = []
    for value in maker.operands:
        stored = dequantized(builder, value)
        if stored is None:
            return None
        found.append(stored)
    if any(stored.axis is not None or stored.dtype not in BYTES for stored in found):
        return Decline("an operand has no one scale, or is not of 8 bits")
    if any(stored.dtype is not to.to for stored in found):
        return Decline("operands and result are not of one type")
    if not used_once(builder.graph, real):
        return Decline("others read the result before it is rounded")
    return found


@rule(QuantizeLinear)
def pair(node: Node, builder: GraphBuilder) -> Outcome:
    """q(dq(a) + dq(b)) and q(dq(a) dq(b)): QLinearAdd and QLinearMul of onnxruntime."""
    to, real = rounding(node), operand(node, 0)
    made = made_by(real, Binary)
    if to is None or made is None or made[0].fn not in ("add", "mul"):
        return None
    found = _operands(builder, real, to, made[1])
    if not isinstance(found, list):
        return found
    left, right = found
    function = sum_in_steps if made[0].fn == "add" else product_in_steps
    return rounded(builder, function(builder, left.operand, right.operand, to.affine), to.to)


@rule(QuantizeLinear)
def average_pool(node: Node, builder: GraphBuilder) -> Outcome:
    """q(average_pool(dq(x))): QLinearAveragePool, which adds the zero point before it rounds."""
    to, real = rounding(node), operand(node, 0)
    made = made_by(real, Pool)
    if to is None or made is None or made[0].fn != "average":
        return None
    found = _operands(builder, real, to, made[1])
    if not isinstance(found, list):
        return found
    return rounded(builder, in_steps(builder, real, to.affine), to.to)


@rule(QuantizeLinear)
def global_average(node: Node, builder: GraphBuilder) -> Outcome:
    """q(mean(dq(x))) over the spatial axes: QLinearGlobalAveragePool, from exact sums."""
    to, real = rounding(node), operand(node, 0)
    made = made_by(real, Reduce)
    if to is None or made is None or made[0].fn != "mean":
        return None
    op, x = made[0], operand(made[1], 0)
    if op.axes != tuple(range(2, x.tensor.rank)):
        return None
    found = _operands(builder, real, to, made[1])
    if not isinstance(found, list):
        return found
    sums, scale = averaged(builder, *found[0].operand, to.affine, op.axes, op.keepdims)
    return requantized(builder, sums, scale, to.affine.zero_point, to.to)


RULES = (pair, average_pool, global_average)
