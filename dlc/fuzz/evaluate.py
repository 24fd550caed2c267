"""What one node computes, by the ONNX reference or, where that fails, by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dlc.errors import UnsupportedError
from dlc.fuzz.case import Array
from dlc.verify.engines import Engine, OnnxRuntime, Reference

if TYPE_CHECKING:
    import onnx

#: The IR version that goes with the opsets in use: the last before types that old runtimes refuse.
IR_VERSION = 8


def evaluate_node(node: onnx.NodeProto, operands: Mapping[str, Array], opset: int) -> list[Array] | None:
    """The node's outputs, each a tensor; None if neither engine can run it or one is no tensor."""
    from onnx import ValueInfoProto, helper

    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in operands.items()
    ]
    names = [name for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, [ValueInfoProto(name=name) for name in names])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version(opset)
    )
    for engine in (Reference, OnnxRuntime):
        try:
            runner: Engine = engine(model)
            results = runner.run(operands)
        except UnsupportedError:
            continue
        arrays = [results[name] for name in names]
        if all(isinstance(array, np.ndarray) for array in arrays):
            return [np.asarray(array) for array in arrays]
    return None


def ir_version(opset: int) -> int:
    """An IR version that knows the types of `opset`."""
    return IR_VERSION if opset < 19 else 9 if opset < 21 else 10
