"""MatMul, Gemm and Einsum against the ONNX reference and onnxruntime."""
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dlc.errors import InputError, ModelError
from dlc.frontend.onnx.importer import import_model
from tests.helpers.onnx_cases import (
    backend_node_cases,
    check_backend_case,
    check_node,
    one_node_model,
    run_evaluator,
)

CASES = backend_node_cases(["MatMul", "Gemm", "Einsum"])
rng = np.random.default_rng(0)


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Numbers of a normal distribution, or small integers."""
    if np.issubdtype(dtype, np.integer):
        return rng.integers(0, 9, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


@pytest.mark.parametrize("left, right", [
    ((3, 4), (4, 5)), ((4,), (4,)), ((4,), (4, 5)), ((3, 4), (4,)), ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)), ((5, 1, 3, 4), (2, 4, 6)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,)),
    ((0, 4), (4, 5)), ((3, 0), (0, 5)),
])
@pytest.mark.parametrize("symbolic", [False, True])
def test_matmul_broadcasts_like_numpy(left: tuple[int, ...], right: tuple[int, ...], symbolic: bool) -> None:
    check_node("MatMul", [draw(*left), draw(*right)], opset=13, symbolic=symbolic)


@pytest.mark.parametrize("dtype, opset", [
    (np.float64, 7), (np.float32, 7), (np.int32, 9), (np.int64, 9), (np.uint32, 9), (np.uint64, 13),
])
def test_matmul_of_every_type(dtype: Any, opset: int) -> None:
    check_node("MatMul", [draw(7, 33, dtype=dtype), draw(33, 5, dtype=dtype)], opset=opset)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_matmul_of_narrow_floats_is_rounded_once(dtype: Any) -> None:
    a, b = draw(5, 64, dtype=dtype), draw(64, 6, dtype=dtype)
    (y,) = run_evaluator(one_node_model("MatMul", [a, b], opset=13), {"x0": a, "x1": b})
    wide = a.astype(np.float32) @ b.astype(np.float32)
    np.testing.assert_array_equal(y, wide.astype(dtype))


def test_integer_matmul_wraps() -> None:
    big = np.full((2, 3), 2_000_000_000, np.int32)
    (y,) = check_node("MatMul", [big, big.T.copy()], opset=13, onnxruntime=True)
    assert y[0, 0] == (2_000_000_000 ** 2 * 3 + 2 ** 31) % 2 ** 32 - 2 ** 31


@pytest.mark.parametrize("opset", [7, 9, 11, 13])
@pytest.mark.parametrize("attributes, third", [
    ({}, (5,)), ({"transA": 1}, (3, 5)), ({"transB": 1}, (3, 1)), ({"transA": 1, "transB": 1}, (1, 5)),
    ({"alpha": 0.5}, ()), ({"alpha": 0.25, "beta": -2.0}, (5,)), ({"beta": 0.0}, (5,)), ({"beta": 3.0}, (1,)),
])
def test_gemm(opset: int, attributes: dict[str, Any], third: tuple[int, ...]) -> None:
    a = draw(4, 3) if attributes.get("transA") else draw(3, 4)
    b = draw(5, 4) if attributes.get("transB") else draw(4, 5)
    check_node("Gemm", [a, b, draw(*third)], attributes=attributes, opset=opset)


def test_gemm_without_c() -> None:
    check_node("Gemm", [draw(3, 4), draw(4, 5)], attributes={"alpha": 2.0}, opset=11)


def test_gemm_has_no_superfluous_nodes() -> None:
    model = one_node_model("Gemm", [draw(3, 4), draw(4, 5), draw(5)], opset=13)
    assert [node.op.name for node in import_model(model).graph.nodes] == ["MatMul", "Binary"]


def test_gemm_of_a_c_that_would_enlarge_the_product_is_refused() -> None:
    model = one_node_model("Gemm", [draw(1, 4), draw(4, 5), draw(3, 5)], opset=13)
    with pytest.raises(ModelError, match="the_Gemm"):
        import_model(model)


@pytest.mark.parametrize("equation, shapes", [
    ("ij,jk->ik", [(3, 4), (4, 5)]),
    ("ij,jk", [(3, 4), (4, 5)]),
    ("ba", [(3, 4)]),
    ("...ij, ...jk -> ...ik", [(2, 3, 4), (1, 4, 5)]),
    ("i...j", [(2, 3, 4)]),
    ("ii->i", [(4, 4)]),
    ("ii", [(4, 4)]),
    ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
    ("a,b,c->abc", [(2,), (3,), (4,)]),
    ("Aa->A", [(2, 3)]),
    ("ij->", [(2, 3)]),
    ("ij,jk->ji", [(2, 1), (3, 4)]),
    ("ij,jk->ji", [(2, 3), (1, 4)]),
    ("i,i->", [(0,), (0,)]),
])
@pytest.mark.parametrize("symbolic", [False, True])
def test_einsum(equation: str, shapes: list[tuple[int, ...]], symbolic: bool) -> None:
    judged = "ii" not in equation or "->" in equation
    check_node("Einsum", [draw(*shape) for shape in shapes], attributes={"equation": equation}, opset=12,
               onnxruntime=judged, symbolic=symbolic)


@pytest.mark.parametrize("equation", ["ij,jk->iz", "ij->i", "ij;jk", "i.j,jk", "ij,jk,kl->il"])
def test_malformed_einsum_is_refused(equation: str) -> None:
    model = one_node_model("Einsum", [draw(3, 4), draw(4, 5)], attributes={"equation": equation}, opset=12)
    with pytest.raises(ModelError, match="the_Einsum"):
        import_model(model)


@pytest.mark.parametrize("symbolic", [False, True])
def test_einsum_takes_diagonals_of_squares_only(symbolic: bool) -> None:
    """An extent of 1 broadcasts between operands, not within one, as in NumPy and onnxruntime."""
    x = draw(5, 1)
    model = one_node_model("Einsum", [x], attributes={"equation": "ii->i"}, opset=12, symbolic=symbolic)
    with pytest.raises((ModelError, InputError), match=r"letter 'i' in one operand|is needed"):
        run_evaluator(model, {"x0": x})
