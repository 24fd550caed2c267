"""The text of a kernel (see `dlc.lowering.text` and docs/kernel-ir.md) back to a kernel."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from dlc.errors import InputError, printable
from dlc.ir.dims import Dim, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.reading import DTYPES, FLOAT, WORD, Line, read_dim, read_symbol, read_type
from dlc.ir.types import TensorType
from dlc.lowering import expr as e
from dlc.lowering.kernel import (
    Access,
    Axis,
    AxisKind,
    Contract,
    Contraction,
    Duplicates,
    Kernel,
    LocalTensor,
    Map,
    Monoid,
    Param,
    Recur,
    Reduce,
    Routine,
    Stage,
    State,
    Store,
    Window,
)
from dlc.lowering.parse_expressions import ExpressionParser
from dlc.lowering.text import ASSIGNMENTS

_BINDING = re.compile(r"%[0-9]+")
_EXTENT = re.compile(r"[^ ].*?(?= reduce$| sequential$|$)")
_ASSIGNMENTS = {mark: mode for mode, mark in ASSIGNMENTS.items()}
_MONOIDS = {monoid.value: monoid for monoid in Monoid}

_Item = TypeVar("_Item")


def parse(text: str) -> Kernel:
    """The kernel that `text` denotes. Raises InputError with the line for a syntax error or an unknown name.

    The result is not verified: see `dlc.lowering.verify`.
    """
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    lines = (Line(number, line) for number, line in stripped if line and not line.startswith("#"))
    return _KernelParser(lines).parse()


def _separated(line: Line, item: Callable[[], _Item]) -> Iterator[_Item]:
    """One item, and more behind commas."""
    yield item()
    while line.accept(","):
        yield item()


class _KernelParser:
    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._symbols: dict[str, Symbol] = {}
        self._origins: tuple[str, ...] = ()
        self._params: dict[str, Param] = {}
        self._axes: dict[str, Axis] = {}
        self._locals: dict[str, LocalTensor] = {}

    def parse(self) -> Kernel:
        line = self._next()
        line.expect("kernel ")
        name = line.name()
        line.expect("{")
        self._end(line)
        body: list[Stage] = []
        while not (line := self._next()).accept("}"):
            if not self._declaration(line):
                body.append(self._stage(line))
            self._end(line)
        self._end(line)
        for line in self._lines:
            raise line.fail("expected the end of the text")
        return Kernel(
            name, tuple(self._params.values()), tuple(self._axes.values()), tuple(body), self._origins
        )

    def _next(self) -> Line:
        for line in self._lines:
            return line
        raise InputError("the text ends within a kernel")

    def _end(self, line: Line) -> None:
        if not line.at_end:
            raise line.fail("expected the end of the line")

    # --- declarations

    def _declaration(self, line: Line) -> bool:
        """Read the line if it declares something; False, and nothing read, if it is a stage."""
        start = line.position
        word = line.match(WORD)
        # A stage may begin with such a word too, as the name of what it writes: then no blank follows.
        if not line.text.startswith(" ", line.position):
            word = None
        match word:
            case "origin":
                self._origins = tuple(_separated(line, line.quoted))
            case "symbol":
                symbol = read_symbol(line)
                self._symbols[symbol.name] = symbol
            case "read" | "write" | "update":
                self._param(line, Access(word))
            case "axis":
                self._axis(line)
            case _:
                line.position = start
                return False
        return True

    def _param(self, line: Line, access: Access) -> None:
        constant = line.accept("constant ")
        name = self._new_name(line)
        line.expect(":")
        type_ = read_type(line, self._symbols)
        if not isinstance(type_, TensorType):
            raise line.fail("a parameter must be a tensor")
        strides = None
        if line.accept("strides"):
            line.expect("(")
            strides = tuple(line.listed(lambda: read_dim(line, ",)", self._symbols), ")"))
        self._params[name] = Param(name, type_, access, strides, constant)

    def _axis(self, line: Line) -> None:
        name = line.needed(WORD, "an axis")
        line.expect(":")
        start = line.position
        extent = Line(line.number, line.needed(_EXTENT, "an extent"))
        try:
            dim = read_dim(extent, "", self._symbols)
        except InputError as error:
            line.position = start
            raise line.fail(error.message) from None
        kind = line.match(WORD)
        axis = Axis(name, dim, AxisKind(kind) if kind else AxisKind.PARALLEL)
        if name in self._symbols:
            raise line.fail(f"the name {name} is taken")
        self._axes[name] = axis
        self._symbols[name] = axis.symbol

    def _new_name(self, line: Line) -> str:
        name = line.needed(WORD, "a name")
        if name in self._params or name in self._locals:
            raise line.fail(f"the name {name} is taken")
        return name

    # --- stages

    def _stage(self, line: Line) -> Stage:
        if line.accept("routine "):
            return self._routine(line)
        if line.accept("recur "):
            return self._recur(line)
        head, bindings = self._bindings(line)
        axes, ordered = self._domain(head)
        stage = self._target(head, axes, ordered, bindings)
        self._end(head)
        return stage

    def _bindings(self, line: Line) -> tuple[Line, dict[str, e.Expr]]:
        """The part of a line before its ``where``, and the expressions that this binds."""
        before, where, _ = line.text.partition(" where %")
        head = Line(line.number, before)
        head.position = line.position
        bindings: dict[str, e.Expr] = {}
        line.position = len(before) + len(where) - 1 if where else len(line.text)
        while not line.at_end:
            name = line.needed(_BINDING, "a binding")
            line.expect("=")
            bindings[name] = self._expressions(line, bindings).expression()
            if not line.accept(","):
                break
        return head, bindings

    def _expressions(self, line: Line, bindings: Mapping[str, e.Expr]) -> ExpressionParser:
        return ExpressionParser(line, self._symbols, self._params, self._locals, bindings)

    def _domain(self, line: Line) -> tuple[tuple[str, ...], bool]:
        """The axes of a stage, and whether its points come in order."""
        if line.accept("in order:"):
            return (), True
        if not line.accept("for "):
            return (), False
        axes = self._axis_names(line)
        ordered = line.accept("in order")
        line.expect(":")
        return axes, ordered

    def _axis_names(self, line: Line) -> tuple[str, ...]:
        return () if line.accept("()") else tuple(_separated(line, lambda: self._axis_name(line)))

    def _axis_name(self, line: Line) -> str:
        name = line.needed(WORD, "an axis")
        if name not in self._axes:
            raise line.fail(f"there is no axis {printable(name)}")
        return name

    def _target(
        self, line: Line, axes: tuple[str, ...], ordered: bool, bindings: Mapping[str, e.Expr]
    ) -> Stage:
        """A stage from what it writes on."""
        values = self._expressions(line, bindings)
        if line.accept("("):
            outs = line.listed(lambda: self._local(line, axes), ")")
            line.expect("=")
            return self._defined(self._reduce(line, outs, values))
        start = line.position
        name = line.needed(WORD, "a parameter or local")
        if line.accept("["):
            return self._store(line, name, axes, ordered, values)
        line.position = start
        out = self._local(line, axes)
        line.expect("=")
        if line.accept("contract over "):
            return self._defined(self._contract(line, out, values))
        start = line.position
        if line.match(WORD) in _MONOIDS and line.accept("over "):
            line.position = start
            return self._defined(self._reduce(line, [out], values))
        line.position = start
        return self._defined(Map(out, values.expression()))

    def _local(self, line: Line, axes: tuple[str, ...]) -> LocalTensor:
        name = self._new_name(line)
        line.expect(":")
        return LocalTensor(name, self._dtype(line), axes)

    def _dtype(self, line: Line) -> DType:
        dtype = DTYPES.get(line.needed(WORD, "an element type"))
        if dtype is None:
            raise line.fail("there is no such element type")
        return dtype

    def _defined(self, stage: Map | Reduce | Contract) -> Stage:
        """The stage, whose locals can be read from now on."""
        outs = stage.outs if isinstance(stage, Reduce) else (stage.out,)
        self._locals.update((out.name, out) for out in outs)
        return stage

    def _store(
        self, line: Line, name: str, axes: tuple[str, ...], ordered: bool, values: ExpressionParser
    ) -> Store:
        param = self._params.get(name)
        if param is None:
            raise line.fail(f"there is no parameter {printable(name)}")
        index = values.index(param.type.rank)
        mask = values.mask() if line.accept("|") else ()
        line.expect("]")
        mode = next((mode for mark, mode in _ASSIGNMENTS.items() if line.accept(mark)), None)
        if mode is None:
            raise line.fail("expected an assignment")
        value = values.expression()
        duplicates = Duplicates.LAST_WINS if ordered else Duplicates.FORBIDDEN
        return Store(name, axes, index, value, mode, mask, duplicates)

    def _reduce(self, line: Line, outs: Sequence[LocalTensor], values: ExpressionParser) -> Reduce:
        monoid = _MONOIDS.get(line.needed(WORD, "a monoid"))
        if monoid is None:
            raise line.fail("there is no such monoid")
        line.expect("over ")
        axes = self._axis_names(line)
        line.expect("of ")
        if len(outs) == 1:
            return Reduce(tuple(outs), axes, monoid, (values.expression(),))
        line.expect("(")
        return Reduce(tuple(outs), axes, monoid, tuple(line.listed(values.expression, ")")))

    def _contract(self, line: Line, out: LocalTensor, values: ExpressionParser) -> Contract:
        reduce = self._axis_names(line)
        line.expect("of ")
        left = values.expression()
        line.expect(",")
        right = values.expression()
        line.expect("with ")
        roles: dict[str, tuple[str, ...]] = {}
        windows: list[Window] = []
        while not line.at_end and not line.accept("nothing"):
            role = line.needed(WORD, "a role")
            line.expect("(")
            if role == "window":
                windows.append(self._window(line))
            elif role in ("batch", "rows", "columns"):
                roles[role] = tuple(line.listed(lambda: self._axis_name(line), ")"))
            else:
                raise line.fail(f"axes have no role '{role}'")
        spec = Contraction(
            roles.get("batch", ()), roles.get("rows", ()), roles.get("columns", ()), reduce, tuple(windows)
        )
        return Contract(out, spec, left, right)

    def _window(self, line: Line) -> Window:
        out = self._axis_name(line)
        line.expect(",")
        tap = self._axis_name(line)
        line.expect(",")
        stride = line.integer()
        line.expect(",")
        dilation = line.integer()
        line.expect(",")
        pad = read_dim(line, ")", self._symbols)
        line.expect(")")
        return Window(out, tap, stride, dilation, pad)

    def _recur(self, line: Line) -> Recur:
        axis = self._axis_name(line)
        reverse = line.accept("reverse")
        line.expect("{")
        states: list[State] = []
        body: list[Stage] = []
        following: dict[str, e.Expr] = {}
        outside = dict(self._locals)
        while not (inner := self._next()).accept("}"):
            self._end(line)
            head, bindings = self._bindings(inner)
            if head.accept("next "):
                name = head.needed(WORD, "a state")
                head.expect("=")
                following[name] = self._expressions(head, bindings).expression()
                self._end(head)
                continue
            axes, _ = self._domain(head)
            if head.accept("state "):
                states.append(self._state(head, axes, bindings))
                self._end(head)
            else:
                inner.position = 0
                body.append(self._stage(inner))
        for state in states:
            if state.local.name not in following:
                raise inner.fail(f"the state {state.local.name} has no next value")
            outside[state.local.name] = state.local
        self._locals = outside
        states = [dataclasses.replace(state, next=following[state.local.name]) for state in states]
        return Recur(axis, tuple(states), tuple(body), reverse)

    def _state(self, line: Line, axes: tuple[str, ...], bindings: Mapping[str, e.Expr]) -> State:
        local = self._local(line, axes)
        line.expect("=")
        start = self._expressions(line, bindings).expression()
        self._locals[local.name] = local
        return State(local, start, start)

    def _routine(self, line: Line) -> Routine:
        name = line.needed(WORD, "a routine")
        line.expect("(")
        params: list[str] = []
        attributes: list[tuple[str, Dim | str | bool | float]] = []
        while not line.accept(")"):
            if line.accept(";"):
                attributes = line.listed(lambda: self._attribute(line), ")")
                break
            line.accept(",")
            params.append(self._param_name(line))
        return Routine(name, tuple(params), tuple(attributes))

    def _param_name(self, line: Line) -> str:
        name = line.needed(WORD, "a parameter")
        if name not in self._params:
            raise line.fail(f"there is no parameter {printable(name)}")
        return name

    def _attribute(self, line: Line) -> tuple[str, Dim | str | bool | float]:
        name = line.needed(WORD, "an attribute")
        line.expect("=")
        line.skip()
        if line.text.startswith('"', line.position):
            return name, line.quoted()
        if line.accept("true"):
            return name, True
        if line.accept("false"):
            return name, False
        number = line.match(FLOAT)
        if number is not None:
            return name, float(number)
        return name, read_dim(line, ",)", self._symbols)
