"""DeformConv and Det against the ONNX reference and onnxruntime."""
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
    feeds_of,
    one_node_model,
    run_evaluator,
)

CASES = backend_node_cases(["DeformConv", "Det"])
rng = np.random.default_rng(6)


def draw(*shape: int) -> np.ndarray[Any, Any]:
    """Numbers of a normal distribution."""
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


@pytest.mark.parametrize("attributes, outputs", [
    ({}, (5, 4)), ({"pads": [1, 1, 1, 1]}, (7, 6)), ({"strides": [2, 1]}, (3, 4)),
    ({"dilations": [2, 1], "pads": [1, 0, 1, 0]}, (6, 4)), ({"offset_group": 2}, (5, 4)),
    ({"group": 2}, (5, 4)),
])
@pytest.mark.parametrize("masked", [False, True])
def test_deform_conv(attributes: dict[str, Any], outputs: tuple[int, int], masked: bool) -> None:
    samples = 6 * attributes.get("offset_group", 1)
    inputs = [draw(2, 4, 6, 6), draw(6, 4 // attributes.get("group", 1), 2, 3),
              draw(2, 2 * samples, *outputs) * 2, draw(6), draw(2, samples, *outputs) if masked else None]
    check_node("DeformConv", inputs if masked else inputs[:4], attributes=attributes, opset=19,
               tolerance=(1e-4, 1e-5))


@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 1], "pads": [1, 1, 1, 1], "group": 2}])
def test_without_offsets_it_is_a_convolution(attributes: dict[str, Any]) -> None:
    x, w = draw(2, 4, 6, 6), draw(6, 4 // attributes.get("group", 1), 2, 3)
    (expected,) = check_node("Conv", [x, w], attributes=attributes, opset=19, reference=False)
    inputs = [x, w, np.zeros((2, 12, *expected.shape[2:]), np.float32)]
    model = one_node_model("DeformConv", inputs, attributes=attributes, opset=19)
    (y,) = run_evaluator(model, feeds_of(model, inputs))
    np.testing.assert_array_equal(y, expected)


def test_offsets_of_the_wrong_shape_are_refused() -> None:
    inputs = [draw(2, 4, 6, 6), draw(6, 4, 2, 3), draw(2, 11, 5, 4)]
    with pytest.raises(ModelError, match="offset"):
        import_model(one_node_model("DeformConv", inputs, opset=19))


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (2, 3, 1, 1), (0, 2, 2)])
def test_det(shape: tuple[int, ...]) -> None:
    check_node("Det", [draw(*shape)], opset=11, onnxruntime=0 not in shape)


@pytest.mark.parametrize("attributes, channels, filters", [({"group": 2}, 4, 5), ({"offset_group": 2}, 3, 4)])
def test_symbolic_channels_divide_into_groups(
    attributes: dict[str, Any], channels: int, filters: int
) -> None:
    """What no group computes would not be written."""
    inputs = [draw(1, 4, 3, 3), draw(4, 4 // attributes.get("group", 1), 1, 1)]
    inputs.append(draw(1, 2 * attributes.get("offset_group", 1), 3, 3))
    model = one_node_model("DeformConv", inputs, attributes=attributes, opset=22, symbolic=True)
    run_evaluator(model, feeds_of(model, inputs))
    per_group = channels // attributes.get("group", 1)
    inputs[:2] = [draw(1, channels, 3, 3), draw(filters, per_group, 1, 1)]
    with pytest.raises(InputError, match="a multiple of 2 groups"):
        run_evaluator(model, feeds_of(model, inputs))
