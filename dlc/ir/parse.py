"""The text of a graph (see `dlc.ir.text`) back to a graph."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from dlc.errors import InputError, printable
from dlc.ir.dims import Guard, Relation, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.graph import ElementSource, ExtentSource, Graph, Node, ShapeSource, Source, Value
from dlc.ir.operator import Array, Operator
from dlc.ir.reading import DTYPES, FLOAT, WORD, Line, read_dim, read_layout, read_symbol, read_type
from dlc.ir.text import digest
from dlc.ir.types import TensorType

_RELATIONS = {relation.value: relation for relation in Relation}
_SOURCES: dict[str, Callable[[str, int], Source]] = {
    "shape": ShapeSource,
    "element": ElementSource,
    "extent": ExtentSource,
}
_TYPE = re.compile(rf"(?=(?:{'|'.join(DTYPES)})\[|(?:seq|optional|map)<)")
_RELATION = re.compile("==|!=|<=|<")


def parse(text: str, constants: Mapping[str, Array] | None = None) -> Graph:
    """The graph that `text` denotes; `constants` gives the arrays that it names by digest.

    Raises InputError with the line for a syntax error, an unknown operator, value or digest. The result is
    not verified: see `dlc.ir.verify`.
    """
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    statements = _Statements((number, line) for number, line in lines if line and not line.startswith("#"))
    line = statements.next()
    line.expect("graph")
    return _GraphParser(statements, constants or {}, {}).parse(line)


@functools.cache
def operator_classes() -> Mapping[str, type[Operator]]:
    """The operators of `dlc.ir.ops` by name."""
    package = importlib.import_module("dlc.ir.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    found: dict[str, type[Operator]] = {}
    pending: list[type[Operator]] = [Operator]
    while pending:
        cls = pending.pop()
        pending += cls.__subclasses__()
        found[cls.__name__] = cls
    return found


class _Statements:
    """The lines of a text, one at a time."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines

    def next(self) -> Line:
        """The next line; InputError at the end of the text."""
        for number, text in self._lines:
            return Line(number, text)
        raise InputError("the text ends within a graph")


