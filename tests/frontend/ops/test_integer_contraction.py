"""Integer and quantized products and convolutions: bit-exact against the reference and onnxruntime."""
from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.helpers.native_nodes import check_native_node, run_native
from tests.helpers.onnx_cases import (
    backend_node_cases,
    check_backend_case,
    check_node,
    feeds_of,
    one_node_model,
    run_evaluator,
)

CASES = backend_node_cases(["MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"])
rng = np.random.default_rng(5)
TYPES = [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)]


def draw(*shape: int, dtype: Any) -> np.ndarray[Any, Any]:
    """Integers of the whole range of the type."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def scale(*shape: int) -> np.ndarray[Any, Any]:
    """Positive scales."""
    return (rng.random(shape) * 0.01 + 0.001).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


@pytest.mark.parametrize("left, right", TYPES)
@pytest.mark.parametrize("zero_points", ["none", "scalar", "per row and column"])
def test_matmul_integer(left: Any, right: Any, zero_points: str) -> None:
    a, b = draw(5, 40, dtype=left), draw(40, 7, dtype=right)
    # onnxruntime has no zero point per row.
    match zero_points:
        case "none":
            check_node("MatMulInteger", [a, b], opset=10)
        case "scalar":
            check_node("MatMulInteger", [a, b, draw(dtype=left), draw(dtype=right)], opset=10)
        case _:
            # The reference knows zero points of rows only as a matrix of one column.
            check_node("MatMulInteger", [a, b, draw(5, 1, dtype=left), draw(7, dtype=right)], opset=10,
                       onnxruntime=False)


@pytest.mark.parametrize("left, right", TYPES)
@pytest.mark.parametrize("attributes", [
    {}, {"pads": [1, 1, 1, 1]}, {"strides": [2, 1], "dilations": [1, 2]}, {"auto_pad": "SAME_UPPER"},
])
def test_conv_integer(left: Any, right: Any, attributes: dict[str, Any]) -> None:
    x, w = draw(1, 3, 8, 8, dtype=left), draw(4, 3, 3, 3, dtype=right)
    inputs = [x, w, draw(dtype=left), draw(dtype=right)]
    model = one_node_model("ConvInteger", inputs, attributes=attributes, opset=10)
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    centred = [array.astype(np.float32) - np.float32(zero)
               for array, zero in ((x, inputs[2]), (w, inputs[3]))]
    (exact,) = check_node("Conv", centred, attributes=attributes, opset=11, reference=False)
    np.testing.assert_array_equal(y, exact.astype(np.int32))
    if left is np.uint8:
        check_node("ConvInteger", inputs, attributes=attributes, opset=10, reference=False)


@pytest.mark.parametrize("left, right", TYPES)
@pytest.mark.parametrize("columns", [(), (7,)])
def test_qlinear_matmul(left: Any, right: Any, columns: tuple[int, ...]) -> None:
    inputs = [draw(5, 40, dtype=left), scale(), draw(dtype=left), draw(40, 7, dtype=right), scale(*columns),
              draw(*columns, dtype=right), scale() * 10, draw(dtype=left)]
    check_node("QLinearMatMul", inputs, opset=10, reference=not columns)


def test_qlinear_matmul_of_float16_scales() -> None:
    half = [array.astype(np.float16) for array in (scale(), scale(), scale() * 10)]
    a, b = draw(5, 40, dtype=np.uint8), draw(40, 7, dtype=np.uint8)
    zeros = [draw(dtype=np.uint8) for _ in range(3)]
    inputs = [a, half[0], zeros[0], b, half[1], zeros[1], half[2], zeros[2]]
    check_node("QLinearMatMul", inputs, opset=21)


@pytest.mark.parametrize("left, right", TYPES)
@pytest.mark.parametrize("filters", [(), (6,)])
@pytest.mark.parametrize("attributes", [
    {}, {"pads": [1, 0, 1, 2], "strides": [2, 1]}, {"group": 2, "pads": [1, 1, 1, 1]},
])
def test_qlinear_conv(left: Any, right: Any, filters: tuple[int, ...], attributes: dict[str, Any]) -> None:
    channels = 4 // attributes.get("group", 1)
    bias = rng.integers(-1000, 1000, 6).astype(np.int32)
    inputs = [draw(2, 4, 7, 7, dtype=left), scale(), draw(dtype=left), draw(6, channels, 3, 3, dtype=right),
              scale(*filters), np.zeros(filters, right), scale() * 10, draw(dtype=left), bias]
    check_node("QLinearConv", inputs, attributes=attributes, opset=10, reference=False)


def test_products_of_small_floats_are_quantized_to_small_floats() -> None:
    f8 = ml_dtypes.float8_e4m3fn
    a, b = (rng.standard_normal(shape).astype(f8) for shape in ((3, 8), (8, 4)))
    one, zero = np.asarray(np.float32(1)), np.zeros((), f8)
    inputs = [a, one, zero, b, one, zero, one, zero]
    model = one_node_model("QLinearMatMul", inputs, opset=21)
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    np.testing.assert_array_equal(y, (a.astype(np.float32) @ b.astype(np.float32)).astype(f8))


def test_products_of_integers_and_small_floats() -> None:
    a = rng.integers(0, 255, (3, 8)).astype(np.uint8)
    b = rng.standard_normal((8, 4)).astype(ml_dtypes.float8_e5m2)
    one = np.asarray(np.float32(1))
    inputs = [a, one, np.uint8(128), b, one, np.zeros((), b.dtype), np.float32(4), np.uint8(100)]
    model = one_node_model("QLinearMatMul", inputs, opset=21)
    wanted = np.rint((a.astype(np.float32) - 128) @ b.astype(np.float32) / 4) + 100
    for run in (run_evaluator, run_native):
        (y,) = run(model, feeds_of(model, inputs))
        np.testing.assert_array_equal(y, np.clip(wanted, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_parameters_for_each_row_of_a_batch(dtype: Any) -> None:
    """Scales and zero points [2, 3, 1] of the rows of a and y, [2, 1, 4] of the columns of b."""
    a, b = (rng.integers(0, 100, shape).astype(dtype) for shape in ((2, 3, 8), (2, 8, 4)))

    def parameters(*shape: int) -> list[Any]:
        scale = rng.uniform(0.1, 1, shape).astype(np.float32)
        return [scale, rng.integers(-8, 8, shape).astype(np.int16).clip(np.iinfo(dtype).min).astype(dtype)]

    inputs = [a, *parameters(2, 3, 1), b, *parameters(2, 1, 4), *parameters(2, 3, 1)]
    check_native_node("QLinearMatMul", inputs, opset=21, onnxruntime=False)
