"""Which conversions of 8-bit integers belong to a product."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.convolution import Conv
from dlc.ir.ops.pointwise import Binary, Cast
from dlc.ir.types import TensorType
from dlc.ir.widening import is_widening
from dlc.passes.constant_folding import ConstantFolding


def node_of(value: Value) -> Node:
    assert value.producer is not None
    return value.producer


class Quantized:
    """x[m, k] minus a zero point and constant weights, both in i32."""

    def __init__(self, dtype: DType = DType.U8, shape: tuple[int, ...] = (2, 3)) -> None:
        self.graph = Graph()
        self.builder = GraphBuilder(self.graph)
        x = Value("x", TensorType(dtype, shape))
        self.graph.inputs.append(x)
        zero = self.builder.constant(np.array(3, dtype.numpy))
        self.wide = self.builder.add(Cast(DType.I32), x)
        self.zero = self.builder.add(Cast(DType.I32), zero)
        self.centred = self.builder.add(Binary("sub"), self.wide, self.zero)

    def weights(self, *shape: int) -> Value:
        return self.builder.add(Cast(DType.I32), self.builder.constant(np.ones(shape, np.int8)))


def test_operands_of_a_product_with_a_constant() -> None:
    q = Quantized()
    weights = q.weights(3, 4)
    q.graph.outputs.append(q.builder.add(MatMul(), q.centred, weights))
    assert all(is_widening(node_of(value)) for value in (q.wide, q.zero, q.centred, weights))
    assert not is_widening(node_of(q.graph.outputs[0]))


def test_folding_leaves_them() -> None:
    q = Quantized()
    q.graph.outputs.append(q.builder.add(MatMul(), q.centred, q.weights(3, 4)))
    before = len(q.graph.nodes)
    statistics = ConstantFolding().apply(q.graph)
    assert len(q.graph.nodes) == before
    assert {declined.reason for declined in statistics.declines} == {"a product reads the 8-bit numbers"}


def test_another_reader_wants_them_in_memory() -> None:
    q = Quantized()
    q.graph.outputs.append(q.builder.add(MatMul(), q.centred, q.weights(3, 4)))
    q.graph.outputs.append(q.builder.add(Cast(DType.F32), q.wide))
    assert not is_widening(node_of(q.wide))


def test_products_of_two_run_time_operands() -> None:
    q = Quantized(shape=(3, 3))
    q.graph.outputs.append(q.builder.add(MatMul(), q.centred, q.centred))
    assert not is_widening(node_of(q.centred))


def test_16_bits_are_no_octets() -> None:
    q = Quantized(DType.U16)
    q.graph.outputs.append(q.builder.add(MatMul(), q.centred, q.weights(3, 4)))
    assert not is_widening(node_of(q.wide))


@pytest.mark.parametrize(("groups", "expected"), [(1, True), (2, True), (6, False)])
def test_groups_of_few_channels(groups: int, expected: bool) -> None:
    q = Quantized(shape=(1, 6, 5, 5))
    op = Conv((1, 1), (1, 1), ((1, 1), (1, 1)), groups)
    q.graph.outputs.append(q.builder.add(op, q.centred, q.weights(6, 6 // groups, 3, 3)))
    assert is_widening(node_of(q.centred)) is expected
