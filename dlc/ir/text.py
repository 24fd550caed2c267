"""A graph as text, which `dlc.ir.parse` reads back: deterministic, one statement a line, ASCII only.

    graph main {
      symbol batch = shape(%x, 0)
      symbol n: .. = element(%count, 0)
      symbol rows = extent(%kept, 0)
      guard batch <= 64, "the cache has 64 rows", "node_7"
      input %x: f32[batch, 3]
      %w = constant f32[3, 2] [0.5, 1.0, -1.5, 2.0, 0.0, 1.0]
      %v = constant f32[512, 512] sha256:9f86d08188...
      %y = MatMul()(%x, %w) : f32[batch, 2] @ "fc1"
      output logits = %y
    }

A symbol's range stands after its name unless it is ``0..``; a symbol without a source belongs to an enclosing
graph or to no graph at all. Operators are written with their dataclass fields: none, true, false, integers,
floats, "strings", element types, dims, layouts, types, tuples of these. An absent operand is ``_``. Regions
follow their node in braces. Names that are more than letters, digits and ``_ . - /`` are quoted. Small
constants are written out where that keeps every bit; others are named by a digest, under which `constants`
gives the array.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator

import numpy as np

from dlc.errors import InternalError
from dlc.ir.dims import Dim, DimExpr, Guard, Symbol, free_symbols, sort_key, to_text as dim_text
from dlc.ir.dtypes import DType, Kind
from dlc.ir.graph import ElementSource, ExtentSource, Graph, Node, ShapeSource, Source, Value
from dlc.ir.operator import Array, Operator, operator_dims
from dlc.ir.types import (
    Layout,
    MapType,
    NoTensorType,
    OpenTensorType,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    type_dims,
)

#: The most elements of a constant that is written out.
MOST_INLINE = 16
#: Words of this text that a symbol cannot be named after.
RESERVED = frozenset(
    {"none", "true", "false", "inf", "nan", "min", "max", "mod", "floordiv", "ceildiv", "broadcast"}
    | {dtype.text for dtype in DType}
)

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_./-]+")


def to_text(graph: Graph, *, digests: bool = True) -> str:
    """The text of `graph`. Without `digests` large constants become ``...``, which costs nothing but does not
    parse.
    """
    return "\n".join(_graph_lines(graph, digests)) + "\n"


def constants(graph: Graph) -> dict[str, Array]:
    """The constants of `graph`, and of its regions, that its text names by digest."""
    found: dict[str, Array] = {}
    for value in graph.constants():
        if value.data is not None and inline_text(value.data, value.tensor.dtype) is None:
            found[digest(value.data, value.tensor.dtype)] = value.data
    for node in graph.nodes:
        for region in node.regions:
            found |= constants(region)
    return found


def digest(data: Array, dtype: DType) -> str:
    """A digest of a constant: its element type, shape and content."""
    content = hashlib.sha256(f"{dtype.text}{list(data.shape)}".encode())
    if dtype is DType.STRING:
        content.update(json.dumps([str(item) for item in data.reshape(-1).tolist()]).encode())
    else:
        content.update(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data)
    return content.hexdigest()


def quoted(text: str) -> str:
    """`text` in double quotes, with escapes for everything that is not printable ASCII."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def name_text(name: str) -> str:
    """A name, quoted where it holds anything unusual."""
    return name if _PLAIN_NAME.fullmatch(name) else quoted(name)


def value_text(value: Value | None) -> str:
    """A reference to a value; ``_`` for none."""
    return "_" if value is None else f"%{name_text(value.name)}"


def node_text(node: Node) -> str:
    """The statement of a node, its regions included."""
    return "\n".join(line.removeprefix("  ") for line in _node_lines(node, digests=False)) + "\n"


def type_text(type_: Type) -> str:
    """A type; its own text form."""
    return str(type_)


def attribute_text(item: object) -> str:
    """The value of an operator's field."""
    match item:
        case None:
            return "none"
        case bool():
            return "true" if item else "false"
        case int() | float():
            return repr(item)
        case str():
            return quoted(item)
        case DType():
            return item.text
        case DimExpr():
            return dim_text(item)
        case Layout():
            return str(item)
        case TensorType() | OpenTensorType() | NoTensorType() | MapType() | SequenceType() | OptionalType():
            return type_text(item)
        case tuple():
            inner = ", ".join(map(attribute_text, item))
            return f"({inner},)" if len(item) == 1 else f"({inner})"
    raise InternalError(f"a field of type {type(item).__name__} has no text form")


