"""Conversions of 8-bit integers that belong to an exact product: quantized operands minus their zero points.

Importers write the products of quantized operators as

    %a = Cast(to=i32)(%x)                     %x: u8
    %b = Binary(fn="sub")(%a, %zero)
    %y = MatMul(%b, %w)

Instructions for such products read the 8-bit numbers, so %a and %b are best computed where the product reads
them: neither stored by what computes %x nor folded into constants of four times the size.
"""

from __future__ import annotations

from dlc.ir.dtypes import DType
from dlc.ir.graph import Node, Value
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.convolution import Conv
from dlc.ir.ops.movement import Reshape, Transpose
from dlc.ir.ops.pointwise import Binary, Cast

#: Channels of a group from which dot products of four pay.
MIN_CHANNELS = 3


def is_widening(node: Node) -> bool:
    """Whether `node` converts 8-bit integers to i32, or subtracts a zero point, for products only."""
    match node.op:
        case Cast(to=DType.I32) if _is_octet(node.operands[0]):
            pass
        case Binary(fn="sub") if _is_widened(node.operands[0]):
            pass
        case _:
            return False
    users = node.output.uses
    return bool(users) and all(
        _is_product(user) or (user.op == Binary("sub") and is_widening(user)) for user in users
    )


def _is_octet(value: Value) -> bool:
    return value.tensor.dtype in (DType.U8, DType.I8)


def _is_widened(value: Value) -> bool:
    node = value.producer
    return node is not None and node.op == Cast(DType.I32) and _is_octet(node.operands[0])


def _is_product(node: Node) -> bool:
    """Whether `node` is a product with a constant that has instructions of its own."""
    match node.op:
        case MatMul():
            return any(_is_constant(value) for value in node.operands)
        case Conv():
            channels = node.operands[1].tensor.shape[1]
            return _is_constant(node.operands[1]) and isinstance(channels, int) and channels >= MIN_CHANNELS
    return False


def _is_constant(value: Value) -> bool:
    """Whether a value is a constant, or a conversion of one, moved, its zero point subtracted."""
    node = value.producer
    if node is None:
        return value.is_constant
    folds = isinstance(node.op, Cast | Binary | Reshape | Transpose)
    return folds and all(_is_constant(operand) for operand in node.operands)
