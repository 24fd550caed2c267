"""Kernels of data movement and indexing against the operators' own evaluation."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.errors import IndexFault
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, Guard, Relation, Symbol, ceildiv, minimum
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph
from dlc.ir.operator import Operator
from dlc.ir.ops.indexing import Gather, GatherElements, GatherND, OneHot, ScatterElements, ScatterND
from dlc.ir.ops.movement import (
    Concat,
    DimTensor,
    Expand,
    Pad,
    Range,
    Reshape,
    ReverseSequence,
    Slice,
    Tile,
    Transpose,
    Trilu,
)
from dlc.ir.types import TensorType
from dlc.lowering.draft import Names
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.verify import data_dependent, verify_kernel
from dlc.verify.tolerances import Work
from tests.lowering.kernels import OneNode, assert_same, check_rule

Array: TypeAlias = "np.ndarray[Any, Any]"


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    """0, 1, 2, ... in row-major order."""
    return np.arange(np.prod(shape, dtype=np.int64)).astype(dtype).reshape(shape)


MOVEMENTS: list[tuple[Operator, tuple[int, ...]]] = [
    (Reshape((6, 4)), (2, 3, 4)),
    (Reshape((2, 12)), (2, 3, 4)),
    (Reshape((24,)), (2, 3, 4)),
    (Reshape((4, 6)), (2, 3, 4)),
    (Reshape((3, 2, 2, 2)), (2, 3, 4)),
    (Reshape((1, 24, 1)), (2, 3, 4)),
    (Reshape(()), (1, 1)),
    (Reshape((5, 0)), (0, 3)),
    (Transpose((1, 0)), (3, 4)),
    (Transpose((2, 0, 1)), (2, 3, 4)),
    (Transpose(()), ()),
    (Expand((2, 3, 4)), (3, 1)),
    (Expand((2, 3)), ()),
    (Expand((0, 3)), (1, 3)),
    (Tile((2, 3)), (3, 4)),
    (Tile((1, 0)), (3, 4)),
    (Slice((1, 0), (2, 4), (1, 1)), (3, 4)),
    (Slice((2, 3), (3, 2), (-1, -2)), (3, 4)),
    (Slice((0, 1), (0, 2), (1, 1)), (3, 4)),
    (Trilu(True, 0), (4, 5)),
    (Trilu(False, -1), (2, 4, 3)),
    (Trilu(True, 7), (3, 3)),
    (Pad((1, 0), (2, 3), "constant"), (3, 4)),
    (Pad((2, 3), (2, 1), "edge"), (3, 4)),
    (Pad((2, 3), (2, 3), "reflect"), (3, 4)),
    (Pad((5, 9), (7, 3), "reflect"), (3, 4)),
    (Pad((1,), (1,), "reflect"), (1,)),
    (Pad((2, 3), (5, 9), "wrap"), (3, 4)),
]


@pytest.mark.parametrize(("op", "shape"), MOVEMENTS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_movement(op: Operator, shape: tuple[int, ...], dtype: Any) -> None:
    check_rule(op, numbers(*shape, dtype=dtype))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("symbolic", [False, True])
def test_concat(axis: int, symbolic: bool) -> None:
    parts = []
    for extent in (2, 5, 0, 1):
        shape = [3, 4, 2]
        shape[axis] = extent
        parts.append(numbers(*shape))
    check_rule(Concat(axis), *parts, symbolic=symbolic)


def test_padding_with_a_value() -> None:
    check_rule(Pad((1, 2), (0, 1), "constant"), numbers(2, 3), np.array(7.5, np.float32))


def test_ranges() -> None:
    check_rule(Range(5), np.array(2, np.int64), np.array(-3, np.int64))
    check_rule(Range(7), np.array(0.5, np.float32), np.array(0.25, np.float32))
    check_rule(Range(0), np.array(0.5, np.float32), np.array(0.25, np.float32))


def test_dims_as_a_tensor() -> None:
    check_rule(DimTensor((3, 4, 5, 6), (2, 2)))
    check_rule(DimTensor((7,), ()))
    check_rule(DimTensor((), (0,)))


@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_reversed_sequences(axes: tuple[int, int]) -> None:
    x = numbers(3, 4, 2)
    lengths = np.array([0, 4, 2] if axes[0] == 0 else [0, 3, 2, 1], np.int64)
    check_rule(ReverseSequence(*axes), x, lengths)


n, m, k = Symbol("n", 1), Symbol("m"), Symbol("k", 1)
ENV = {"n": 6, "m": 5, "k": 3}

SYMBOLIC: list[tuple[Operator, tuple[Dim, ...]]] = [
    (Reshape((n * m, 4)), (n, m, 4)),
    (Reshape((n, m, 2, 2)), (n, m, 4)),
    (Reshape((n, 4, m)), (n, m, 4)),
    (Transpose((1, 2, 0)), (n, m, k)),
    (Expand((k, n, m)), (n, 1)),
    (Tile((k, 2)), (n, m)),
    (Slice((n - 1, 0), (n, m), (-1, 1)), (n, m)),
    (Slice((0, 0), (ceildiv(n, 2), minimum(m, 4)), (2, 1)), (n, m)),
    (Pad((k, 0), (1, m), "constant"), (n, m)),
    (Pad((k, 2), (1, 1), "edge"), (n, n)),
    (Pad((k, 1), (1, 2), "reflect"), (n, n)),
    (Pad((k, 1), (1, 2), "wrap"), (n, n)),
    (Trilu(True, m - n), (n, m)),
]


@pytest.mark.parametrize(("op", "shape"), SYMBOLIC, ids=str)
def test_movement_of_symbolic_shapes(op: Operator, shape: tuple[Dim, ...]) -> None:
    one = symbolic_node(op, shape)
    lowered = lower_node(one.node, Names(ENV))
    verify_kernel(lowered.kernel)
    assert_same(one.actual([lowered]), one.expected(), Work.EXACT)


def symbolic_node(op: Operator, shape: tuple[Dim, ...]) -> OneNode:
    """A node on a tensor of a symbolic shape, with the numbers of ENV."""
    from dlc.ir.dims import evaluate

    array = numbers(*(evaluate(dim, ENV) for dim in shape))
    one = OneNode(Transpose(tuple(range(len(shape)))), [array])
    graph = Graph()
    value = graph.add_input("x0", TensorType(DType.F32, shape))
    GraphBuilder(graph).add(op, value)
    one.graph, one.arrays, one.env = graph, {value: array}, dict(ENV)
    (one.node,) = graph.nodes
    return one


GATHERS: list[tuple[Operator, tuple[int, ...], Array]] = [
    (Gather(0), (5, 3), np.array([0, 4, -1, -5])),
    (Gather(1), (2, 5, 3), np.array([[0, 4], [-1, 2]])),
    (Gather(0), (5,), np.array(3)),
    (Gather(0), (5, 2), np.zeros((0,), np.int64)),
    (GatherElements(0), (3, 4), np.array([[0, 1, 2, -1], [2, 2, -3, 0]])),
    (GatherElements(1), (3, 4), np.array([[0, 3], [-1, 1], [-4, 2]])),
    (GatherND(0), (3, 4, 2), np.array([[0, 1], [-1, 3]])),
    (GatherND(1), (2, 3, 4), np.array([[[0], [2]], [[-1], [1]]])),
    (GatherND(0), (3, 4), np.array([[1], [0], [2]])),
]


@pytest.mark.parametrize(("op", "shape", "indices"), GATHERS, ids=str)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_gathers(op: Operator, shape: tuple[int, ...], indices: Array, dtype: Any) -> None:
    lowered = check_rule(op, numbers(*shape), indices.astype(dtype))
    source = [name for name, value in lowered.values.items() if value.name == "x0"]
    assert data_dependent(lowered.kernel) == tuple(source)


@pytest.mark.parametrize(("op", "shape", "indices"), GATHERS[:6], ids=str)
def test_gathers_of_symbolic_shapes(op: Operator, shape: tuple[int, ...], indices: Array) -> None:
    check_rule(op, numbers(*shape), indices, symbolic=True)


@pytest.mark.parametrize("index", [5, -6])
def test_an_index_out_of_range_is_a_fault(index: int) -> None:
    one = OneNode(Gather(0), [numbers(5, 2), np.array([0, index])])
    lowered = lower_node(one.node, Names())
    with pytest.raises(IndexFault, match="is outside"):
        one.actual([lowered])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_hot(axis: int) -> None:
    indices = np.array([[0, 3, -1], [4, -4, 9]], np.int64)
    check_rule(OneHot(axis, 4), indices, np.array([-1.0, 2.0], np.float32))


SCATTERS: list[tuple[Operator, tuple[int, ...], Array, tuple[int, ...]]] = [
    (ScatterElements(0, "none"), (4, 3), np.array([[0, 1, 2], [3, -1, 0]]), (2, 3)),
    (ScatterElements(1, "none"), (2, 5), np.array([[0, 4], [1, -2]]), (2, 2)),
    (ScatterElements(1, "none"), (1, 5), np.array([[1, 1, 1, 3]]), (1, 4)),
    (ScatterElements(0, "add"), (4, 3), np.array([[0, 0, 2], [0, -1, 2]]), (2, 3)),
    (ScatterElements(0, "mul"), (4,), np.array([1, 1, 1]), (3,)),
    (ScatterElements(0, "max"), (4,), np.array([1, 1, 2]), (3,)),
    (ScatterElements(0, "min"), (4,), np.array([1, 1, 2]), (3,)),
    (ScatterND("none"), (4, 3), np.array([[0], [-1]]), (2, 3)),
    (ScatterND("none"), (4, 3), np.array([[0, 1], [-1, 2], [0, 1]]), (3,)),
    (ScatterND("add"), (4, 3), np.array([[[0, 1]], [[0, 1]]]), (2, 1)),
    (ScatterND("add"), (4, 3), np.array([[2], [2], [2]]), (3, 3)),
    (ScatterND("none"), (4, 3), np.zeros((0, 1), np.int64), (0, 3)),
]


@pytest.mark.parametrize(("op", "shape", "indices", "updates"), SCATTERS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_scatters(
    op: Operator, shape: tuple[int, ...], indices: Array, updates: tuple[int, ...], dtype: Any
) -> None:
    check_rule(op, numbers(*shape, dtype=dtype), indices, numbers(*updates, dtype=dtype) - 3)


def test_the_extents_of_concatenated_operands_may_agree_by_a_guard_only() -> None:
    graph = Graph()
    left = graph.add_input("x", TensorType(DType.F32, (n, 2)))
    right = graph.add_input("y", TensorType(DType.F32, (k, 2)))
    GraphBuilder(graph).add(Concat(1), left, right)
    (node,) = graph.nodes
    lowered = lower_node(node, Names(["n", "k"]))
    verify_kernel(lowered.kernel, [Guard(Relation.EQ, n, k, "extents differ")])
    with pytest.raises(Exception, match="not proved"):
        verify_kernel(lowered.kernel)
