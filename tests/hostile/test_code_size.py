"""Models whose code would be endless are refused before LLVM sees them."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import dlc
from dlc.frontend.onnx.importer import import_model
from dlc.lowering.group import MAX_EXPRESSION, operations
from dlc.lowering.lower import lower
from dlc.passes.pipeline import default_pipeline


def chain(length: int) -> bytes:
    """`length` matrix products by distinct shapes: as many kernels."""
    nodes, weights = [], []
    for index in range(length):
        data = np.ones((4 + index, 5 + index), np.float32)
        weights.append(helper.make_tensor(f"w{index}", TensorProto.FLOAT, data.shape, data.reshape(-1)))
        nodes.append(helper.make_node("MatMul", [f"x{index}", f"w{index}"], [f"x{index + 1}"]))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info(f"x{length}", TensorProto.FLOAT, None)],
        weights,
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


@pytest.mark.parametrize("field", ["kernel_instructions", "program_instructions"])
def test_generated_code_is_limited(field: str) -> None:
    with pytest.raises(dlc.LimitError, match=field):
        dlc.compile(chain(3), limits=dlc.Limits(**{field: 40}), cache=False)


def test_the_default_limits_leave_room() -> None:
    model = dlc.compile(chain(12), cache=False)
    (y,) = model(np.ones((2, 4), np.float32))
    assert y.shape == (2, 16)


@pytest.mark.parametrize("shared", [False, True], ids=["in a row", "doubled"])
def test_kernels_of_endless_chains_stay_small(shared: bool) -> None:
    """Thousands of operations that could all share one kernel become kernels of bounded size."""
    nodes = []
    for index in range(200):
        nodes.append(helper.make_node("Sin", [f"x{index}"], [f"a{index}"]))
        other = f"b{index}" if shared else f"a{index}"
        if shared:
            nodes.append(helper.make_node("Cos", [f"x{index}"], [other]))
        nodes.append(helper.make_node("Mul", [f"a{index}", other], [f"x{index + 1}"]))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("x0", TensorProto.FLOAT, ["n"])], [info("x200", TensorProto.FLOAT, ["n"])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    imported = import_model(model).graph
    default_pipeline().run(imported)
    kernels = lower(imported).kernels
    assert max(map(operations, kernels)) <= MAX_EXPRESSION and len(kernels) < 10
