"""Walking the graphs and nodes of an ONNX model, subgraphs included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that are attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all its subgraphs, outer ones first."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from all_graphs(inner)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of all its subgraphs."""
    for inner in all_graphs(graph):
        yield from inner.node


def with_subgraphs(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """A node and the nodes of its subgraphs."""
    yield node
    for graph in subgraphs(node):
        yield from all_nodes(graph)


def read_names(node: onnx.NodeProto) -> set[str]:
    """The names that a node reads, those of its subgraphs that they do not define included."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        inner = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
        for child in graph.node:
            names |= read_names(child) - inner
            inner |= set(child.output)
        names |= {info.name for info in graph.output} - inner
    return names
