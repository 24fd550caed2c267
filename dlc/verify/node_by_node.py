"""Running a model node by node, each by an engine that can: where no engine runs all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from dlc.errors import UnsupportedError
from dlc.verify.compare import Array, Value
from dlc.verify.engines import Engine, Values
from dlc.verify.protos import read_names

if TYPE_CHECKING:
    import onnx

EngineFactory: TypeAlias = "Callable[[onnx.ModelProto], Engine]"


class NodeByNode:
    """An engine that gives each node to the first of `engines` that runs it. All values must be tensors.

    `substituted` holds the operators of the nodes that, in the last run, the first of them could not run.
    """

    def __init__(self, model: onnx.ModelProto, engines: Sequence[EngineFactory]) -> None:
        self.name = "node by node"
        self._model = model
        self._engines = engines
        self.substituted: frozenset[str] = frozenset()

    def run(self, inputs: Values) -> dict[str, Value]:
        """The model's outputs by name; UnsupportedError where no engine runs a node."""
        from onnx import numpy_helper

        graph = self._model.graph
        values: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        for name, value in inputs.items():
            if not isinstance(value, np.ndarray):
                raise UnsupportedError("only models of tensors can be run node by node")
            values[name] = value
        substituted = set()
        for node in graph.node:
            operands = {name: values[name] for name in sorted(read_names(node)) if name in values}
            results = run_node(node, operands, self._model, self._engines[:1])
            if results is None:
                substituted.add(node.op_type)
                results = run_node(node, operands, self._model, self._engines[1:])
            if results is None:
                raise UnsupportedError(f"no engine runs a node {node.op_type}")
            values |= results
        self.substituted = frozenset(substituted)
        return {info.name: values[info.name] for info in graph.output}


def run_node(
    node: onnx.NodeProto,
    operands: Mapping[str, Array],
    model: onnx.ModelProto,
    engines: Sequence[EngineFactory],
) -> dict[str, Array] | None:
    """The outputs of one node of `model`; None if no engine runs it, or one of them is no tensor."""
    from onnx import ValueInfoProto, helper

    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in operands.items()
    ]
    outputs = [ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, outputs)
    alone = helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        functions=model.functions,
    )
    for factory in engines:
        try:
            results = factory(alone).run(operands)
        except UnsupportedError:
            continue
        if all(isinstance(value, np.ndarray) for value in results.values()):
            return {name: np.asarray(value) for name, value in results.items()}
    return None
