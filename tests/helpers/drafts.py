"""Writing ONNX graphs node by node, with weights that their names determine."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

FLOAT, HALF, INT64, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.UINT8


def weights(name: str, shape: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Values for a parameter, by its name: positive variances, gains about 1, small matrices."""
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rpartition(".")[2]
    if last == "running_var":
        values = generator.uniform(0.5, 1.5, shape)
    elif len(shape) <= 1:
        values = generator.normal(1.0 if last == "weight" else 0.0, 0.1, shape)
    else:
        values = generator.normal(0.0, (1.5 / max(1, int(np.prod(shape[1:])))) ** 0.5, shape)
    return values.astype(np.float32)


class Draft:
    """A graph in the making. Nodes are named after their first output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def add(
        self, operator: str, inputs: Sequence[str], outputs: str | Sequence[str], **attributes: Any
    ) -> str:
        """Append a node; returns the name of its first output."""
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        self.nodes.append(
            helper.make_node(operator, list(inputs), names, name=f"{operator}_{names[0]}", **attributes)
        )
        return names[0]

    def constant(self, name: str, values: Any, dtype: Any = np.float32) -> str:
        """An initializer with these values."""
        self.tensors.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weight(self, name: str, *shape: int, dtype: Any = np.float32) -> str:
        """An initializer with values that the name determines."""
        return self.constant(name, weights(name, shape), dtype)

    def model(
        self,
        inputs: Sequence[tuple[str, int, Sequence[int | str]]],
        outputs: Sequence[tuple[str, int, Sequence[int | str]]],
        opset: int,
    ) -> onnx.ModelProto:
        """The graph as a model."""
        values = [[helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, "direct", values[0], values[1], self.tensors)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 20 else 11
        )
