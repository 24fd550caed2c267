"""Other ways to write the same ONNX model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper


def copied(model: ModelProto) -> ModelProto:
    """An independent copy."""
    result = ModelProto()
    result.CopyFrom(model)
    return result


def with_identities(model: ModelProto) -> ModelProto:
    """An Identity behind each input, each initializer and each node's outputs."""
    model = copied(model)
    graph = model.graph
    outputs = {value.name for value in graph.output}
    nodes: list[NodeProto] = []
    current: dict[str, str] = {}

    def relay(name: str) -> None:
        current[name] = f"{name}/same"
        nodes.append(helper.make_node("Identity", [name], [current[name]]))

    for name in [*(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)]:
        if name not in current:
            relay(name)
    for node in graph.node:
        _rename_inputs(node, current)
        nodes.append(node)
        for name in node.output:
            if name and name not in outputs:
                relay(name)
    _replace(graph, nodes)
    return model


def renamed(model: ModelProto) -> ModelProto:
    """All inner values under names of the opposite order, nodes without names."""
    model = copied(model)
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    inner = [name for node in graph.node for name in node.output if name and name not in kept]
    inner += [tensor.name for tensor in graph.initializer if tensor.name not in kept]
    names = {name: f"v{len(inner) - number:05}" for number, name in enumerate(dict.fromkeys(inner))}
    for node in graph.node:
        _rename_inputs(node, names)
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = ""
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    del graph.value_info[:]
    graph.name = "another"
    return model


def reordered(model: ModelProto, seed: int) -> ModelProto:
    """The nodes in another order that respects the edges, the initializers in any."""
    model = copied(model)
    graph = model.graph
    generator = random.Random(seed)
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    waiting, nodes = list(graph.node), []
    while waiting:
        ready = [node for node in waiting if known.issuperset(_reads(node))]
        node = generator.choice(ready)
        waiting = [other for other in waiting if other is not node]
        nodes.append(node)
        known.update(node.output)
    tensors = list(graph.initializer)
    generator.shuffle(tensors)
    _replace(graph, nodes)
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return model


def outlined(model: ModelProto, length: int = 5) -> ModelProto:
    """Runs of `length` nodes as functions of the model, each called once; an initializer stays outside."""
    model = copied(model)
    graph = model.graph
    nodes, calls = list(graph.node), []
    outputs = {value.name for value in graph.output}
    for start in range(0, len(nodes), length):
        body = nodes[start : start + length]
        made = [name for node in body for name in node.output if name]
        read = {name for node in nodes[start + length :] for name in _reads(node)} | outputs
        taken = dict.fromkeys(name for node in body for name in _reads(node) if name and name not in made)
        given = [name for name in made if name in read]
        name = f"part{start}"
        model.functions.append(
            helper.make_function("outlined", name, list(taken), given, body, model.opset_import)
        )
        calls.append(helper.make_node(name, list(taken), given, domain="outlined"))
    model.opset_import.append(helper.make_opsetid("outlined", 1))
    _replace(graph, calls)
    return model


#: Each rewrite by name.
REWRITES: dict[str, Callable[[ModelProto], ModelProto]] = {
    "identities": with_identities,
    "renamed": renamed,
    "reordered": lambda model: reordered(model, 1),
    "reordered again": lambda model: reordered(model, 2),
    "functions": outlined,
}


def _reads(node: NodeProto) -> Iterator[str]:
    """What a node reads, directly or in its subgraphs."""
    yield from node.input
    for attribute in node.attribute:
        for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            made = {name for each in inner.node for name in each.output}
            made |= {tensor.name for tensor in inner.initializer} | {value.name for value in inner.input}
            yield from (name for each in inner.node for name in _reads(each) if name not in made)


def _rename_inputs(node: NodeProto, names: dict[str, str]) -> None:
    """Let a node read other values; models whose nodes hold subgraphs are not rewritten."""
    assert not any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
    node.input[:] = [names.get(name, name) for name in node.input]


def _replace(graph: GraphProto, nodes: list[NodeProto]) -> None:
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
