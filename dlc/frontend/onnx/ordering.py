"""The order of a graph's nodes, and the rules of ONNX on names: defined once, before use, without cycles."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from dlc.errors import ModelError, printable
from dlc.frontend.onnx.functions import subgraphs

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


def captured_names(graph: GraphProto) -> dict[str, None]:
    """The names that a subgraph, and the subgraphs within it, read from outside, in order of first use."""
    free: dict[str, None] = {}
    defined = {
        *(item.name for item in graph.input),
        *(item.name for item in graph.initializer),
        *(item.values.name for item in graph.sparse_initializer),
    }
    for node in graph.node:
        defined.update(node.output)
    for name in (
        *(name for node in graph.node for name in read_names(node)),
        *(item.name for item in graph.output),
    ):
        if name and name not in defined:
            free[name] = None
    return free


def read_names(node: NodeProto) -> Iterator[str]:
    """The names that a node reads: its operands, and what its subgraphs take from around them."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        yield from captured_names(graph)


def ordered(
    nodes: Sequence[NodeProto], defines: Callable[[str], bool], sees: Callable[[str], bool]
) -> list[int]:
    """Positions of `nodes` in an order in which each name is defined before it is read.

    Among the nodes that are ready, the one that stands first in the file comes next, so that a file in order
    keeps it. `defines` tells the names of inputs and initializers, `sees` those of the graphs around as well.
    Raises ModelError (code "model/graph") for a name defined twice or never, and for a cycle.
    """
    producer: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in producer or defines(name):
                raise ModelError(
                    f"the name '{printable(name)}' is defined twice",
                    node=node.name or node.op_type,
                    code="model/graph",
                )
            producer[name] = position
    waiting: list[int] = []
    readers: list[list[int]] = [[] for _ in nodes]
    for position, node in enumerate(nodes):
        sources: set[int] = set()
        for name in read_names(node):
            if name in producer:
                sources.add(producer[name])
            elif not sees(name):
                raise ModelError(
                    f"the name '{printable(name)}' is read but never defined",
                    node=node.name or node.op_type,
                    code="model/graph",
                )
        for source in sources:
            readers[source].append(position)
        waiting.append(len(sources))
    ready = [position for position, count in enumerate(waiting) if not count]
    order: list[int] = []
    while ready:
        position = heapq.heappop(ready)
        order.append(position)
        for reader in readers[position]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(nodes):
        stuck = nodes[next(position for position, count in enumerate(waiting) if count)]
        raise ModelError(
            "nodes read each other's results in a cycle", node=stuck.name or stuck.op_type, code="model/graph"
        )
    return order
