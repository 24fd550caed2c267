"""Finding the nodes that draw random numbers, and what a comparison says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dlc.verify import verify
from dlc.verify.drawing import drawing_nodes

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4])


def model_of(*nodes: onnx.NodeProto, opset: int = 22, functions: Any = ()) -> onnx.ModelProto:
    """A model from x to y."""
    graph = helper.make_graph(nodes, "g", [X], [Y])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=functions)


def test_nodes_of_graphs_subgraphs_and_functions() -> None:
    noise = helper.make_node("RandomNormalLike", ["x"], ["y"], name="noise")
    assert drawing_nodes(model_of(noise)) == ["noise"]
    branch = helper.make_graph([helper.make_node("RandomUniform", [], ["y"], shape=[4])], "b", [], [Y])
    choice = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch)
    assert drawing_nodes(model_of(choice)) == ["RandomUniform", "RandomUniform"]
    function = helper.make_function("local", "f", ["x"], ["y"], [noise], [helper.make_opsetid("", 22)])
    call = helper.make_node("f", ["x"], ["y"], domain="local")
    assert drawing_nodes(model_of(call, functions=[function])) == ["noise"]
    assert drawing_nodes(model_of(helper.make_node("Bernoulli", ["x"], ["y"], domain="local"))) == []


@pytest.mark.parametrize(
    ("opset", "inputs", "attributes", "draws"),
    [
        (22, ["x"], {}, False),
        (22, ["x", "", "mode"], {}, True),
        (10, ["x"], {}, False),
        (6, ["x"], {}, True),
        (6, ["x"], {"is_test": 1}, False),
    ],
)
def test_dropout(opset: int, inputs: list[str], attributes: dict[str, int], draws: bool) -> None:
    node = helper.make_node("Dropout", inputs, ["y"], name="drop", **attributes)
    assert drawing_nodes(model_of(node, opset=opset)) == (["drop"] if draws else [])


def test_a_comparison_says_that_numbers_are_drawn() -> None:
    noise = helper.make_node("RandomUniformLike", ["x"], ["n"], name="noise", low=1.0, high=2.0)
    model = model_of(noise, helper.make_node("Add", ["x", "n"], ["y"]))
    found = verify(model, inputs={"x": np.zeros((4, 4), np.float32)}, threads=1)
    assert not found.agrees and "noise" in found.notes[0]
    still = helper.make_node("Mul", ["n", "zero"], ["m"])
    zero = helper.make_node("Constant", [], ["zero"], value_float=0.0)
    model = model_of(noise, zero, still, helper.make_node("Add", ["x", "m"], ["y"]))
    found = verify(model, inputs={"x": np.ones((4, 4), np.float32)}, threads=1)
    assert found.agrees and "noise" in found.notes[0]
