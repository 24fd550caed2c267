"""Reductions, arg-reductions, cumulative operators, top-k and global pooling against the two judges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import InputError, ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.ir.ops.reduction import Reduce
from tests.helpers.onnx_cases import (
    backend_node_cases,
    check_backend_case,
    check_node,
    one_node_model,
)

#: Operator -> opset since which the axes are an operand.
REDUCTIONS = {
    "ReduceSum": 13,
    "ReduceMean": 18,
    "ReduceMax": 18,
    "ReduceMin": 18,
    "ReduceProd": 18,
    "ReduceL1": 18,
    "ReduceL2": 18,
    "ReduceSumSquare": 18,
    "ReduceLogSum": 18,
    "ReduceLogSumExp": 18,
}
OTHERS = {
    "ArgMax",
    "ArgMin",
    "CumSum",
    "CumProd",
    "TopK",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
}
CASES = backend_node_cases({*REDUCTIONS, *OTHERS})
X = np.random.default_rng(3).uniform(0.5, 2, (2, 3, 4)).astype(np.float32)


def reduction_node(
    op_type: str, x: np.ndarray[Any, Any], axes: list[int] | None, opset: int, **attributes: Any
) -> tuple[list[Any], dict[str, Any], tuple[int, ...]]:
    """Inputs, attributes and constant operands of a reduction in the style of `opset`."""
    if axes is None:
        return [x], attributes, ()
    if opset < REDUCTIONS[op_type]:
        return [x], {"axes": axes, **attributes}, ()
    return [x, np.array(axes, np.int64)], attributes, (1,)


def check_reduction(
    op_type: str,
    x: np.ndarray[Any, Any],
    axes: list[int] | None,
    opset: int,
    *,
    symbolic: bool = False,
    onnxruntime: bool = True,
    reference: bool = True,
    **attributes: Any,
) -> None:
    """Compare one reduction with the judges."""
    inputs, present, constants = reduction_node(op_type, x, axes, opset, **attributes)
    check_node(
        op_type,
        inputs,
        attributes=present,
        opset=opset,
        constants=constants,
        symbolic=symbolic,
        onnxruntime=onnxruntime,
        reference=reference,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    # The axes have to be known at compile time.
    op_type = case.model.graph.node[0].op_type
    check_backend_case(case, constants=(1,) if op_type in {*REDUCTIONS, "CumSum", "CumProd"} else ())


def test_every_operator_has_backend_cases() -> None:
    assert {case.model.graph.node[0].op_type for case in CASES} == {*REDUCTIONS, *OTHERS} - {"GlobalLpPool"}


@pytest.mark.parametrize("op_type", sorted(REDUCTIONS))
@pytest.mark.parametrize("axes", [None, [0], [2], [-1], [1, 2], [0, -1], [2, 0, 1]])
@pytest.mark.parametrize("opset", [7, 11, 13, 18, 21])
def test_axes(op_type: str, axes: list[int] | None, opset: int) -> None:
    if axes and min(axes) < 0 and opset < 11:
        return  # negative axes came with opset 11
    for keepdims in (0, 1):
        check_reduction(op_type, X, axes, opset, keepdims=keepdims, symbolic=opset == 21)


@pytest.mark.parametrize("op_type", sorted(REDUCTIONS))
@pytest.mark.parametrize("noop", [0, 1])
def test_no_axes(op_type: str, noop: int) -> None:
    # The rest of the function stays: magnitudes for ReduceL1, squares for ReduceSumSquare.
    x, none = -X, np.zeros(0, np.int64)
    for inputs, constants in (([x], ()), ([x, none], (1,)), ([x, none], ())):
        check_node(op_type, inputs, attributes={"noop_with_empty_axes": noop}, opset=18, constants=constants)


@pytest.mark.parametrize("op_type", sorted(REDUCTIONS))
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.int64, np.uint32, np.uint64])
def test_other_types(op_type: str, dtype: type) -> None:
    x = np.array([[1, 2, 3], [4, 1, 2]], dtype)
    # The reference has no logarithms of integers, and gives the sum of their squares another type.
    exact = (
        op_type not in ("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare") or np.dtype(dtype).kind == "f"
    )
    if exact or dtype in (np.int32, np.int64):
        check_reduction(op_type, x, [1], 18, reference=exact)


@pytest.mark.parametrize("op_type", ["ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_extremes_of_bytes(op_type: str, dtype: type) -> None:
    check_reduction(op_type, np.array([[1, 100, 3], [4, 1, 2]], dtype), [1], 18)


@pytest.mark.parametrize("op_type", ["ReduceMax", "ReduceMin"])
def test_extremes_of_bools(op_type: str) -> None:
    check_reduction(op_type, np.array([[True, False], [False, False]]), [1], 20)


@pytest.mark.parametrize("op_type", sorted(REDUCTIONS))
def test_scalars(op_type: str) -> None:
    # The reference's ReduceLogSumExp fails on scalars.
    check_reduction(op_type, np.array(2.5, np.float32), None, 18, reference=op_type != "ReduceLogSumExp")


@pytest.mark.parametrize("op_type", sorted(REDUCTIONS))
@pytest.mark.parametrize("axes", [[0], [1], [0, 1]])
def test_no_elements(op_type: str, axes: list[int]) -> None:
    # The mean of nothing, which the standard leaves undefined, is 0 in onnxruntime and NaN in the reference.
    x = np.zeros((2, 0), np.float32)
    check_reduction(op_type, x, axes, 20, onnxruntime=op_type != "ReduceMean")


@pytest.mark.parametrize("op_type", sorted(REDUCTIONS))
def test_special_values(op_type: str) -> None:
    x = np.array(
        [[np.nan, 1, 2], [np.inf, 1, 2], [-np.inf, 1, 2], [1, 2, np.nan], [1e-40, 1e-40, 0]], np.float32
    )
    # The reference's ReduceLogSumExp subtracts an infinite maximum from itself; the maximum and minimum of
    # onnxruntime lose a NaN behind a number.
    check_reduction(
        op_type,
        x,
        [1],
        18,
        reference=op_type != "ReduceLogSumExp",
        onnxruntime=op_type not in ("ReduceMax", "ReduceMin"),
    )


def test_axes_at_run_time_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"\(axes\) are computed at run time"):
        import_model(one_node_model("ReduceSum", [X, np.array([1])], opset=13))


@pytest.mark.parametrize(("axes", "reason"), [([3], "axis 3 is outside"), ([0, -3], "twice")])
def test_impossible_axes_are_refused(axes: list[int], reason: str) -> None:
    inputs, attributes, constants = reduction_node("ReduceSum", X, axes, 18)
    with pytest.raises(ModelError, match=reason):
        import_model(
            one_node_model("ReduceSum", inputs, attributes=attributes, opset=18, constants=constants)
        )


def test_attributes_of_a_later_opset_are_refused() -> None:
    with pytest.raises(ModelError, match="'noop_with_empty_axes' came with opset 18"):
        import_model(one_node_model("ReduceMax", [X], attributes={"noop_with_empty_axes": 1}, opset=13))
    with pytest.raises(ModelError, match="'select_last_index' came with opset 12"):
        import_model(one_node_model("ArgMax", [X], attributes={"select_last_index": 1}, opset=11))
    with pytest.raises(ModelError, match="'largest' came with opset 11"):
        k = np.array([1])
        import_model(one_node_model("TopK", [X, k], 2, attributes={"largest": 1}, opset=10, constants=(1,)))


TIED = np.array([[1, 3, 3, 0], [2, 2, 2, 2], [5, 1, 0, 0]])


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1, -1, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int8, np.uint8])
@pytest.mark.parametrize("opset", [7, 11, 13])
def test_positions(op_type: str, axis: int | None, dtype: type, opset: int) -> None:
    if axis == -1 and opset < 11:
        return  # negative axes came with opset 11
    for keepdims in (0, 1):
        check_node(
            op_type, [TIED.astype(dtype)], attributes={"axis": axis, "keepdims": keepdims}, opset=opset
        )


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_ties(op_type: str, last: int) -> None:
    attributes = {"axis": 1, "select_last_index": last}
    check_node(op_type, [TIED.astype(np.float32)], attributes=attributes, opset=12, symbolic=True)


def test_positions_in_nothing() -> None:
    with pytest.raises(ModelError, match="no elements"):
        import_model(
            one_node_model("ArgMax", [np.zeros((2, 0), np.float32)], attributes={"axis": 1}, opset=13)
        )
    x = np.zeros((2, 3), np.float32)
    graph = import_model(one_node_model("ArgMax", [x], attributes={"axis": 1}, opset=13, symbolic=True)).graph
    with pytest.raises(InputError, match="no elements"):
        evaluate(graph, {"x0": np.zeros((2, 0), np.float32)})


@pytest.mark.parametrize("op_type", ["CumSum", "CumProd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative(op_type: str, dtype: type, exclusive: int, reverse: int) -> None:
    x = np.arange(1, 13).reshape(3, 4).astype(dtype)
    attributes = {"exclusive": exclusive, "reverse": reverse}
    for axis in (np.array(0), np.array(-1, np.int32)):
        for opset in [11, 14] if op_type == "CumSum" else [26]:
            check_node(op_type, [x, axis], attributes=attributes, opset=opset, constants=(1,))


def test_the_axis_of_a_running_sum_is_one_number() -> None:
    with pytest.raises(ModelError, match="must hold one number, but holds 2"):
        import_model(one_node_model("CumSum", [X, np.array([0, 1])], opset=14, constants=(1,)))
    with pytest.raises(UnsupportedError, match=r"\(axis\) are computed at run time"):
        import_model(one_node_model("CumSum", [X, np.array(1)], opset=14))


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("opset", [7, 10, 11, 24])
def test_top_k(k: int, opset: int) -> None:
    for axis in (-1, 1) if k < 4 else (-1,):
        if opset == 7:
            if axis < 0:
                continue
            # The reference has TopK since opset 10.
            check_node("TopK", [X], 2, {"k": k, "axis": axis}, opset, reference=False)
        else:
            check_node("TopK", [X, np.array([k])], 2, {"axis": axis}, opset, constants=(1,))


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_top_k_of_ties(largest: int, dtype: type) -> None:
    for k in (1, 3, 4):
        check_node("TopK", [TIED.astype(dtype), np.array([k])], 2, {"largest": largest}, 11, constants=(1,))


def test_k_at_run_time() -> None:
    x, k = np.array([[3, 1, 2]], np.float32), np.array([2])
    check_node("TopK", [x, k], 2, opset=11)
    graph = import_model(one_node_model("TopK", [x, k], 2, opset=11)).graph
    with pytest.raises(InputError, match="cannot be chosen"):
        evaluate(graph, {"x0": x, "x1": np.array([4])})


def test_k_beyond_the_extent_is_refused() -> None:
    with pytest.raises(ModelError, match="k = 9 elements cannot be chosen out of 4"):
        import_model(one_node_model("TopK", [X, np.array([9])], 2, opset=11, constants=(1,)))


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (1, 2, 2, 3, 2)])
@pytest.mark.parametrize("opset", [7, 13])
def test_global_pooling(op_type: str, shape: tuple[int, ...], opset: int) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    # The reference has no GlobalLpPool, and pools two axes whatever the rank.
    check_node(op_type, [x], opset=opset, reference=op_type == "GlobalAveragePool", symbolic=opset == 13)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_pooling_by_a_p_norm(p: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    check_node("GlobalLpPool", [x], attributes={"p": p}, opset=13, reference=False)


def test_global_pooling_is_a_reduction() -> None:
    (node,) = import_model(
        one_node_model("GlobalAveragePool", [np.ones((1, 2, 3, 3), np.float32)])
    ).graph.nodes
    assert node.op == Reduce("mean", (2, 3), keepdims=True)
    with pytest.raises(ModelError, match="batch and a channel axis"):
        import_model(one_node_model("GlobalMaxPool", [np.ones(3, np.float32)]))
    with pytest.raises(ModelError, match="'p' must be positive"):
        import_model(one_node_model("GlobalLpPool", [np.ones((1, 2, 3), np.float32)], attributes={"p": 0}))
