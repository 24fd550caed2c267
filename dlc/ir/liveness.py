"""What a graph needs: the nodes behind its outputs, and the symbols that these speak of."""

from __future__ import annotations

from dlc.ir.dims import Dim, Symbol, free_symbols
from dlc.ir.graph import Graph, Node, ShapeSource, Value
from dlc.ir.ops.control import If, Loop


def remove_dead_nodes(graph: Graph) -> int:
    """Erase the nodes that no output needs; returns their number.

    A value from which a symbol is bound is needed by what speaks of that symbol: living nodes, and guards.
    Symbols that nothing speaks of any more are forgotten, but for those that are extents of inputs. Values
    that regions capture but do not read are no longer captured.
    """
    for each in graph.nodes:
        drop_unread_captures(each)
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


def drop_unread_captures(node: Node) -> None:
    """Take from `node` the captures that none of its regions reads, speaks of or gives back."""
    match node.op:
        case If():
            first, inner = 1, 0
        case Loop(carried=carried):
            first = inner = 1 + carried
        case _:
            return
    unread = [
        index
        for index in range(len(node.inputs) - first)
        if not any(_reads(region, region.inputs[inner + index]) for region in node.regions)
    ]
    if unread:
        node.inputs = [v for index, v in enumerate(node.inputs) if index - first not in unread]
        for region in node.regions:
            region.inputs = [v for index, v in enumerate(region.inputs) if index - inner not in unread]


def _reads(graph: Graph, value: Value) -> bool:
    """Whether a graph needs its input `value`."""
    sources = {source.value for source in graph.symbols.values()}
    return bool(value.uses) or graph.output_uses(value) or value.name in sources
