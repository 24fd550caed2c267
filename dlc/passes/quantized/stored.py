"""What the rules on quantized tensors ask: how is this value stored, and how is that one to be stored?"""
from __future__ import annotations

import dataclasses

import numpy as np

from dlc.ir.affine import Affine
from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node, Value
from dlc.ir.operator import Array
from dlc.ir.ops.movement import Transpose
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.passes.match import made_by, operand, used_once

#: The types of tensors that integer operators take.
BYTES = frozenset({DType.U8, DType.I8})


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor of real numbers in f32, as the integers `value`; scales and zero points are constants.

    Both have one element, or one for each position along `axis`.
    """

    value: Value
    affine: Affine
    axis: int | None = None

    @property
    def dtype(self) -> DType:
        """The type of the integers."""
        return self.value.tensor.dtype

    @property
    def scale(self) -> Array:
        """The scales, f32: one, or a vector."""
        return content(self.affine.scale).reshape(() if self.axis is None else -1)

    @property
    def operand(self) -> tuple[Value, Affine]:
        """What the functions of `dlc.ir.affine` take."""
        return self.value, self.affine


@dataclasses.dataclass(frozen=True)
class Rounding:
    """What a QuantizeLinear does: with one scale and zero point for the tensor, both constants, to `to`."""

    affine: Affine
    to: DType

    @property
    def scale(self) -> Array:
        """The scale, f32."""
        return content(self.affine.scale).reshape(())

    @property
    def zero_point(self) -> int:
        """The zero point."""
        zero_point = self.affine.zero_point
        return 0 if zero_point is None else int(content(zero_point).reshape(()))

    def undoes(self, stored: Stored) -> bool:
        """Whether rounding gives back the integers that were stored."""
        if stored.axis is not None or stored.dtype is not self.to or stored.scale != self.scale:
            return False
        zero_point = stored.affine.zero_point
        return (0 if zero_point is None else int(content(zero_point).reshape(()))) == self.zero_point


def content(value: Value) -> Array:
    """The elements of a constant."""
    if value.data is None:
        raise TypeError(f"%{value.name} is no constant")
    return value.data


def dequantized(builder: GraphBuilder, value: Value | None) -> Stored | None:
    """`value` as it is stored: what a DequantizeLinear makes, also of 32-bit integers, perhaps transposed."""
    moved = made_by(value, Transpose)
    if moved is not None:
        inner = operand(moved[1], 0)
        found = dequantized(builder, inner)
        if found is None or not (found.value.is_constant or used_once(builder.graph, inner)):
            return None
        axis = None if found.axis is None else moved[0].perm.index(found.axis)
        return Stored(builder.add(moved[0], found.value), found.affine, axis)
    made = made_by(value, DequantizeLinear)
    if made is None or made[0].block_size or made[0].to is not DType.F32:
        return None
    op, node = made
    x = operand(node, 0)
    affine = _affine(node)
    if affine is None or x.tensor.dtype not in BYTES | {DType.I32}:
        return None
    if affine.scale.tensor.shape in ((), (1,)):
        return Stored(x, affine)
    return Stored(x, affine, op.axis % x.tensor.rank)


def rounding(node: Node) -> Rounding | None:
    """What the QuantizeLinear `node` does, when it is to bytes by constants for the whole tensor."""
    op = node.op
    if not isinstance(op, QuantizeLinear) or op.block_size or op.to not in BYTES:
        return None
    affine = _affine(node)
    if affine is None or affine.scale.tensor.shape not in ((), (1,)) or op.precision not in (None, DType.F32):
        return None
    x = operand(node, 0).tensor
    if x.dtype is not DType.F32 or not content(affine.scale).reshape(()) > 0:
        return None
    return Rounding(affine, op.to)


def _affine(node: Node) -> Affine | None:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear, when they are constants and f32."""
    scale = operand(node, 1)
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if not scale.is_constant or scale.tensor.dtype is not DType.F32:
        return None
    if zero_point is not None and not zero_point.is_constant:
        return None
    if zero_point is not None and zero_point.tensor.elements != scale.tensor.elements:
        return None
    return Affine(scale, zero_point) if np.all(np.isfinite(content(scale))) else None
