"""The meaning of a graph: run it in NumPy, node by node."""

from __future__ import annotations

from collections.abc import Mapping

from dlc.errors import InputError
from dlc.ir.dims import Dim, evaluate as evaluate_dim, free_symbols
from dlc.ir.graph import ElementSource, Graph, ShapeSource, Value
from dlc.ir.operator import Array
from dlc.ir.types import TensorType


def bind_symbols(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, int]:
    """Numbers of the symbols that are extents of inputs, read from the arrays' shapes.

    Raises InputError when an array contradicts its declared shape or a guard fails.
    """
    env: dict[str, int] = {}
    for symbol, source in graph.symbols.items():
        if isinstance(source, ShapeSource):
            env[symbol.name] = feeds[source.value].shape[source.axis]
    for value in graph.inputs:
        if isinstance(value.type, TensorType):
            wanted = tuple(evaluate_dim(dim, env) for dim in value.type.shape)
            if feeds[value.name].shape != wanted:
                raise InputError(
                    f"input {value.name!r} has shape {feeds[value.name].shape}, but {wanted} is needed"
                )
    return env


def evaluate(
    graph: Graph, feeds: Mapping[str, Array], keep: Mapping[str, None] | None = None
) -> dict[str, Array]:
    """Evaluate `graph` on `feeds` (by input name); returns its outputs, and the values named in `keep`, by
    name
    (an output by its own name and by that of its value)."""
    env = bind_symbols(graph, feeds)
    arrays: dict[Value, Array] = {value: feeds[value.name] for value in graph.inputs}
    elements: dict[str, list[tuple[str, int]]] = {}
    for symbol, source in graph.symbols.items():
        if isinstance(source, ElementSource):
            elements.setdefault(source.value, []).append((symbol.name, source.index))

    def dim(extent: Dim) -> int:
        return evaluate_dim(extent, env)

    def array(value: Value) -> Array:
        return arrays[value] if value.data is None else value.data

    for guard in graph.guards:
        names = {s.name for d in (guard.left, guard.right) for s in free_symbols(d)}
        if names <= env.keys() and not guard.holds(env):
            raise InputError(guard.message, node=guard.origin)
    for value in graph.inputs:
        for name, index in elements.get(value.name, ()):
            env[name] = int(feeds[value.name].reshape(-1)[index])
    remaining = {value: len(value.uses) for node in graph.nodes for value in node.operands}
    wanted = {value for value in graph.values() if keep is not None and value.name in keep} | set(
        graph.outputs
    )
    for node in graph.nodes:
        operands = [None if value is None else array(value) for value in node.inputs]
        for value, result in zip(node.outputs, node.op.evaluate(operands, dim), strict=True):
            arrays[value] = result
            for name, index in elements.get(value.name, ()):
                env[name] = int(result.reshape(-1)[index])
        for value in set(node.operands):
            remaining[value] -= 1
            if not remaining[value] and value not in wanted and value.data is None:
                del arrays[value]
    results = {value.name: array(value) for value in wanted}
    return results | {graph.output_name(index): array(value) for index, value in enumerate(graph.outputs)}
