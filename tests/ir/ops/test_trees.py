"""Tree ensembles of the graph IR, and the lengths of paths."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.tree_paths import heights
from dlc.ir.ops.trees import TreeEnsemble
from dlc.ir.types import TensorType


def test_heights() -> None:
    #      0 -> 1, 2;  1 -> 3, 4;  4 -> 2 twice;  2 and 3 are leaves
    first, second = np.array([1, 3, 2, 3, 2]), np.array([2, 4, 2, 3, 2])
    assert heights(first, second, 10).tolist() == [3, 2, 0, 0, 1]
    assert heights(first, second, 2).tolist() == [-1, 2, 0, 0, 1]


def test_heights_of_cycles() -> None:
    first, second = np.array([1, 0, 2, 1]), np.array([2, 2, 2, 2])
    assert heights(first, second, 10).tolist() == [-1, -1, 0, -1]


def test_heights_of_a_long_chain() -> None:
    count = 5000
    first = np.minimum(np.arange(1, count + 1), count - 1)
    assert heights(first, first, count).tolist() == list(range(count - 1, -1, -1))


def operand_types() -> list[TensorType | None]:
    i32, f32 = DType.I32, DType.F32
    nodes = [TensorType(i32, (3,)), TensorType(f32, (3,)), TensorType(i32, (3,)), None]
    votes = [TensorType(i32, (4,)), TensorType(i32, (2,)), TensorType(f32, (2,))]
    return [TensorType(f32, (5, 2)), TensorType(i32, (1,)), *nodes, *votes]


def test_types() -> None:
    operator = TreeEnsemble(3, "sum", 1)
    assert operator.infer(operand_types()) == (TensorType(DType.F32, (5, 3)),)


@pytest.mark.parametrize(
    ("operand", "type_", "message"),
    [
        (0, TensorType(DType.I64, (5, 2)), "x must be of type f32 or f64"),
        (0, TensorType(DType.F32, (5,)), "x must have rank 2"),
        (1, TensorType(DType.I64, (1,)), "roots must be of type i32"),
        (3, TensorType(DType.F64, (3,)), "threshold must be of type f32"),
        (4, TensorType(DType.I32, (4,)), "child"),
        (5, TensorType(DType.I32, (3,)), "missing must be of type bool"),
        (6, TensorType(DType.I32, (3,)), "first"),
        (8, TensorType(DType.F32, (3,)), "weight"),
    ],
)
def test_wrong_types(operand: int, type_: TensorType, message: str) -> None:
    types = operand_types()
    types[operand] = type_
    with pytest.raises(InferenceError, match=message):
        TreeEnsemble(3, "sum", 1).infer(types)


def test_evaluation() -> None:
    """Two trees over two targets; the second is a leaf of two votes."""
    nan = np.nan
    operands = [
        np.array([0, 3], np.int32),
        np.array([1, 0, 0, 0], np.int32),
        np.array([0.5, nan, nan, nan], np.float32),
        np.array([1, 1, 2, 3], np.int32),
        np.array([True, False, False, False]),
        np.array([0, 0, 1, 2, 4], np.int32),
        np.array([0, 0, 0, 1], np.int32),
        np.array([1.0, 2.0, 10.0, 20.0], np.float32),
    ]
    x = np.array([[9, 0.5], [9, 0.6], [9, nan]], np.float32)
    for aggregate, expected in {
        "sum": [[12, 20], [11, 20], [12, 20]],
        "min": [[2, 20], [1, 20], [2, 20]],
        "max": [[10, 20], [10, 20], [10, 20]],
    }.items():
        operator = TreeEnsemble(2, aggregate, 1)
        (y,) = operator.evaluate([x, *operands], lambda dim: int(dim))  # type: ignore[call-overload]
        assert y.tolist() == expected and y.dtype == np.float32