def operator_text(op: Operator) -> str:
    """An operator with all its fields."""
    fields = (f"{field.name}={attribute_text(getattr(op, field.name))}" for field in dataclasses.fields(op))
    return f"{op.name}({', '.join(fields)})"


def inline_text(data: Array, dtype: DType) -> str | None:
    """A small constant's elements in brackets; None for one that is large or that text would not keep."""
    if data.size > MOST_INLINE or dtype.kind is Kind.COMPLEX:
        return None
    items = data.reshape(-1)
    if dtype is DType.STRING:
        return f"[{', '.join(quoted(str(item)) for item in items.tolist())}]"
    if dtype is DType.BOOL:
        return f"[{', '.join('true' if item else 'false' for item in items.tolist())}]"
    if dtype.is_integer:
        return f"[{', '.join(str(int(item)) for item in items)}]"
    texts = [_float_text(item, dtype) for item in items]
    again = np.array([float(text) for text in texts], dtype=np.float64).astype(dtype.numpy)
    same = again.tobytes() == np.ascontiguousarray(items).tobytes()
    return f"[{', '.join(texts)}]" if same else None


def _float_text(item: np.generic, dtype: DType) -> str:
    """The shortest text for a float of NumPy's own types; exact, but longer, for the others."""
    return str(item) if dtype in (DType.F64, DType.F32, DType.F16) else repr(float(item))


def guard_text(guard: Guard) -> str:
    """A guard with its message and origin."""
    return f"{guard}, {quoted(guard.message)}, {quoted(guard.origin)}"


def symbol_text(symbol: Symbol, source: Source | None) -> str:
    """The declaration of a symbol."""
    default = (symbol.lo, symbol.hi) == (0, None)
    low, high = ("" if bound is None else str(bound) for bound in (symbol.lo, symbol.hi))
    declared = symbol.name if default else f"{symbol.name}: {low}..{high}"
    match source:
        case ShapeSource(value, axis):
            return f"{declared} = shape(%{name_text(value)}, {axis})"
        case ElementSource(value, index):
            return f"{declared} = element(%{name_text(value)}, {index})"
        case ExtentSource(value, axis):
            return f"{declared} = extent(%{name_text(value)}, {axis})"
    return declared


def _graph_lines(graph: Graph, digests: bool) -> Iterator[str]:
    yield f"graph {name_text(graph.name)} {{"
    for symbol, source in graph.symbols.items():
        yield f"  symbol {symbol_text(symbol, source)}"
    for symbol in _undeclared(graph):
        yield f"  symbol {symbol_text(symbol, None)}"
    for guard in graph.guards:
        yield f"  guard {guard_text(guard)}"
    for value in graph.inputs:
        yield f"  input {value_text(value)}: {type_text(value.type)}"
    written: set[Value] = set()
    for node in graph.nodes:
        for value in node.operands:
            yield from _constant_lines(value, written, digests)
        yield from _node_lines(node, digests)
    for value in graph.outputs:
        yield from _constant_lines(value, written, digests)
    for index, value in enumerate(graph.outputs):
        yield f"  output {name_text(graph.output_name(index))} = {value_text(value)}"
    yield "}"


def _undeclared(graph: Graph) -> list[Symbol]:
    """The symbols that the graph speaks of without a source, in their fixed order."""
    dims: list[Dim] = [dim for guard in graph.guards for dim in (guard.left, guard.right)]
    for value in graph.values():
        dims += type_dims(value.type)
    for node in graph.nodes:
        dims += operator_dims(node.op)
    found = {symbol for dim in dims for symbol in free_symbols(dim)}
    return sorted(found - graph.symbols.keys(), key=sort_key)


def _constant_lines(value: Value, written: set[Value], digests: bool) -> Iterator[str]:
    """The statement of a constant where it is first used."""
    if value.data is None or value in written:
        return
    written.add(value)
    content = inline_text(value.data, value.tensor.dtype)
    if content is None:
        content = f"sha256:{digest(value.data, value.tensor.dtype)}" if digests else "..."
    yield f"  {value_text(value)} = constant {type_text(value.type)} {content}"


def _node_lines(node: Node, digests: bool) -> Iterator[str]:
    results = ", ".join(map(value_text, node.outputs))
    operands = ", ".join(map(value_text, node.inputs))
    types = ", ".join(type_text(value.type) for value in node.outputs)
    origin = f" @ {', '.join(map(quoted, node.origin))}" if node.origin else ""
    line = f"  {results} = {operator_text(node.op)}({operands}) : {types}{origin}"
    if not node.regions:
        yield line
        return
    yield f"{line} {{"
    for region in node.regions:
        yield from (f"    {inner}" for inner in _graph_lines(region, digests))
    yield "  }"
