"""Weights and biases as passes change them: per channel, in float64, rounded once."""
from __future__ import annotations

import dataclasses

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node, Value
from dlc.ir.operator import Array
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.conversion import convert
from dlc.ir.ops.convolution import Conv, ConvTranspose
from dlc.ir.ops.pointwise import Binary
from dlc.passes.match import made_by, operand, used_once
from dlc.passes.rewrite import Decline


def wide(value: Value) -> Array:
    """The content of a constant in float64."""
    if value.data is None:
        raise TypeError(f"%{value.name} is no constant")
    return value.data.astype(np.float64)


def channel_vector(value: Value | None, rank: int, axis: int, channels: int) -> Array | None:
    """The float64 numbers of a constant that varies along `axis` of a tensor of `rank` only; else None.

    The constant is aligned with the tensor's last axes, as in broadcasting.
    """
    if value is None or value.data is None or value.data.ndim > rank or not value.tensor.dtype.is_float:
        return None
    shape = (1,) * (rank - value.data.ndim) + value.data.shape
    if any(extent != 1 for at, extent in enumerate(shape) if at != axis) or shape[axis] not in (1, channels):
        return None
    return np.broadcast_to(wide(value).reshape(-1), (channels,))


@dataclasses.dataclass(frozen=True)
class Affine:
    """A contraction of `x` with constant weights, and what is added to its channels.

    `axis` is that of the channels in its result, `weights` and `bias` are in float64, `dtype` is that of all.
    """

    op: Conv | ConvTranspose | MatMul
    x: Value
    axis: int
    weights: Array
    bias: Array | None
    dtype: DType

    @property
    def channels(self) -> int:
        """The number of output channels."""
        if isinstance(self.op, Conv):
            return len(self.weights)
        groups = self.op.groups if isinstance(self.op, ConvTranspose) else 1
        return int(self.weights.shape[1]) * groups

    def scaled(self, factors: Array) -> Affine:
        """With each output channel multiplied by its factor."""
        extra = (1,) * (self.weights.ndim - 2)
        match self.op:
            case Conv():
                weights = self.weights * factors.reshape(-1, 1, *extra)
            case ConvTranspose(groups=groups):
                grouped = self.weights.reshape(groups, -1, *self.weights.shape[1:])
                by_group = grouped * factors.reshape(groups, 1, -1, *extra)
                weights = by_group.reshape(self.weights.shape)
            case _:
                weights = self.weights * factors
        bias = None if self.bias is None else self.bias * factors
        return dataclasses.replace(self, weights=weights, bias=bias)

    @property
    def inputs(self) -> int:
        """The number of input channels."""
        return int(self.weights.shape[1]) * self.op.groups if isinstance(self.op, Conv) else len(self.weights)

    def of_scaled(self, x: Value, factors: Array) -> Affine:
        """What it is of `x`, when its operand is `x` with each channel multiplied by its factor."""
        extra = (1,) * (self.weights.ndim - 2)
        if isinstance(self.op, Conv):
            grouped = self.weights.reshape(self.op.groups, -1, *self.weights.shape[1:])
            weights = (grouped * factors.reshape(self.op.groups, 1, -1, *extra)).reshape(self.weights.shape)
        else:
            weights = self.weights * factors.reshape(-1, 1, *extra)
        return dataclasses.replace(self, x=x, weights=weights)

    def shifted(self, terms: Array) -> Affine:
        """With a number added to each output channel."""
        return dataclasses.replace(self, bias=terms if self.bias is None else self.bias + terms)

    def build(self, builder: GraphBuilder) -> Value | Decline:
        """Add the nodes; Decline when a rounded weight overflows."""
        arrays = [self.weights] if self.bias is None else [self.weights, self.bias]
        with np.errstate(all="ignore"):
            rounded = [convert(np.asarray(array), self.dtype) for array in arrays]
        for array, exact in zip(rounded, arrays, strict=True):
            if not np.isfinite(array.astype(np.float64)[np.isfinite(exact)]).all():
                return Decline(f"a folded weight overflows {self.dtype}")
        weights, *bias = (builder.constant(array, "weights") for array in rounded)
        if isinstance(self.op, MatMul):
            product = builder.add(self.op, self.x, weights)
            return builder.add(Binary("add"), product, *bias) if bias else product
        return builder.add(self.op, self.x, weights, bias[0] if bias else None)


def affine(builder: GraphBuilder, value: Value) -> Affine | Decline | None:
    """`value` as an Affine: a Conv, a ConvTranspose, a MatMul by a matrix, or such a MatMul plus a constant.

    None when it is something else; Decline when its weights are computed, or it is read elsewhere too.
    """
    node = value.producer
    if node is None:
        return None
    if not used_once(builder.graph, value):
        read_elsewhere = Decline("the result of the contraction is read elsewhere too")
        return read_elsewhere if isinstance(node.op, (Conv, ConvTranspose, MatMul)) else None
    if node.op == Binary("add"):
        return _biased_product(builder, node)
    return contraction(node)


def contraction(node: Node) -> Affine | Decline | None:
    """A node as an Affine; None when it is no contraction of floats, Decline when weights are computed."""
    if not isinstance(node.op, (Conv, ConvTranspose, MatMul)):
        return None
    weights, bias = operand(node, 1), (*node.inputs, None, None)[2]
    product = isinstance(node.op, MatMul)
    if not weights.tensor.dtype.is_float or (product and weights.tensor.rank != 2):
        return None
    if weights.data is None or (bias is not None and bias.data is None):
        return Decline("the weights are not constant")
    axis = node.output.tensor.rank - 1 if product else 1
    return Affine(node.op, operand(node, 0), axis, wide(weights), None if bias is None else wide(bias),
                  weights.tensor.dtype)


def _biased_product(builder: GraphBuilder, node: Node) -> Affine | Decline | None:
    product, bias = operand(node, 0), operand(node, 1)
    made = made_by(product, MatMul)
    if made is None or bias.data is None or not used_once(builder.graph, product):
        return None
    plain = contraction(made[1])
    if not isinstance(plain, Affine):
        return plain
    terms = channel_vector(bias, node.output.tensor.rank, plain.axis, plain.channels)
    return None if terms is None else plain.shifted(terms)
