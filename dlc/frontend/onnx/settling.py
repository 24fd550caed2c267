"""The end of an import: what only served to compute shapes goes, and the symbols in use get their sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc.frontend.onnx.content_elements import is_integer
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, free_symbols
from dlc.ir.dtypes import DType
from dlc.ir.graph import ElementSource, ExtentSource, Graph, Node, Value
from dlc.ir.liveness import remove_dead_nodes
from dlc.ir.ops.movement import DimTensor
from dlc.ir.ops.pointwise import Cast
from dlc.ir.widening import is_widening

if TYPE_CHECKING:
    from dlc.frontend.onnx.contents import Contents


def settle(graph: Graph, contents: Contents) -> None:
    """Drop what only served to compute shapes, and give the symbols that are still in use their sources.

    Values whose elements are numbers of input extents become DimTensors, known ones constants; nodes that no
    output needs are removed.
    """
    contents.update()
    for symbol, (value, index) in contents.sources.items():
        graph.symbols[symbol] = ElementSource(value.name, index)
    for symbol, (value, axis) in contents.extents.items():
        graph.symbols[symbol] = ExtentSource(value.name, axis)
    distinct_guards(graph)
    remove_dead_nodes(graph)
    materialize(graph, contents)
    remove_dead_nodes(graph)


def materialize(graph: Graph, contents: Contents) -> None:
    """Replace integer values that hold numbers of input extents by DimTensors, and known ones by constants.

    Values from which symbols are bound stay, as do those that depend on run-time data, and constants that a
    product reads in 8 bits.
    """
    kept = {value for value, _ in contents.sources.values()}
    nodes, graph.nodes = graph.nodes, []
    for node in nodes:
        for value in node.outputs:
            content = contents.known.get(value)
            if content is None or value in kept or not (value.uses or graph.output_uses(value)):
                continue
            if is_widening(node):
                continue
            new = _replacement(graph, node, value, content.reshape(-1).tolist(), contents)
            if new is not None:
                graph.replace_uses(value, new)
        graph.nodes.append(node)


def _replacement(
    graph: Graph, node: Node, value: Value, elements: list[object], contents: Contents
) -> Value | None:
    """A value that holds `elements` in place of `value`, or None when it had better stay."""
    dtype = value.tensor.dtype
    builder = GraphBuilder(graph, origin=node.origin)
    shape = value.tensor.static_shape
    if all(isinstance(element, int) for element in elements) and not dtype.is_float:
        return builder.constant(np.array(elements, dtype=dtype.numpy).reshape(shape), value.name)
    if isinstance(node.op, DimTensor) or (isinstance(node.op, Cast) and _is_dim_tensor(node.inputs[0])):
        return None
    if not dtype.is_integer or not all(map(is_integer, elements)):  # type: ignore[arg-type]
        return None
    dims: list[Dim] = elements  # type: ignore[assignment]
    if any(contents.is_run_time(symbol) for dim in dims for symbol in free_symbols(dim)):
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
