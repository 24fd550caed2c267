"""Value expressions as they stand in the text of a kernel.

    expression = sum [("==" | "!=" | "<" | "<=" | ">" | ">=") sum]
    sum        = product {("+" | "-") product}
    product    = primary {("*" | "/") primary}
    primary    = ["-"] number [":" dtype] | "true" | "false" | "%" digits | "(" expression ")"
               | "iota" "(" dim ")" [":" dtype] | "select" "(" expression "," expression "," expression ")"
               | dtype ["." mode] "(" expression ")" | function "(" expression {"," expression} ")"
               | parameter "[" place "]" | local ["[" place "]"]
    place      = index ["|" conditions ["|" expression]]
    index      = [entry {"," entry}]           entry      = dim | "{" expression "}"
    conditions = [range {"," range}]           range      = dim "<=" dim "<" dim

A ``%`` stands for an expression bound by the line's ``where``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dlc.errors import InputError, printable
from dlc.ir.dims import Dim, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.reading import DTYPES, WORD, Line, read_dim
from dlc.lowering import expr as e
from dlc.lowering.kernel import LocalTensor, Param
from dlc.lowering.text import COMPARISONS, OPERATORS

_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?(?:e[-+]?[0-9]+)?|inf|nan)(?![\w.])")
_BINDING = re.compile(r"%[0-9]+")
_SUMS = {OPERATORS[fn]: fn for fn in ("add", "sub")}
_PRODUCTS = {OPERATORS[fn]: fn for fn in ("mul", "div")}
# Longer marks first: "<" begins "<=".
_COMPARISONS = {mark: fn for fn, mark in sorted(COMPARISONS.items(), key=lambda item: -len(item[1]))}
#: The deepest nesting of expressions within one line.
_MAX_DEPTH = 100


class ExpressionParser:
    """Reads expressions at the position of a line."""

    def __init__(
        self,
        line: Line,
        symbols: Mapping[str, Symbol],
        params: Mapping[str, Param],
        locals_: Mapping[str, LocalTensor],
        bindings: Mapping[str, e.Expr],
    ) -> None:
        self._line = line
        self._symbols = symbols
        self._params = params
        self._locals = locals_
        self._bindings = bindings
        self._depth = 0

    def expression(self) -> e.Expr:
        """An expression."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._line.fail(f"the expression is nested more than {_MAX_DEPTH} deep")
        left = self._sum()
        for mark, fn in _COMPARISONS.items():
            if self._line.accept(mark):
                left = e.Compare(DType.BOOL, fn, left, self._sum())
                break
        self._depth -= 1
        return left

    def index(self, rank: int) -> tuple[e.Index, ...]:
        """An index of `rank` entries."""
        entries: list[e.Index] = []
        for axis in range(rank):
            if axis:
                self._line.expect(",")
            if self._line.accept("{"):
                entries.append(self.expression())
                self._line.expect("}")
            else:
                entries.append(self._dim(",|]"))
        return tuple(entries)

    def mask(self) -> tuple[e.InRange, ...]:
        """The conditions of a mask."""
        conditions: list[e.InRange] = []
        while not self._line.text.startswith(("|", "]"), self._at()):
            low = self._dim("<")
            self._line.expect("<=")
            index = self._dim("<")
            self._line.expect("<")
            conditions.append(e.InRange(index, low, self._dim(",|]")))
            if not self._line.accept(","):
                break
        return tuple(conditions)

    def _at(self) -> int:
        self._line.skip()
        return self._line.position

    def _dim(self, stops: str) -> Dim:
        return read_dim(self._line, stops, self._symbols)

    def _sum(self) -> e.Expr:
        left = self._product()
        while (fn := self._operator(_SUMS)) is not None:
            left = e.Binary(left.dtype, fn, left, self._product())
        return left

    def _product(self) -> e.Expr:
        left = self._primary()
        while (fn := self._operator(_PRODUCTS)) is not None:
            left = e.Binary(left.dtype, fn, left, self._primary())
        return left

    def _operator(self, marks: Mapping[str, str]) -> str | None:
        return next((fn for mark, fn in marks.items() if self._line.accept(mark)), None)

    def _primary(self) -> e.Expr:
        line = self._line
        if line.accept("("):
            inner = self.expression()
            line.expect(")")
            return inner
        start = line.position
        binding = line.match(_BINDING)
        if binding is not None:
            if binding not in self._bindings:
                line.position = start
                raise line.fail(f"{binding} is not bound")
            return self._bindings[binding]
        negative = line.accept("-")
        number = line.match(_NUMBER)
        if number is not None:
            return self._number(f"-{number}" if negative else number)
        if negative:
            raise line.fail("expected a number")
        return self._named(line.needed(WORD, "an expression"))

    def _number(self, text: str) -> e.Const:
        is_integer = text.lstrip("-").isdigit()
        dtype = self._suffix() or (DType.I64 if is_integer else DType.F32)
        return e.Const(dtype, int(text) if is_integer else float(text))

    def _suffix(self) -> DType | None:
        return self._dtype() if self._line.accept(":") else None

    def _dtype(self) -> DType:
        dtype = DTYPES.get(self._line.needed(WORD, "an element type"))
        if dtype is None:
            raise self._line.fail("there is no such element type")
        return dtype

    def _named(self, name: str) -> e.Expr:
        line = self._line
        if name in ("true", "false"):
            return e.Const(DType.BOOL, name == "true")
        local = self._locals.get(name)
        if local is not None:
            return self._read(local)
        if line.accept("["):
            return self._load(name)
        mode = line.needed(WORD, "a mode") if line.accept(".") else e.CastMode.RNE.value
        line.expect("(")
        return self._call(name, mode)

    def _load(self, name: str) -> e.Load:
        param = self._params.get(name)
        if param is None:
            raise self._line.fail(f"there is no parameter or local {printable(name)}")
        index = self.index(param.type.rank)
        mask, other = self._guard()
        return e.Load(param.type.dtype, name, index, mask, other)

    def _read(self, local: LocalTensor) -> e.Read:
        if not self._line.accept("["):
            return e.Read(local.dtype, local.name, ())
        index: list[Dim] = []
        for entry in self.index(len(local.axes)):
            if isinstance(entry, e.Expr):
                raise self._line.fail(f"the local {local.name} cannot be read at an index from data")
            index.append(entry)
        mask, other = self._guard()
        return e.Read(local.dtype, local.name, tuple(index), mask, other)

    def _guard(self) -> tuple[tuple[e.InRange, ...], e.Expr | None]:
        """The rest of the brackets of an access."""
        mask: tuple[e.InRange, ...] = ()
        other: e.Expr | None = None
        if self._line.accept("|"):
            mask = self.mask()
            if self._line.accept("|"):
                other = self.expression()
        self._line.expect("]")
        return mask, other

    def _call(self, name: str, mode: str) -> e.Expr:
        line = self._line
        if name == "iota":
            index = self._dim(")")
            line.expect(")")
            return e.Iota(self._suffix() or DType.I64, index)
        args = line.listed(self.expression, ")")
        if name in DTYPES and len(args) == 1:
            try:
                return e.Cast(DTYPES[name], args[0], e.CastMode(mode))
            except ValueError:
                raise line.fail(f"there is no mode of conversion '{mode}'") from None
        match name, args:
            case "select", [condition, then, otherwise]:
                return e.Select(then.dtype, condition, then, otherwise)
            case _, [operand] if name in e.UNARY:
                return e.Unary(DType.BOOL if name == "is_nan" else operand.dtype, name, operand)
            case _, [left, right] if name in e.BINARY:
                return e.Binary(left.dtype, name, left, right)
        raise self._unknown(name, len(args))

    def _unknown(self, name: str, count: int) -> InputError:
        return self._line.fail(f"there is no function {printable(name)} of {count} operands")
