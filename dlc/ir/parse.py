"""The text of a graph (see `dlc.ir.text`) back to a graph."""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from dlc.errors import InputError, printable
from dlc.ir import dims
from dlc.ir.dims import Dim, Guard, Relation, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.graph import ElementSource, Graph, Node, ShapeSource, Value
from dlc.ir.operator import Array, Operator
from dlc.ir.text import digest
from dlc.ir.types import Fill, FillKind, Halo, Layout, OptionalType, SequenceType, TensorType, Type

_NAME = re.compile(r"[A-Za-z0-9_./-]+")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTEGER = re.compile(r"-?[0-9]+")
_FLOAT = re.compile(r"-?(?:[0-9]+\.[0-9]*(?:e[-+]?[0-9]+)?|[0-9]+e[-+]?[0-9]+|inf|nan)(?![\w.(])")
_RANGE = re.compile(r"(-?[0-9]+)?\.\.(-?[0-9]+)?")
_RELATIONS = {relation.value: relation for relation in Relation}
_RELATION = re.compile("==|!=|<=|<")

_DTYPES = {dtype.text: dtype for dtype in DType}

_Item = TypeVar("_Item")


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


class _Line:
    """A cursor over one statement."""

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text
        self.position = 0

    def fail(self, problem: str) -> InputError:
        """The error to raise about this place."""
        return InputError(f"line {self.number}, column {self.position + 1}: {problem}")

    def skip(self) -> None:
        """Go past blanks."""
        while self.position < len(self.text) and self.text[self.position] == " ":
            self.position += 1

    def accept(self, mark: str) -> bool:
        """Go past `mark` if it is next."""
        self.skip()
        if not self.text.startswith(mark, self.position):
            return False
        self.position += len(mark)
        return True

    def expect(self, mark: str) -> None:
        """Go past `mark`, which must be next."""
        if not self.accept(mark):
            raise self.fail(f"expected '{mark}'")

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """The text of `pattern` if it is next, going past it."""
        self.skip()
        found = pattern.match(self.text, self.position)
        if found is None:
            return None
        self.position = found.end()
        return found.group()

    def needed(self, pattern: re.Pattern[str], what: str) -> str:
        """The text of `pattern`, which must be next."""
        found = self.match(pattern)
        if found is None:
            raise self.fail(f"expected {what}")
        return found

    def quoted(self) -> str:
        """A quoted string."""
        self.skip()
        try:
            text, self.position = json.JSONDecoder().raw_decode(self.text, self.position)
        except ValueError:
            raise self.fail("expected a string") from None
        if not isinstance(text, str):
            raise self.fail("expected a string")
        return text

    def name(self) -> str:
        """A name, quoted or not."""
        self.skip()
        return (
            self.quoted()
            if self.text[self.position : self.position + 1] == '"'
            else self.needed(_NAME, "a name")
        )

    def integer(self) -> int:
        """An integer."""
        return int(self.needed(_INTEGER, "an integer"))

    def until(self, stops: str) -> str:
        """The text before the next of the characters `stops` that is outside of parentheses."""
        self.skip()
        start, depth = self.position, 0
        while self.position < len(self.text):
            character = self.text[self.position]
            if depth == 0 and character in stops:
                break
            depth += (character == "(") - (character == ")")
            self.position += 1
        return self.text[start : self.position].strip()

    def listed(self, item: Callable[[], _Item], end: str) -> list[_Item]:
        """Items separated by commas, up to and past `end`; a comma may stand before it."""
        items: list[_Item] = []
        while not self.accept(end):
            items.append(item())
            if not self.accept(","):
                self.expect(end)
                break
        return items

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        self.skip()
        return self.position == len(self.text)


