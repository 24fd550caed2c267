"""The verifier: what must hold of every graph between passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from dlc.errors import InternalError, printable
from dlc.ir.dims import Dim, Symbol, free_symbols, known_equal
from dlc.ir.dtypes import from_numpy
from dlc.ir.graph import ElementSource, ExtentSource, Graph, ShapeSource, Value
from dlc.ir.operator import InferenceError, operator_dims
from dlc.ir.regions import region_problems
from dlc.ir.text import RESERVED
from dlc.ir.types import TensorType, Type, type_dims

_SHOWN = 20


def verify(graph: Graph) -> None:
    """InternalError that lists what is wrong with `graph`, if anything is.

    Holds of a sound graph: names are unique; each operand is an input, a constant or a result of an earlier
    node of the same graph; producers and uses agree with the nodes; constants fit their types; the types of
    results are what inference gives; each symbol has a source and is bound before a node speaks of it;
    regions are sound graphs.
    """
    problems = list(violations(graph))
    if problems:
        shown = "\n".join(f"  {printable(problem, 500)}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InternalError(f"the graph is not sound:\n{shown}{more}")


def violations(graph: Graph, outer: Iterable[Symbol] = ()) -> Iterator[str]:
    """What is wrong with `graph`, one sentence each; `outer` are the symbols of the graphs around it."""
    yield from _names(graph)
    yield from _def_use(graph)
    yield from _constants(graph)
    yield from _types(graph)
    yield from _symbols(graph, frozenset(outer))
    for node in graph.nodes:
        yield from region_problems(node)
        for region in node.regions:
            known = {*outer, *graph.symbols}
            yield from (
                f"in region {region.name} of {node}: {problem}" for problem in violations(region, known)
            )


def _names(graph: Graph) -> Iterator[str]:
    seen: set[str] = set()
    for value in graph.values():
        if value.name in seen:
            yield f"the name %{value.name} stands for two values"
        seen.add(value.name)
    outputs = [graph.output_name(index) for index in range(len(graph.outputs))]
    if len(set(outputs)) < len(outputs):
        yield "two outputs have one name"
    if len(graph.output_names) > len(graph.outputs):
        yield f"{len(graph.output_names)} names are given to {len(graph.outputs)} outputs"


def _def_use(graph: Graph) -> Iterator[str]:
    defined: set[Value] = set(graph.inputs)
    for value in graph.inputs:
        if value.producer is not None or value.data is not None:
            yield f"the input %{value.name} is also a constant or a node's result"
    nodes = set(graph.nodes)
    if len(nodes) < len(graph.nodes):
        yield "a node stands twice in the list"
    for node in graph.nodes:
        for operand in node.operands:
            if operand.data is None and operand not in defined:
                yield f"{node} reads %{operand.name}, which is not defined before it in this graph"
            if node not in operand.uses:
                yield f"%{operand.name} does not know that {node} reads it"
        for index, output in enumerate(node.outputs):
            if output.producer is not node or output.index != index:
                yield f"%{output.name} is not known to be result {index} of {node}"
            if output in defined:
                yield f"%{output.name} is defined twice"
            defined.add(output)
    for value in graph.values():
        for user in value.uses:
            if user not in nodes or value not in user.operands:
                yield f"%{value.name} is said to be read by {user}, which does not, or is not in this graph"
    for value in graph.outputs:
        if value.data is None and value not in defined:
            yield f"the output %{value.name} is not defined in this graph"


def _constants(graph: Graph) -> Iterator[str]:
    for value in graph.values():
        if value.data is None:
            continue
        if value.producer is not None:
            yield f"the constant %{value.name} has a producer"
        if not isinstance(value.type, TensorType):
            yield f"the constant %{value.name} is no tensor"
        elif value.data.shape != value.type.shape or from_numpy(value.data.dtype) is not value.type.dtype:
            held = f"{value.data.dtype}{list(value.data.shape)}"
            yield f"the constant %{value.name} holds {held}, not {value.type}"


def _types(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        try:
            types = node.op.infer([None if value is None else value.type for value in node.inputs])
        except InferenceError as error:
            yield f"{node} does not accept its operands: {error}"
            continue
        if len(types) != len(node.outputs):
            yield f"{node} has {len(node.outputs)} results where its operator gives {len(types)}"
        for output, type_ in zip(node.outputs, types):
            if not _same_type(output.type, type_):
                yield f"%{output.name} of {node} is {output.type}, but inference gives {type_}"


def _same_type(left: Type, right: Type) -> bool:
    """Whether two types agree; a layout counts only where both have one."""
    if not isinstance(left, TensorType) or not isinstance(right, TensorType):
        return left == right
    layouts_agree = left.layout == right.layout or left.layout is None or right.layout is None
    return (
        left.dtype is right.dtype
        and layouts_agree
        and left.rank == right.rank
        and all(map(known_equal, left.shape, right.shape))
    )


def _symbols(graph: Graph, outer: frozenset[Symbol]) -> Iterator[str]:
    yield from _sources(graph)
    available = set(outer)
    available |= {symbol for symbol, source in graph.symbols.items() if isinstance(source, ShapeSource)}
    elements: dict[str, list[Symbol]] = {}
    extents: dict[str, list[Symbol]] = {}
    for symbol, source in graph.symbols.items():
        if isinstance(source, ElementSource):
            elements.setdefault(source.value, []).append(symbol)
        elif isinstance(source, ExtentSource):
            extents.setdefault(source.value, []).append(symbol)
    for value in itertools.chain(graph.inputs, graph.constants()):
        yield from _unbound(type_dims(value.type), available, f"the type of %{value.name}")
        available.update(elements.get(value.name, ()))
    for node in graph.nodes:
        yield from _unbound(operator_dims(node.op), available, f"an attribute of {node}")
        for output in node.outputs:
            available.update(extents.get(output.name, ()))
        # A result may be what its own extent is bound from only if it is a number; its type comes first.
        for output in node.outputs:
            yield from _unbound(type_dims(output.type), available, f"the type of %{output.name}")
        for output in node.outputs:
            available.update(elements.get(output.name, ()))
    for guard in graph.guards:
        yield from _unbound((guard.left, guard.right), available, f"the guard {guard}")


def _unbound(dims: Iterable[Dim], available: set[Symbol], what: str) -> Iterator[str]:
    for name in sorted(
        {symbol.name for dim in dims for symbol in free_symbols(dim) if symbol not in available}
    ):
        yield f"{what} speaks of the symbol {name}, which is not bound there"


def _has_element(type_: TensorType, index: int) -> bool:
    """Whether a tensor holds integers and has an element at the flat position `index`."""
    return type_.dtype.is_integer and type_.is_static and 0 <= index < math.prod(type_.static_shape)


def _sources(graph: Graph) -> Iterator[str]:
    """Whether each symbol's source exists, and no two symbols share a name."""
    names = [symbol.name for symbol in graph.symbols]
    for name in sorted({name for name in names if names.count(name) > 1 or name in RESERVED}):
        yield f"the symbol name {name} is not unique, or a word of the text form"
    values = {value.name: value for value in graph.values()}
    inputs = {value.name for value in graph.inputs}
    for symbol, source in graph.symbols.items():
        value = values.get(source.value)
        type_ = None if value is None else value.type
        if not isinstance(type_, TensorType):
            yield f"the symbol {symbol.name} comes from %{source.value}, which is no tensor of the graph"
        elif isinstance(source, ShapeSource):
            extents = type_.shape
            if (
                source.value not in inputs
                or not source.axis < len(extents)
                or extents[source.axis] is not symbol
            ):
                yield f"the symbol {symbol.name} is not extent {source.axis} of an input %{source.value}"
        elif isinstance(source, ExtentSource):
            if not source.axis < type_.rank:
                yield f"the symbol {symbol.name} is not extent {source.axis} of %{source.value}, {type_}"
        elif not _has_element(type_, source.index):
            element = f"element {source.index} of an integer tensor %{source.value}"
            yield f"the symbol {symbol.name} is not {element}"
