"""The end of an import: what only served to compute shapes goes, and the symbols in use get their sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dlc.frontend.onnx.content_elements import is_integer
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, Symbol, free_symbols
from dlc.ir.dtypes import DType
from dlc.ir.graph import ElementSource, Graph, Node, ShapeSource, Value
from dlc.ir.operator import operator_dims
from dlc.ir.ops.movement import DimTensor
from dlc.ir.ops.pointwise import Cast
from dlc.ir.types import TensorType

if TYPE_CHECKING:
    from dlc.frontend.onnx.contents import Contents

#: Symbol -> the value, and the flat position in it, of the element that it stands for.
Sources = Mapping[Symbol, tuple[Value, int]]


def remove_dead_nodes(graph: Graph, sources: Sources) -> None:
    """Erase the nodes that neither an output nor a symbol of a living node, output or guard needs."""
    living: set[Node] = set()
    seen: set[Symbol] = set()
    pending = list(graph.outputs)
    dims = [dim for guard in graph.guards for dim in (guard.left, guard.right)]
    while pending or dims:
        for symbol in {symbol for dim in dims for symbol in free_symbols(dim)} - seen:
            seen.add(symbol)
            if symbol in sources:
                pending.append(sources[symbol][0])
        dims = []
        while pending:
            value = pending.pop()
            dims += _type_dims(value)
            node = value.producer
            if node is not None and node not in living:
                living.add(node)
                pending += node.operands
                dims += node_dims(node)
    graph.erase(node for node in graph.nodes if node not in living)


def node_dims(node: Node) -> list[Dim]:
    """The dims that a node speaks of: in its attributes and in the types of its results."""
    return [*operator_dims(node.op), *(dim for value in node.outputs for dim in _type_dims(value))]


def _type_dims(value: Value) -> tuple[Dim, ...]:
    return value.type.shape if isinstance(value.type, TensorType) else ()


def materialize(graph: Graph, contents: Contents) -> None:
    """Replace integer values that hold numbers of input extents by DimTensors, and known ones by constants.

    Values from which symbols are bound stay, as do those that depend on run-time data.
    """
    kept = {value for value, _ in contents.sources.values()}
    for node in list(graph.nodes):
        for value in node.outputs:
            content = contents.known.get(value)
            if content is None or value in kept or (not value.uses and not graph.output_uses(value)):
                continue
            new = _replacement(graph, node, value, content.reshape(-1).tolist(), contents.sources)
            if new is not None:
                graph.replace_uses(value, new)


def _replacement(
    graph: Graph, node: Node, value: Value, elements: list[object], sources: Sources
) -> Value | None:
    """A value that holds `elements` in place of `value`, or None when it had better stay."""
    dtype = value.tensor.dtype
    if isinstance(node.op, DimTensor) or (isinstance(node.op, Cast) and _is_dim_tensor(node.inputs[0])):
        return None
    builder = GraphBuilder(graph, before=node, origin=node.origin)
    shape = value.tensor.static_shape
    if all(isinstance(element, int) for element in elements) and not dtype.is_float:
        return builder.constant(np.array(elements, dtype=dtype.numpy).reshape(shape), value.name)
    if not dtype.is_integer or not all(map(is_integer, elements)):  # type: ignore[arg-type]
        return None
    dims: list[Dim] = elements  # type: ignore[assignment]
    if any(symbol in sources for dim in dims for symbol in free_symbols(dim)):
        return None
    numbers = builder.add(DimTensor(tuple(dims), shape), names=[value.name])
    return numbers if dtype is DType.I64 else builder.add(Cast(dtype), numbers, names=[value.name])


def _is_dim_tensor(value: Value | None) -> bool:
    return value is not None and value.producer is not None and isinstance(value.producer.op, DimTensor)


def distinct_guards(graph: Graph) -> None:
    """Keep the first of several guards that say the same of the same dims."""
    graph.guards = list(
        {(guard.relation, guard.left, guard.right): guard for guard in reversed(graph.guards)}.values()
    )
    graph.guards.reverse()


def declare_sources(graph: Graph, sources: Sources) -> None:
    """Let `graph.symbols` hold the symbols of inputs, and of those bound to elements the ones that are in
    use.
    """
    used: set[Symbol] = set()
    for dim in (dim for guard in graph.guards for dim in (guard.left, guard.right)):
        used |= free_symbols(dim)
    for node in graph.nodes:
        for dim in node_dims(node):
            used |= free_symbols(dim)
    kept: dict[Symbol, ShapeSource | ElementSource] = dict(graph.symbols)
    for symbol, (value, index) in sources.items():
        if symbol in used:
            kept[symbol] = ElementSource(value.name, index)
    graph.symbols = kept