class _GraphParser:
    """Parses one graph; `symbols` are those of the graphs around it, which it may use."""

    def __init__(
        self, statements: _Statements, constants: Mapping[str, Array], symbols: Mapping[str, Symbol]
    ) -> None:
        self._statements = statements
        self._constants = constants
        self._symbols = dict(symbols)
        self._values: dict[str, Value] = {}
        self._graph = Graph()

    def parse(self, line: Line) -> Graph:
        """The graph whose first line, after the word "graph", is `line`."""
        self._graph.name = line.name()
        line.expect("{")
        while True:
            line = self._statements.next()
            if line.accept("}"):
                self._graph.reserve(self._values)
                return self._graph
            if line.text.startswith("%"):
                self._definition(line)
            else:
                self._declaration(line)
            if not line.at_end:
                raise line.fail("expected the end of the line")

    def _declaration(self, line: Line) -> None:
        match line.needed(WORD, "a statement"):
            case "symbol":
                self._symbol(line)
            case "guard":
                self._guard(line)
            case "input":
                name = self._reference(line)
                line.expect(":")
                value = self._define(line, Value(name, read_type(line, self._symbols)))
                self._graph.inputs.append(value)
            case "output":
                name = line.name()
                line.expect("=")
                self._graph.add_output(self._value(line), name)
            case word:
                raise line.fail(f"there is no statement '{word}'")

    def _symbol(self, line: Line) -> None:
        symbol = read_symbol(line)
        self._symbols[symbol.name] = symbol
        if line.accept("="):
            kind = line.needed(WORD, "shape, element or extent")
            if kind not in _SOURCES:
                raise line.fail(f"a symbol cannot come from '{kind}'")
            line.expect("(")
            value = self._reference(line)
            line.expect(",")
            self._graph.symbols[symbol] = _SOURCES[kind](value, line.integer())
            line.expect(")")

    def _guard(self, line: Line) -> None:
        left = read_dim(line, "<=!", self._symbols)
        relation = _RELATIONS[line.needed(_RELATION, "a relation")]
        right = read_dim(line, ",", self._symbols)
        line.expect(",")
        message = line.quoted()
        line.expect(",")
        self._graph.guards.append(Guard(relation, left, right, message, line.quoted()))

    def _definition(self, line: Line) -> None:
        """A constant or a node."""
        names = [self._reference(line)]
        while line.accept(","):
            names.append(self._reference(line))
        line.expect("=")
        if line.accept("constant "):
            type_ = read_type(line, self._symbols)
            if not isinstance(type_, TensorType):
                raise line.fail("a constant must be a tensor")
            self._define(line, Value(names[0], type_, self._content(line, type_)))
            return
        op = self._operator(line)
        line.expect("(")
        operands = line.listed(lambda: None if line.accept("_") else self._value(line), ")")
        line.expect(":")
        types = [read_type(line, self._symbols)]
        while line.accept(","):
            types.append(read_type(line, self._symbols))
        origin: list[str] = []
        if line.accept("@"):
            origin.append(line.quoted())
            while line.accept(","):
                origin.append(line.quoted())
        if len(types) != len(names):
            raise line.fail(f"{len(names)} results have {len(types)} types")
        outputs = [self._define(line, Value(name, type_)) for name, type_ in zip(names, types)]
        regions = list(self._regions()) if line.accept("{") else []
        self._graph.nodes.append(Node(op, operands, outputs, tuple(origin), regions))

    def _regions(self) -> Iterator[Graph]:
        while not (line := self._statements.next()).accept("}"):
            line.expect("graph")
            yield _GraphParser(self._statements, self._constants, self._symbols).parse(line)

    # --- parts of a statement

    def _reference(self, line: Line) -> str:
        line.expect("%")
        return line.name()

    def _value(self, line: Line) -> Value:
        name = self._reference(line)
        if name not in self._values:
            raise line.fail(f"the value '{printable(name)}' is not defined before")
        return self._values[name]

    def _define(self, line: Line, value: Value) -> Value:
        if value.name in self._values:
            raise line.fail(f"the value '{printable(value.name)}' is defined twice")
        self._values[value.name] = value
        return value

    def _content(self, line: Line, type_: TensorType) -> Array:
        """The elements of a constant: written out, or looked up by digest."""
        shape = type_.static_shape
        if line.accept("sha256:"):
            key = line.needed(re.compile("[0-9a-f]+"), "a digest")
            if key not in self._constants:
                raise line.fail(f"no constant with digest {key} is given")
            data = self._constants[key]
            if data.shape != shape or digest(data, type_.dtype) != key:
                raise line.fail(f"the constant with digest {key} is another one")
            return data
        line.expect("[")
        items = line.listed(lambda: self._attribute(line), "]")
        if type_.dtype is DType.STRING:
            data = np.array([str(item) for item in items], dtype=object)
        elif type_.dtype.is_float:
            data = np.array([float(item) for item in items], dtype=np.float64).astype(type_.dtype.numpy)  # type: ignore[arg-type]
        else:
            data = np.array(items, dtype=np.uint64 if type_.dtype is DType.U64 else np.int64).astype(
                type_.dtype.numpy
            )
        if data.size != type_.elements:
            raise line.fail(f"{data.size} elements do not fill {type_}")
        data = data.reshape(shape)
        data.flags.writeable = False
        return data

    def _operator(self, line: Line) -> Operator:
        name = line.needed(WORD, "an operator")
        cls = operator_classes().get(name)
        if cls is None:
            raise line.fail(f"there is no operator '{name}'")
        line.expect("(")
        fields = dict(line.listed(lambda: self._field(line), ")"))
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise line.fail(f"{name}: {error}") from None

    def _field(self, line: Line) -> tuple[str, object]:
        name = line.needed(WORD, "a field")
        line.expect("=")
        return name, self._attribute(line)

    def _attribute(self, line: Line) -> object:
        """The value of a field."""
        line.skip()
        if line.accept("("):
            return tuple(line.listed(lambda: self._attribute(line), ")"))
        if line.text.startswith('"', line.position):
            return line.quoted()
        if line.accept("<"):
            return read_layout(line)
        if line.match(_TYPE) is not None:
            return read_type(line, self._symbols)
        number = line.match(FLOAT)
        if number is not None:
            return float(number)
        start = line.position
        text = line.until(",)]")
        match text:
            case "none":
                return None
            case "true" | "false":
                return text == "true"
        if text in DTYPES:
            return DTYPES[text]
        line.position = start
        return read_dim(line, ",)]", self._symbols)
