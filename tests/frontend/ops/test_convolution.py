"""Conv and ConvTranspose against the ONNX reference and onnxruntime."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import ModelError
from dlc.frontend.onnx.importer import import_model
from tests.helpers.native_nodes import check_native_node
from tests.helpers.onnx_cases import (
    backend_node_cases,
    check_backend_case,
    check_node,
    one_node_model,
)

CASES = backend_node_cases(["Conv", "ConvTranspose"])
rng = np.random.default_rng(1)


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Numbers of a normal distribution."""
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 11), (5, 3, 3), {}),
    ((2, 3, 11), (5, 3, 4), {"strides": [2], "pads": [1, 2], "dilations": [2]}),
    ((1, 4, 7, 9), (6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 4, 7, 9), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "pads": [0, 1, 2, 0]}),
    ((2, 6, 7, 8), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ((2, 6, 7, 8), (12, 1, 3, 3), {"group": 6, "dilations": [2, 1]}),
    ((1, 2, 5, 6, 7), (3, 2, 2, 3, 1), {"strides": [1, 2, 3], "pads": [1, 0, 0, 0, 1, 2]}),
    ((1, 3, 8, 9), (4, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 3, 8, 9), (4, 3, 2, 4), {"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
    ((1, 3, 8, 9), (4, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [5, 4]}),
    ((1, 3, 8, 9), (4, 3, 3, 3), {"auto_pad": "VALID", "strides": [2, 2], "kernel_shape": [3, 3]}),
    ((1, 3, 8, 9), (4, 3, 1, 1), {"strides": [2, 2]}),
    ((0, 3, 8, 9), (4, 3, 3, 3), {}),
]


@pytest.mark.parametrize("x, w, attributes", CONVOLUTIONS)
@pytest.mark.parametrize("opset", [7, 11, 22])
def test_conv(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any], opset: int) -> None:
    # The reference does not follow auto_pad with dilations; onnxruntime judges.
    check_node("Conv", [draw(*x), draw(*w), draw(w[0])], attributes=attributes, opset=opset, reference=False)


@pytest.mark.parametrize("x, w, attributes", CONVOLUTIONS[:9])
def test_conv_of_symbolic_extents(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> None:
    check_node("Conv", [draw(*x), draw(*w)], attributes=attributes, opset=13, symbolic=True, constants=[1],
               reference=False)


def test_conv_in_float64_and_float16() -> None:
    x, w = draw(1, 3, 6, 6, dtype=np.float64), draw(2, 3, 3, 3, dtype=np.float64)
    check_node("Conv", [x, w], opset=11)
    check_node("Conv", [x.astype(np.float16), w.astype(np.float16)], opset=11, tolerance=(2e-3, 4e-3))


TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 2, 5), (2, 3, 3), {}),
    ((2, 4, 5, 6), (4, 3, 3, 2), {"strides": [2, 3], "pads": [1, 0, 1, 1], "output_padding": [1, 2]}),
    ((2, 4, 5, 6), (4, 3, 3, 2), {"strides": [2, 2], "group": 2, "dilations": [2, 1]}),
    ((1, 4, 5, 6), (4, 1, 3, 3), {"strides": [2, 2], "group": 4, "pads": [1, 1, 1, 1]}),
    ((1, 2, 3, 4, 5), (2, 2, 2, 2, 3), {"strides": [1, 2, 2]}),
    ((1, 2, 5, 6), (2, 3, 3, 3), {"strides": [3, 2], "output_shape": [16, 12]}),
    ((1, 2, 5, 6), (2, 3, 3, 3), {"strides": [3, 2], "output_shape": [14, 10], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 5, 6), (2, 3, 4, 4), {"strides": [2, 3], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 5, 6), (2, 3, 4, 5), {"strides": [1, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 5, 6), (2, 3, 3, 3), {"strides": [2, 2], "auto_pad": "VALID"}),
]


@pytest.mark.parametrize("x, w, attributes", TRANSPOSED)
@pytest.mark.parametrize("opset", [7, 11, 22])
def test_conv_transpose(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any],
                        opset: int) -> None:
    # The reference is wrong for groups and bias together; onnxruntime judges.
    inputs = [draw(*x), draw(*w), draw(w[1] * attributes.get("group", 1))]
    check_node("ConvTranspose", inputs, attributes=attributes, opset=opset, reference=False)


@pytest.mark.parametrize("x, w, attributes", [case for case in TRANSPOSED if "output_shape" not in case[2]])
def test_conv_transpose_of_symbolic_extents(x: tuple[int, ...], w: tuple[int, ...],
                                            attributes: dict[str, Any]) -> None:
    check_node("ConvTranspose", [draw(*x), draw(*w)], attributes=attributes, opset=13, symbolic=True,
               constants=[1], reference=False)


@pytest.mark.parametrize("attributes, reason", [
    ({"strides": [1]}, "strides"),
    ({"strides": [0, 1]}, "strides"),
    ({"pads": [1, 1]}, "pads"),
    ({"pads": [-1, 0, 0, 0]}, "pads"),
    ({"auto_pad": "SAME"}, "auto_pad"),
    ({"auto_pad": "SAME_UPPER", "pads": [1, 1, 1, 1]}, "exclude"),
    ({"kernel_shape": [5, 5]}, "kernel_shape"),
    ({"group": 2}, "channels"),
    ({"group": 0}, "group"),
    ({"dilations": [9, 9]}, "larger than"),
])
def test_impossible_convolutions_are_refused(attributes: dict[str, Any], reason: str) -> None:
    model = one_node_model("Conv", [draw(1, 3, 8, 8), draw(4, 3, 3, 3)], attributes=attributes, opset=13)
    with pytest.raises(ModelError, match=reason) as caught:
        import_model(model)
    assert caught.value.node == "the_Conv"


def test_a_phase_without_positions() -> None:
    """Of the three phases along the last axis, which is 2 long, one has nothing to compute."""
    x, w = draw(1, 2, 5, 1), draw(2, 1, 2, 3)
    attributes = {"strides": [2, 3], "pads": [0, 0, 0, 1]}
    check_native_node("ConvTranspose", [x, w], attributes=attributes, opset=11, constants=[1])
