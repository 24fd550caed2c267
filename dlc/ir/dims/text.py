"""Dims as text and back: ``4*n + m*n + floordiv(n + 1, 2) + min(n, 8) - 3``.

    dim    = ["-"] term {("+" | "-") term}
    term   = factor {("*" | "//" | "%") factor}
    factor = "-" factor | integer | name | function "(" dim {"," dim} ")" | "(" dim ")"

with the functions floordiv, mod, ceildiv (two arguments), min, max and broadcast (two or more). Printing uses
the functions for division, and the canonical order of terms, which is the same in every process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from dlc.errors import InputError, LimitError, printable
from dlc.ir.dims.division import ceildiv, floordiv, mod
from dlc.ir.dims.evaluation import operands, total
from dlc.ir.dims.nodes import (
    MAX_DEPTH,
    Broadcast,
    Dim,
    DimExpr,
    FloorDiv,
    Max,
    Min,
    Mod,
    Product,
    Sum,
    Symbol,
    multiply,
    scale,
)
from dlc.ir.dims.order import broadcast, maximum, minimum

#: The longest text that is parsed, in characters, and the most digits of an integer in it.
MAX_TEXT = 1_000_000
MAX_DIGITS = 100

_TOKEN = re.compile(r"\s*(?:(?P<int>[0-9]+)|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)|(?P<mark>//|[-+*%(),]))")

_FUNCTION_NAMES: Mapping[type[DimExpr], str] = {
    FloorDiv: "floordiv",
    Mod: "mod",
    Min: "min",
    Max: "max",
    Broadcast: "broadcast",
}
_TWO: Mapping[str, Callable[[Dim, Dim], Dim]] = {"floordiv": floordiv, "mod": mod, "ceildiv": ceildiv}
_TWO_OR_MORE: Mapping[str, Callable[..., Dim]] = {"min": minimum, "max": maximum, "broadcast": broadcast}


def to_text(dim: Dim) -> str:
    """`dim` as text that :func:`parse` reads back."""
    match dim:
        case Symbol(name):
            return name
        case Sum(terms, constant):
            return _sum_text(terms, constant)
        case Product(factors):
            return "*".join(map(to_text, factors))
        case DimExpr():
            return f"{_FUNCTION_NAMES[type(dim)]}({', '.join(map(to_text, operands(dim)))})"
    return str(dim)


def _sum_text(terms: tuple[tuple[DimExpr, int], ...], constant: int) -> str:
    pieces: list[str] = []
    for monomial, coefficient in terms:
        factor = "" if abs(coefficient) == 1 else f"{abs(coefficient)}*"
        pieces += ["-" if coefficient < 0 else "+", factor + to_text(monomial)]
    if constant:
        pieces += ["-" if constant < 0 else "+", str(abs(constant))]
    first = pieces[1] if pieces[0] == "+" else f"-{pieces[1]}"
    return " ".join([first, *pieces[2:]])


def parse(text: str, symbols: Mapping[str, Symbol]) -> Dim:
    """The dim that `text` denotes, its names looked up in `symbols`.

    ``parse(to_text(d), symbols)`` is d when `symbols` holds the symbols of d. Raises
    :class:`~dlc.errors.InputError` for a syntax error (with its position), an unknown name or a divisor that
    is not positive, :class:`~dlc.errors.LimitError` for a text that is too long or nested too deeply.
    """
    if len(text) > MAX_TEXT:
        raise LimitError(f"an expression of dims has more than {MAX_TEXT} characters")
    return _Parser(text, symbols).parse()


class _Parser:
    """Recursive descent over the tokens of one text; `_position` is the index of the next token."""

    def __init__(self, text: str, symbols: Mapping[str, Symbol]) -> None:
        self._text = text
        self._symbols = symbols
        self._tokens = self._scan()
        self._position = 0
        self._depth = 0

    def parse(self) -> Dim:
        result = self._dim()
        if self._peek() != "":
            raise self._error("expected an operator or the end")
        return result

    def _scan(self) -> list[tuple[str, str, int]]:
        """(group, text, position) of each token, ended by one with empty text."""
        tokens: list[tuple[str, str, int]] = []
        end = len(self._text.rstrip())
        at = 0
        while at < end:
            found = _TOKEN.match(self._text, at, end)
            if found is None or found.lastgroup is None:
                raise InputError(f"unexpected character at {at} of the dim '{printable(self._text)}'")
            group = found.lastgroup
            tokens.append((group, found[group], found.start(group)))
            at = found.end()
        tokens.append(("end", "", end))
        return tokens

    def _error(self, problem: str) -> InputError:
        position = self._tokens[self._position][2]
        return InputError(f"{problem} at {position} of the dim '{printable(self._text)}'")

    def _peek(self) -> str:
        return self._tokens[self._position][1]

    def _take(self) -> tuple[str, str]:
        group, text, _ = self._tokens[self._position]
        self._position += 1
        return group, text

    def _accept(self, *marks: str) -> str | None:
        group, text, _ = self._tokens[self._position]
        if group == "mark" and text in marks:
            self._position += 1
            return text
        return None

    def _expect(self, mark: str) -> None:
        if self._accept(mark) is None:
            raise self._error(f"expected '{mark}'")

    def _dim(self) -> Dim:
        self._depth += 1
        if self._depth > MAX_DEPTH + 1:
            raise LimitError(f"an expression of dims is nested more than {MAX_DEPTH} deep")
        terms = [self._term()]
        while sign := self._accept("+", "-"):
            term = self._term()
            terms.append(scale(term, -1) if sign == "-" else term)
        self._depth -= 1
        return total(terms)

    def _term(self) -> Dim:
        result = self._factor()
        while mark := self._accept("*", "//", "%"):
            right = self._factor()
            if mark == "*":
                result = multiply(result, right)
            else:
                result = floordiv(result, right) if mark == "//" else mod(result, right)
        return result

    def _factor(self) -> Dim:
        sign = 1
        while self._accept("-"):
            sign = -sign
        primary = self._primary()
        return scale(primary, sign)

    def _primary(self) -> Dim:
        if self._accept("("):
            inner = self._dim()
            self._expect(")")
            return inner
        if self._tokens[self._position][0] not in ("int", "name"):
            raise self._error("expected an integer, a name or '('")
        group, text = self._take()
        if group == "int":
            if len(text) > MAX_DIGITS:
                raise LimitError(f"an integer in an expression of dims has more than {MAX_DIGITS} digits")
            return int(text)
        if self._accept("("):
            return self._call(text)
        symbol = self._symbols.get(text)
        if symbol is None:
            self._position -= 1
            raise self._error(f"unknown symbol {printable(text)}")
        return symbol

    def _call(self, function: str) -> Dim:
        args = [self._dim()]
        while self._accept(","):
            args.append(self._dim())
        self._expect(")")
        if function in _TWO and len(args) == 2:
            return _TWO[function](*args)
        if function in _TWO_OR_MORE and len(args) >= 2:
            return _TWO_OR_MORE[function](*args)
        raise self._error(f"no function {printable(function)} with {len(args)} arguments before")
