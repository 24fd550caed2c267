"""Inference and integer arithmetic of MatMul and Einsum."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.contraction import Einsum, MatMul
from dlc.ir.types import TensorType

N, K = Symbol("n"), Symbol("k")


def f32(*shape: object) -> TensorType:
    """A float tensor type."""
    return TensorType(DType.F32, shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("left, right, result", [
    ((N, 4), (4, 5), (N, 5)), ((K,), (K,), ()), ((K,), (N, K, 5), (N, 5)), ((N, K), (K,), (N,)),
    ((2, 1, N, K), (3, K, 7), (2, 3, N, 7)), ((0, 4), (4, 5), (0, 5)),
])
def test_shape_of_a_product(left: tuple[object, ...], right: tuple[object, ...],
                            result: tuple[object, ...]) -> None:
    assert MatMul().infer([f32(*left), f32(*right)]) == (f32(*result),)


@pytest.mark.parametrize("left, right", [
    ((3, 4), (5, 6)), ((), (3,)), ((2, 3, 4), (3, 4, 5)), ((N, 4), (5, 6)),
])
def test_operands_that_do_not_fit(left: tuple[object, ...], right: tuple[object, ...]) -> None:
    with pytest.raises(InferenceError):
        MatMul().infer([f32(*left), f32(*right)])


@pytest.mark.parametrize("left, right, result", [
    (DType.U8, DType.I8, DType.I32), (DType.I8, DType.I8, DType.I32), (DType.I32, DType.I32, DType.I32),
    (DType.U64, DType.U64, DType.U64), (DType.BF16, DType.BF16, DType.BF16),
])
def test_element_type_of_sums(left: DType, right: DType, result: DType) -> None:
    (y,) = MatMul().infer([TensorType(left, (2, 3)), TensorType(right, (3, 4))])
    assert y == TensorType(result, (2, 4))


@pytest.mark.parametrize("left, right", [
    (DType.F32, DType.F16), (DType.I32, DType.I64), (DType.BOOL, DType.BOOL), (DType.U8, DType.I32),
])
def test_element_types_that_do_not_go_together(left: DType, right: DType) -> None:
    with pytest.raises(InferenceError):
        MatMul().infer([TensorType(left, (2, 3)), TensorType(right, (3, 4))])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "uint8", "int32", "int64", "uint32", "uint64"]))
def test_integer_products_wrap(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    a, b = (rng.integers(info.min, info.max, shape, dtype, endpoint=True) for shape in ((3, 5), (5, 2)))
    (y,) = MatMul().evaluate([a, b], int)
    bits = y.dtype.itemsize * 8
    exact = [[sum(int(p) * int(q) for p, q in zip(row, column)) for column in b.T] for row in a]
    assert [[(int(e) - x) % 2**bits for e, x in zip(*rows)] for rows in zip(y, exact)] == [[0, 0]] * 3
    assert y.dtype == (np.int32 if dtype.endswith("int8") else np.dtype(dtype))


def test_work_of_a_product() -> None:
    operands = [f32(N, 4), f32(4, 5)]
    assert MatMul().flops(operands, MatMul().infer(operands)) == N * 40


@pytest.mark.parametrize("equation, shapes, result", [
    ("ij,jk->ik", [(N, 4), (4, K)], (N, K)),
    ("...ij,jk->...ik", [(2, N, 3, 4), (4, K)], (2, N, 3, K)),
    ("i...->...i", [(N, 2, 3)], (2, 3, N)),
    ("ii->i", [(4, 4)], (4,)),
    ("ij->", [(N, K)], ()),
])
def test_shape_of_a_summation(equation: str, shapes: list[tuple[object, ...]],
                              result: tuple[object, ...]) -> None:
    assert Einsum(equation).infer([f32(*shape) for shape in shapes]) == (f32(*result),)


@pytest.mark.parametrize("equation, shapes", [
    ("ij,jk->ik", [(3, 4), (5, 6)]), ("ij->ik", [(3, 4)]), ("ij", [(3, 4)]), ("i->i", [(3, 4)]),
    ("ij,jk->ik", [(3, 4)]), ("i.j->i", [(3, 4)]),
])
def test_summations_that_mean_nothing(equation: str, shapes: list[tuple[object, ...]]) -> None:
    with pytest.raises(InferenceError):
        Einsum(equation).infer([f32(*shape) for shape in shapes])
