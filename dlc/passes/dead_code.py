"""Removal of nodes whose results nobody reads."""
from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from dlc.ir.dims import Dim, free_symbols
from dlc.ir.graph import Graph, Node, ShapeSource
from dlc.ir.liveness import drop_unread_captures
from dlc.ir.operator import operator_dims
from dlc.ir.types import type_dims
from dlc.passes.pass_base import Numerics, Pass, Property, Statistics


@dataclasses.dataclass(frozen=True)
class DeadCode(Pass):
    """Keep what an output, or a symbol that something live speaks of, depends on; drop all other nodes.

    Graph inputs stay, whether read or not. A node with regions lives and dies as a whole; what its regions do
    not read, it does not either.

    Example: with output %y only,

        %a = Unary(fn="exp")(%x)
        %y = Unary(fn="neg")(%x)

    becomes

        %y = Unary(fn="neg")(%x)
    """

    name: ClassVar[str] = "dead-code"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    ensures: ClassVar[frozenset[Property]] = frozenset({Property.LIVE})
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def apply(self, graph: Graph) -> Statistics:
        for node in graph.nodes:
            drop_unread_captures(node)
        live = live_nodes(graph)
        dead = [node for node in graph.nodes if node not in live]
        graph.erase(dead)
        gone = {value.name for node in dead for value in node.outputs}
        for symbol, source in list(graph.symbols.items()):
            if not isinstance(source, ShapeSource) and source.value in gone:
                del graph.symbols[symbol]
        return Statistics(collections.Counter({"remove": len(dead)} if dead else {}))


def live_nodes(graph: Graph) -> set[Node]:
    """The nodes on which the outputs, the guards and the symbols that live nodes speak of depend."""
    producers = {value.name: node for node in graph.nodes for value in node.outputs}
    binders = {symbol: producers[source.value] for symbol, source in graph.symbols.items()
               if not isinstance(source, ShapeSource) and source.value in producers}
    pending = [value.producer for value in graph.outputs if value.producer is not None]
    for guard in graph.guards:
        pending += [binders[symbol] for symbol in guard.free_symbols() if symbol in binders]
    for value in (*graph.inputs, *graph.outputs):
        pending += [binders[symbol] for dim in type_dims(value.type) for symbol in free_symbols(dim)
                    if symbol in binders]
    live: set[Node] = set()
    while pending:
        node = pending.pop()
        if node in live:
            continue
        live.add(node)
        pending += [value.producer for value in node.operands if value.producer is not None]
        if binders:
            symbols = {symbol for dim in node_dims(node) for symbol in free_symbols(dim)}
            pending += [binders[symbol] for symbol in binders.keys() & symbols]
    return live


def node_dims(node: Node) -> Iterator[Dim]:
    """The dims that a node speaks of: in its operator, the types of its results, and its regions."""
    yield from operator_dims(node.op)
    for value in node.outputs:
        yield from type_dims(value.type)
    for region in node.regions:
        for value in region.inputs:
            yield from type_dims(value.type)
        for guard in region.guards:
            yield from (guard.left, guard.right)
        for inner in region.nodes:
            yield from node_dims(inner)
