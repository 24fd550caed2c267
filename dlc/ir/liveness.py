"""What a graph needs: the nodes behind its outputs, and the symbols that these speak of."""

from __future__ import annotations

from dlc.ir.dims import Dim, Symbol, free_symbols
from dlc.ir.graph import Graph, Node, ShapeSource


def remove_dead_nodes(graph: Graph) -> int:
    """Erase the nodes that no output needs; returns their number.

    A value from which a symbol is bound is needed by what speaks of that symbol: living nodes, and guards.
    Symbols that nothing speaks of any more are forgotten, but for those that are extents of inputs.
    """
    values = {value.name: value for value in graph.values()}
    living: set[Node] = set()
    used: set[Symbol] = set()
    pending = list(graph.outputs)
    dims: list[Dim] = [dim for guard in graph.guards for dim in (guard.left, guard.right)]
    while pending or dims:
        for symbol in {symbol for dim in dims for symbol in free_symbols(dim)} - used:
            used.add(symbol)
            source = graph.symbols.get(symbol)
            if source is not None and not isinstance(source, ShapeSource):
                pending += [values[source.value]] if source.value in values else []
        dims = []
        while pending:
            node = pending.pop().producer
            if node is not None and node not in living:
                living.add(node)
                pending += node.operands
                dims += node.dims()
    dead = [node for node in graph.nodes if node not in living]
    graph.erase(dead)
    graph.symbols = {
        symbol: source
        for symbol, source in graph.symbols.items()
        if symbol in used or isinstance(source, ShapeSource)
    }
    return len(dead)
