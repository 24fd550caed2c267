"""What the parsers of text forms share: a cursor over a line, and the dims and types that stand in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from dlc.errors import InputError
from dlc.ir import dims
from dlc.ir.dims import Dim, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.types import (
    ElementType,
    Fill,
    FillKind,
    Halo,
    Layout,
    MapType,
    NoTensorType,
    OpenTensorType,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
)

NAME = re.compile(r"[A-Za-z0-9_./-]+")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
INTEGER = re.compile(r"-?[0-9]+")
FLOAT = re.compile(r"-?(?:[0-9]+\.[0-9]*(?:e[-+]?[0-9]+)?|[0-9]+e[-+]?[0-9]+|inf|nan)(?![\w.(])")

DTYPES = {dtype.text: dtype for dtype in DType}

_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_RANGE = re.compile(r"(-?[0-9]+)?\.\.(-?[0-9]+)?")

_Item = TypeVar("_Item")


class Line:
    """A cursor over one line of a text; blanks between its parts do not matter."""

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
        quoted = self.text.startswith('"', self.position)
        return self.quoted() if quoted else self.needed(NAME, "a name")

    def integer(self) -> int:
        """An integer."""
        return int(self.needed(INTEGER, "an integer"))

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


def read_symbol(line: Line) -> Symbol:
    """A symbol with its range: ``n``, ``n: 1..64``, ``n: ..``."""
    name = line.needed(_SYMBOL, "a symbol")
    low: int | None = 0
    high: int | None = None
    if line.accept(":"):
        bounds = _RANGE.fullmatch(line.needed(_RANGE, "a range"))
        if bounds:
            low, high = (None if bound is None else int(bound) for bound in bounds.groups())
    return Symbol(name, low, high)


def read_dim(line: Line, stops: str, symbols: Mapping[str, Symbol]) -> Dim:
    """The dim that stands before the next of the characters `stops`."""
    start = line.position
    try:
        return dims.parse(line.until(stops), symbols)
    except InputError as error:
        line.position = start
        raise line.fail(error.message) from None


def read_type(line: Line, symbols: Mapping[str, Symbol]) -> Type:
    """A type, as `str` writes it."""
    container = _read_container(line, symbols)
    if container is not None:
        return container
    dtype = _read_dtype(line)
    if line.accept("...]"):
        return OpenTensorType(dtype, None)
    shape = tuple(line.listed(lambda: read_dim(line, ",]", symbols), "]"))
    return TensorType(dtype, shape, read_layout(line) if line.accept("<") else None)


def read_element_type(line: Line, symbols: Mapping[str, Symbol]) -> ElementType:
    """The type of the elements of a sequence or optional."""
    container = _read_container(line, symbols)
    if container is not None:
        return container
    dtype = _read_dtype(line)
    if line.accept("...]"):
        return OpenTensorType(dtype, None)
    if line.accept("none]"):
        return NoTensorType(dtype)
    return OpenTensorType(
        dtype, tuple(line.listed(lambda: None if line.accept("?") else read_dim(line, ",]", symbols), "]"))
    )


def _read_container(
    line: Line, symbols: Mapping[str, Symbol]
) -> MapType | SequenceType | OptionalType | None:
    if line.accept("map<"):
        key = _read_name(line)
        line.expect(",")
        value = _read_name(line)
        line.expect(">")
        return MapType(key, value)
    for word, kind in (("seq<", SequenceType), ("optional<", OptionalType)):
        if line.accept(word):
            element = read_element_type(line, symbols)
            line.expect(">")
            return kind(element)
    return None


def _read_dtype(line: Line) -> DType:
    """The element type of a tensor, and the bracket behind it."""
    dtype = _read_name(line)
    line.expect("[")
    return dtype


def _read_name(line: Line) -> DType:
    dtype = DTYPES.get(line.needed(WORD, "a type"))
    if dtype is None:
        raise line.fail("there is no such type")
    return dtype


def read_layout(line: Line) -> Layout:
    """A layout, as `str` writes it, after its first ``<``."""
    order: list[tuple[int, int | None]] = []
    while True:
        axis = line.integer()
        order.append((axis, line.integer() if line.accept("b") else None))
        if not line.accept("."):
            break
    halos: list[Halo] = []
    while line.accept("halo("):
        axis, before, after = (_followed_integer(line) for _ in range(3))
        halos.append(Halo(axis, before, after, _fill(line)))
        line.expect(")")
    line.expect("pad(")
    pad = _fill(line)
    line.expect(")")
    line.expect(">")
    return Layout(tuple(order), tuple(halos), pad)


def _followed_integer(line: Line) -> int:
    number = line.integer()
    line.expect(",")
    return number


def _fill(line: Line) -> Fill:
    word = line.needed(WORD, "a fill")
    if word not in {kind.value for kind in FillKind}:
        raise line.fail(f"there is no fill '{word}'")
    if word != FillKind.VALUE.value:
        return Fill(FillKind(word))
    line.expect("(")
    value = float(line.needed(re.compile(r"[-+.0-9a-z]+"), "a number"))
    line.expect(")")
    return Fill(FillKind.VALUE, value)
