"""A run of a graph's nodes as a function of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.fuzz.sampling import Chance
from dlc.verify.protos import read_names, subgraphs

if TYPE_CHECKING:
    import onnx


def put_in_function(chance: Chance, model: onnx.ModelProto) -> None:
    """Replace some consecutive nodes by a call of a function that holds them; none if they would not do."""
    from onnx import helper

    nodes = list(model.graph.node)
    start = chance.between(0, len(nodes) - 1)
    end = chance.between(start, len(nodes) - 1) + 1
    inner, after = nodes[start:end], nodes[end:]
    made = [name for node in inner for name in node.output if name]
    wanted = {info.name for info in model.graph.output}.union(*map(read_names, after))
    inputs = sorted(set().union(*map(read_names, inner)) - set(made))
    outputs = [name for name in made if name in wanted]
    if not outputs or any(any(subgraphs(node)) for node in inner):  # what subgraphs capture is no input
        return
    function = helper.make_function("local", "part", inputs, outputs, inner, list(model.opset_import))
    call = helper.make_node("part", inputs, outputs, domain="local", name="call")
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:start], call, *after])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
