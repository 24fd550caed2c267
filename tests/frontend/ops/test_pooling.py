"""MaxPool, AveragePool, LpPool and MaxUnpool against the ONNX reference and onnxruntime."""
from __future__ import annotations

from typing import Any

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

CASES = backend_node_cases(["MaxPool", "AveragePool", "LpPool", "MaxUnpool"])
rng = np.random.default_rng(2)


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Numbers of a normal distribution, or integers of the whole range."""
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


POOLS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 11), {"kernel_shape": [3]}),
    ((2, 3, 11), {"kernel_shape": [4], "strides": [3], "pads": [2, 1]}),
    ((1, 2, 9, 10), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    ((1, 2, 9, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 9, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 9, 10), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"}),
    ((1, 2, 4, 5, 6), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2]}),
    ((0, 2, 9, 10), {"kernel_shape": [3, 3]}),
]
CEILED: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 2, 10, 11), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 2, 10, 11), {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    # The last window would start in the padding and is dropped.
    ((1, 1, 2, 5), {"kernel_shape": [1, 2], "strides": [2, 3], "pads": [0, 1, 0, 1], "ceil_mode": 1}),
    ((1, 1, 6), {"kernel_shape": [1], "strides": [2], "ceil_mode": 1}),
]


@pytest.mark.parametrize("shape, attributes", POOLS)
@pytest.mark.parametrize("opset", [7, 10, 12, 19, 22])
@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool", "LpPool"])
def test_pools(op_type: str, shape: tuple[int, ...], attributes: dict[str, Any], opset: int) -> None:
    check_node(op_type, [draw(*shape)], attributes=attributes, opset=opset, reference=False)


@pytest.mark.parametrize("shape, attributes", CEILED)
@pytest.mark.parametrize("op_type, opset", [
    ("MaxPool", 10), ("MaxPool", 22), ("AveragePool", 10), ("AveragePool", 19), ("LpPool", 18),
])
def test_ceil_mode(op_type: str, opset: int, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    check_node(op_type, [draw(*shape)], attributes=attributes, opset=opset, reference=False)


@pytest.mark.parametrize("shape, attributes", [*POOLS[:6], *CEILED])
def test_symbolic_extents(shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    check_node("MaxPool", [draw(*shape)], attributes=attributes, opset=12, symbolic=True, reference=False)
    check_node("AveragePool", [draw(*shape)], attributes=attributes, opset=19, symbolic=True, reference=False)


@pytest.mark.parametrize("shape, attributes", [*POOLS[:7], *CEILED])
@pytest.mark.parametrize("opset", [11, 19, 22])
def test_average_counts_padding_on_request(shape: tuple[int, ...], attributes: dict[str, Any],
                                           opset: int) -> None:
    check_node("AveragePool", [draw(*shape)], attributes={**attributes, "count_include_pad": 1}, opset=opset,
               reference=False)


@pytest.mark.parametrize("op_type, opset", [("MaxPool", 10), ("AveragePool", 19), ("LpPool", 18)])
@pytest.mark.parametrize("attributes", [
    {"dilations": [2, 3]}, {"dilations": [2, 2], "strides": [2, 1], "pads": [1, 1, 1, 1]},
    {"dilations": [3, 1], "ceil_mode": 1, "strides": [2, 2]},
])
def test_dilations(op_type: str, opset: int, attributes: dict[str, Any]) -> None:
    check_node(op_type, [draw(2, 3, 12, 13)], attributes={"kernel_shape": [2, 3], **attributes}, opset=opset,
               reference=False)


@pytest.mark.parametrize("shape, attributes", [*POOLS[:7], *CEILED])
@pytest.mark.parametrize("storage_order", [0, 1])
def test_positions_of_maxima(shape: tuple[int, ...], attributes: dict[str, Any], storage_order: int) -> None:
    values = rng.integers(-3, 3, shape).astype(np.float32)
    check_node("MaxPool", [values], 2, {**attributes, "storage_order": storage_order}, 12, reference=False)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float64])
def test_max_pool_of_other_types(dtype: Any) -> None:
    check_node("MaxPool", [draw(1, 2, 6, 6, dtype=dtype)], opset=12, reference=False,
               attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]})


@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool_of_other_norms(p: int) -> None:
    check_node("LpPool", [draw(1, 2, 6, 6)], opset=11, attributes={"kernel_shape": [3, 3], "p": p})


def test_nan_wins_a_maximum() -> None:
    x = np.array([[[1, np.nan, 3, 4, 5]]], np.float32)
    model = one_node_model("MaxPool", [x], 2, {"kernel_shape": [2], "pads": [1, 0]}, 12)
    y, indices = run_evaluator(model, {"x0": x})
    np.testing.assert_array_equal(y, [[[1, np.nan, np.nan, 4, 5]]])
    np.testing.assert_array_equal(indices, [[[0, 1, 1, 3, 4]]])


def test_windows_wholly_in_the_padding() -> None:
    x = np.array([[[5]], [[7]]], np.float32)
    dilated = {"kernel_shape": [2], "dilations": [2], "pads": [1, 1]}
    y, indices = run_evaluator(one_node_model("MaxPool", [x], 2, dilated, 12), {"x0": x})
    assert y.tolist() == [[[-np.inf]]] * 2 and indices.tolist() == [[[-1]]] * 2
    (average,) = run_evaluator(one_node_model("AveragePool", [x], 1, dilated, 19), {"x0": x})
    assert np.isnan(average).all()


@pytest.mark.parametrize("output_shape", [None, [2, 3, 8, 9]])
def test_max_unpool_undoes_max_pool(output_shape: list[int] | None) -> None:
    x = draw(2, 3, 8, 8)
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y, indices = check_node("MaxPool", [x], 2, attributes, 12, reference=False)
    inputs = [y, indices, *([] if output_shape is None else [np.array(output_shape)])]
    # onnxruntime counts positions in output_shape, the reference in the extents that the window implies.
    check_node("MaxUnpool", inputs, 1, attributes, 11, constants=[2], onnxruntime=output_shape is None)


@pytest.mark.parametrize("op_type, opset, attributes, reason", [
    ("MaxPool", 12, {}, "kernel_shape"),
    ("MaxPool", 12, {"kernel_shape": [2]}, "kernel_shape"),
    ("AveragePool", 11, {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilations"),
    ("LpPool", 11, {"kernel_shape": [2, 2], "p": 0}, "'p'"),
    ("MaxPool", 12, {"kernel_shape": [9, 9]}, "larger"),
])
def test_impossible_pools_are_refused(op_type: str, opset: int, attributes: dict[str, Any],
                                      reason: str) -> None:
    model = one_node_model(op_type, [draw(1, 2, 6, 6)], attributes=attributes, opset=opset)
    with pytest.raises(ModelError, match=reason):
        import_model(model)


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ceil_mode, least", [(0, 4), (1, 3)])
def test_symbolic_extents_hold_a_window(op_type: str, ceil_mode: int, least: int) -> None:
    """With ceil_mode a window of 4 elements may hang over by less than the stride 2."""
    attributes = {"kernel_shape": [4], "strides": [2], "ceil_mode": ceil_mode}
    model = one_node_model(op_type, [draw(1, 2, 6)], attributes=attributes, opset=12, symbolic=True)
    assert run_evaluator(model, {"x0": draw(1, 2, least)})[0].shape == (1, 2, 1)
    with pytest.raises(InputError, match="larger than the padded"):
        run_evaluator(model, {"x0": draw(1, 2, least - 1)})
