"""BatchNorm of constants into the contraction before it."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.operator import Array
from dlc.ir.ops.conversion import convert
from dlc.ir.ops.normalization import BatchNorm
from dlc.ir.ops.pointwise import Binary
from dlc.passes.channels import affine, wide
from dlc.passes.match import operand
from dlc.passes.pass_base import Numerics, Property
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule, rule


@dataclasses.dataclass(frozen=True)
class FoldBatchNorm(RewritePass):
    """BatchNorm(x) is x * m + (bias - mean * m) with m = scale / sqrt(variance + epsilon) for each channel.

    Where x is a Conv, ConvTranspose or matrix product with constant weights that nobody else reads, m goes
    into the weights and the rest into the bias, in float64 and rounded once. Elsewhere two pointwise nodes
    remain, with the numbers that onnxruntime computes in float32: after integer products the last bit of a
    result is one of the range to which the next layer quantizes.

    Example:

        %c = Conv(...)(%x, %w)
        %y = BatchNorm(epsilon=1e-05)(%c, %scale, %bias, %mean, %variance)

    becomes, with %v = w * m and %b = bias - mean * m,

        %y = Conv(...)(%x, %v, %b)
    """

    name: ClassVar[str] = "fold-batch-norm"
    numerics: ClassVar[Numerics] = Numerics.REASSOCIATES
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def rules(self) -> Sequence[Rule]:
        return batch_norm_into_weights, batch_norm_to_pointwise


@rule(BatchNorm)
def batch_norm_into_weights(node: Node, builder: GraphBuilder) -> Outcome:
    """BatchNorm(x w + b) -> x w' + b'."""
    parameters = _factors_and_terms(node, np.dtype(np.float64))
    if parameters is None:
        return Decline("scale, bias, mean or variance is not constant")
    found = affine(builder, operand(node, 0))
    if found is None or isinstance(found, Decline):
        return found
    if found.axis != 1:
        return Decline("the channels of the product are not on axis 1")
    factors, terms = parameters
    return found.scaled(factors).shifted(terms).build(builder)


@rule(BatchNorm)
def batch_norm_to_pointwise(node: Node, builder: GraphBuilder) -> Outcome:
    """BatchNorm(x) -> x * m + t."""
    x = operand(node, 0)
    precision = np.float32 if x.tensor.dtype is DType.F32 else np.float64
    parameters = _factors_and_terms(node, np.dtype(precision))
    if parameters is None:
        return None
    shape = (-1, *[1] * (x.tensor.rank - 2))
    rounded = [convert(vector.reshape(shape), x.tensor.dtype) for vector in parameters]
    factors, terms = map(builder.constant, rounded)
    return builder.add(Binary("add"), builder.add(Binary("mul"), x, factors), terms)


def _factors_and_terms(node: Node, precision: np.dtype[Any]) -> tuple[Array, Array] | None:
    """What BatchNorm multiplies and adds, when it is constant, computed in `precision`."""
    assert isinstance(node.op, BatchNorm)
    values = [operand(node, index) for index in range(1, 5)]
    if any(not value.is_constant for value in values):
        return None
    scale, bias, mean, variance = (wide(value).astype(precision) for value in values)
    factors = 1 / np.sqrt(variance + node.op.epsilon) * scale
    return factors, bias - mean * factors