class _Statements:
    """The lines of a text, one at a time."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines

    def next(self) -> _Line:
        """The next line; InputError at the end of the text."""
        for number, text in self._lines:
            return _Line(number, text)
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

    def parse(self, line: _Line) -> Graph:
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

    def _declaration(self, line: _Line) -> None:
        match line.needed(_WORD, "a statement"):
            case "symbol":
                self._symbol(line)
            case "guard":
                self._guard(line)
            case "input":
                name = self._reference(line)
                line.expect(":")
                value = self._define(line, Value(name, self._type(line)))
                self._graph.inputs.append(value)
            case "output":
                name = line.name()
                line.expect("=")
                self._graph.add_output(self._value(line), name)
            case word:
                raise line.fail(f"there is no statement '{word}'")

    def _symbol(self, line: _Line) -> None:
        name = line.needed(re.compile(r"[A-Za-z_][A-Za-z0-9_.]*"), "a symbol")
        low: int | None = 0
        high: int | None = None
        if line.accept(":"):
            bounds = _RANGE.fullmatch(line.needed(_RANGE, "a range"))
            low, high = (
                (None if bound is None else int(bound) for bound in bounds.groups()) if bounds else (0, None)
            )
        symbol = self._symbols[name] = Symbol(name, low, high)
        if line.accept("="):
            kind = line.needed(_WORD, "shape or element")
            if kind not in ("shape", "element"):
                raise line.fail(f"a symbol cannot come from '{kind}'")
            line.expect("(")
            value = self._reference(line)
            line.expect(",")
            source = ShapeSource if kind == "shape" else ElementSource
            self._graph.symbols[symbol] = source(value, line.integer())
            line.expect(")")

    def _guard(self, line: _Line) -> None:
        left = self._dim(line, "<=!")
        relation = _RELATIONS[line.needed(_RELATION, "a relation")]
        right = self._dim(line, ",")
        line.expect(",")
        message = line.quoted()
        line.expect(",")
        self._graph.guards.append(Guard(relation, left, right, message, line.quoted()))

    def _definition(self, line: _Line) -> None:
        """A constant or a node."""
        names = [self._reference(line)]
        while line.accept(","):
            names.append(self._reference(line))
        line.expect("=")
        if line.accept("constant "):
            type_ = self._type(line)
            if not isinstance(type_, TensorType):
                raise line.fail("a constant must be a tensor")
            self._define(line, Value(names[0], type_, self._content(line, type_)))
            return
        op = self._operator(line)
        line.expect("(")
        operands = line.listed(lambda: None if line.accept("_") else self._value(line), ")")
        line.expect(":")
        types = [self._type(line)]
        while line.accept(","):
            types.append(self._type(line))
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

    def _reference(self, line: _Line) -> str:
        line.expect("%")
        return line.name()

    def _value(self, line: _Line) -> Value:
        name = self._reference(line)
        if name not in self._values:
            raise line.fail(f"the value '{printable(name)}' is not defined before")
        return self._values[name]

    def _define(self, line: _Line, value: Value) -> Value:
        if value.name in self._values:
            raise line.fail(f"the value '{printable(value.name)}' is defined twice")
        self._values[value.name] = value
        return value

    def _dim(self, line: _Line, stops: str) -> Dim:
        start = line.position
        try:
            return dims.parse(line.until(stops), self._symbols)
        except InputError as error:
            line.position = start
            raise line.fail(error.message) from None

    def _content(self, line: _Line, type_: TensorType) -> Array:
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

    def _operator(self, line: _Line) -> Operator:
        name = line.needed(_WORD, "an operator")
        cls = operator_classes().get(name)
        if cls is None:
            raise line.fail(f"there is no operator '{name}'")
        line.expect("(")
        fields = dict(line.listed(lambda: self._field(line), ")"))
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            raise line.fail(f"{name}: {error}") from None

    def _field(self, line: _Line) -> tuple[str, object]:
        name = line.needed(_WORD, "a field")
        line.expect("=")
        return name, self._attribute(line)

    def _attribute(self, line: _Line) -> object:
        """The value of a field."""
        line.skip()
        if line.accept("("):
            return tuple(line.listed(lambda: self._attribute(line), ")"))
        if line.text.startswith('"', line.position):
            return line.quoted()
        number = line.match(_FLOAT)
        if number is not None:
            return float(number)
        start = line.position
        text = line.until(",)]")
        match text:
            case "none":
                return None
            case "true" | "false":
                return text == "true"
        if text in _DTYPES:
            return _DTYPES[text]
        line.position = start
        return self._dim(line, ",)]")

    def _type(self, line: _Line) -> Type:
        for word, kind in (("seq<", SequenceType), ("optional<", OptionalType)):
            if line.accept(word):
                element = self._type(line)
                line.expect(">")
                return kind(element)
        dtype = _DTYPES.get(line.needed(_WORD, "a type"))
        if dtype is None:
            raise line.fail("there is no such type")
        line.expect("[")
        shape = tuple(line.listed(lambda: self._dim(line, ",]"), "]"))
        return TensorType(dtype, shape, self._layout(line) if line.accept("<") else None)

    def _layout(self, line: _Line) -> Layout:
        order: list[tuple[int, int | None]] = []
        while True:
            axis = line.integer()
            order.append((axis, line.integer() if line.accept("b") else None))
            if not line.accept("."):
                break
        halos: list[Halo] = []
        while line.accept("halo("):
            axis, before, after = (self._followed_integer(line) for _ in range(3))
            halos.append(Halo(axis, before, after, self._fill(line)))
            line.expect(")")
        line.expect("pad(")
        pad = self._fill(line)
        line.expect(")")
        line.expect(">")
        return Layout(tuple(order), tuple(halos), pad)

    def _followed_integer(self, line: _Line) -> int:
        number = line.integer()
        line.expect(",")
        return number

    def _fill(self, line: _Line) -> Fill:
        word = line.needed(_WORD, "a fill")
        if word not in {kind.value for kind in FillKind}:
            raise line.fail(f"there is no fill '{word}'")
        if word != FillKind.VALUE.value:
            return Fill(FillKind(word))
        line.expect("(")
        value = float(line.needed(re.compile(r"[-+.0-9a-z]+"), "a number"))
        line.expect(")")
        return Fill(FillKind.VALUE, value)
