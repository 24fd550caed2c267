"""Taking nodes with regions apart and putting them together again."""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from dlc.ir.dims import Dim, Symbol, free_symbols, known_equal
from dlc.ir.graph import Graph, Node, ShapeSource, Value
from dlc.ir.operator import Operator, operator_dims
from dlc.ir.types import TensorType, Type, type_dims


def replace_node(graph: Graph, node: Node, op: Operator, inputs: Sequence[Value | None],
                 outputs: Sequence[Value]) -> Node:
    """Put `op` with the regions of `node` in its place. Of its results only `outputs` remain; nothing may
    need the others, and the symbols that were bound from them are forgotten.
    """
    _forget(graph, set(node.outputs) - set(outputs))
    node.inputs = ()
    new = Node(op, inputs, outputs, node.origin, node.regions)
    graph.nodes[graph.nodes.index(node)] = new
    return new


def erase_node(graph: Graph, node: Node) -> None:
    """Remove a node, whose results nothing needs, with the symbols that are bound from them."""
    _forget(graph, set(node.outputs))
    graph.erase([node])


def _forget(graph: Graph, values: set[Value]) -> None:
    """Drop the symbols that are bound from `values`."""
    gone = {value.name for value in values}
    for symbol, source in list(graph.symbols.items()):
        if not isinstance(source, ShapeSource) and source.value in gone:
            del graph.symbols[symbol]


def keep_outputs(region: Graph, positions: Iterable[int]) -> None:
    """Leave only these outputs to a region."""
    kept = list(positions)
    region.output_names = [region.output_name(position) for position in kept]
    region.outputs = [region.outputs[position] for position in kept]


def is_read(graph: Graph, value: Value) -> bool:
    """Whether a node, an output or a symbol of `graph` needs `value`."""
    named = (source.value == value.name for source in graph.symbols.values())
    return bool(value.uses) or graph.output_uses(value) or any(named)


def unread_results(graph: Graph, node: Node) -> set[int]:
    """The positions of the results of `node` that nothing needs: no reader, and no symbol that anything but
    the result's own type speaks of.
    """
    unread = {index for index, value in enumerate(node.outputs)
              if not value.uses and not graph.output_uses(value)}
    owners = {symbol: source.value for symbol, source in graph.symbols.items()
              if not isinstance(source, ShapeSource)}
    if not unread or not owners:
        return unread
    spoken: set[Symbol] = {symbol for guard in graph.guards for symbol in guard.free_symbols()}
    for other in graph.nodes:
        spoken |= symbols_of(operator_dims(other.op))
        for region in other.regions:
            spoken |= symbols_of(_region_dims(region))
        for value in other.outputs:
            spoken |= {symbol for symbol in symbols_of(type_dims(value.type))
                       if owners.get(symbol) != value.name}
    needed = {owners[symbol] for symbol in spoken if symbol in owners}
    return {index for index in unread if node.outputs[index].name not in needed}


def symbols_of(dims: Iterable[Dim]) -> set[Symbol]:
    """The symbols that any of `dims` speaks of."""
    return {symbol for dim in dims for symbol in free_symbols(dim)}


def _region_dims(region: Graph) -> Iterator[Dim]:
    for value in region.inputs:
        yield from type_dims(value.type)
    for guard in region.guards:
        yield from (guard.left, guard.right)
    for node in region.nodes:
        yield from node.dims()


def same_extents(left: Type, right: Type) -> bool:
    """Whether two types are the same, by what is known of their dims."""
    if isinstance(left, TensorType) and isinstance(right, TensorType):
        alike = left.dtype is right.dtype and left.rank == right.rank
        return alike and all(map(known_equal, left.shape, right.shape))
    return left == right


def inline(graph: Graph, node: Node, region: Graph, operands: Sequence[Value]) -> None:
    """Put the nodes of `region`, whose inputs are `operands`, in the place of `node`, of whose results the
    region's outputs have the types.
    """
    place = dict(zip(region.inputs, operands, strict=True))
    names = {inner.name: outer.name for inner, outer in place.items()}
    for value in list(region.values()):
        if value not in place:
            names[value.name] = graph.unique_name(value.name)
            value.name = names[value.name]
    for inner in region.nodes:
        inner.inputs = [None if value is None else place.get(value, value) for value in inner.inputs]
    position = graph.nodes.index(node)
    graph.nodes[position:position] = region.nodes
    for symbol, source in region.symbols.items():
        if not isinstance(source, ShapeSource):
            graph.symbols[symbol] = dataclasses.replace(source, value=names[source.value])
    graph.guards += [guard for guard in region.guards if guard not in graph.guards]
    for result, value in zip(node.outputs, region.outputs, strict=True):
        graph.replace_uses(result, place.get(value, value))
    erase_node(graph, node)
