"""Which nodes of a model draw random numbers: engines draw different ones, so that results may differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dlc.errors import printable
from dlc.frontend.onnx.functions import all_nodes

if TYPE_CHECKING:
    import onnx

_DRAWING = frozenset(
    "Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()
)


def drawing_nodes(model: onnx.ModelProto) -> list[str]:
    """The nodes that draw, or may draw, random numbers: in subgraphs and functions, too."""
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    return [
        printable(node.name or node.op_type)
        for nodes in (model.graph.node, *(function.node for function in model.functions))
        for node in _standard(all_nodes(nodes))
        if node.op_type in _DRAWING or (node.op_type == "Dropout" and _may_drop(node, version))
    ]


def _standard(nodes: Iterator[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    return (node for node in nodes if node.domain in ("", "ai.onnx"))


def _may_drop(node: onnx.NodeProto, version: int) -> bool:
    """Whether a Dropout may be in training mode: by an attribute before opset 7, by an operand since 12."""
    if version < 7:
        return not any(attribute.name == "is_test" and attribute.i for attribute in node.attribute)
    return len(node.input) > 2 and bool(node.input[2])
