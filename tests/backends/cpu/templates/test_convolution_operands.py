"""Convolutions whose input is a movement of something else, which fusion puts into their loads."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlc
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate

Array: TypeAlias = "np.ndarray[Any, Any]"

#: Node on x, its further operands, and the shape of x for C channels.
MOVEMENTS: dict[str, tuple[str, dict[str, Any], list[list[int]], list[int]]] = {
    "reflect": ("Pad", {"mode": "reflect"}, [[0, 0, 1, 1, 0, 0, 1, 1]], [1, 0, 12, 12]),
    "edge": ("Pad", {"mode": "edge"}, [[0, 0, 1, 1, 0, 0, 1, 1]], [1, 0, 12, 12]),
    "zeros": ("Pad", {}, [[0, 0, 2, 2, 0, 0, 2, 2]], [1, 0, 12, 12]),
    "rows": ("Slice", {}, [[2], [10], [2]], [1, 0, 12, 12]),
    "backwards": ("Slice", {}, [[11], [-99], [3], [-1]], [1, 0, 12, 12]),
    "last": ("Transpose", {"perm": [0, 3, 1, 2]}, [], [1, 12, 13, 0]),
    "swapped": ("Transpose", {"perm": [0, 1, 3, 2]}, [], [1, 0, 12, 13]),
    "repeated": ("Expand", {}, [[2, 1, 9, 9]], [1, 0, 1, 9]),
}


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("name", MOVEMENTS)
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("depthwise", [False, True])
def test_movements_into_convolutions(name: str, channels: int, pad: int, depthwise: bool) -> None:
    op, attributes, operands, shape = MOVEMENTS[name]
    shape = [extent or channels for extent in shape]
    generator = np.random.default_rng(0)
    each = 1 if depthwise else channels
    weights = generator.standard_normal((channels if depthwise else 16, each, 3, 3)).astype(np.float32)
    more = [numpy_helper.from_array(np.array(values), f"p{i}") for i, values in enumerate(operands)]
    nodes = [
        helper.make_node(op, ["x", *(t.name for t in more)], ["moved"], **attributes),
        helper.make_node("Conv", ["moved", "w"], ["y"], pads=[pad] * 4, group=channels if depthwise else 1),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [*more, numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    x = generator.standard_normal(shape).astype(np.float32)
    expected = evaluate(import_model(model).graph, {"x": x})["y"]
    actual = np.asarray(dlc.compile(model, cache=False)(x)[0])
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
