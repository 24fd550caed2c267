"""A kernel as text, which `dlc.lowering.parse` reads back: deterministic, one line a stage, ASCII only.

    kernel matmul_relu {
      origin "MatMul_3", "Relu_4"
      symbol n: 1..64
      read x: f32[n, 24]
      read constant w: f32[24, 8]
      write y: f32[n, 8]
      axis i: n
      axis o: 8
      axis c: 24 reduce
      for i, o: l0: f32 = contract over c of x[i, c], w[c, o] with rows(i) columns(o)
      for i, o: y[i, o] = select(l0[i, o] < 0.0, 0.0, l0[i, o])
    }

docs/kernel-ir.md has the whole grammar. A number without a suffix is f32 or i64; others carry their type:
``0.5:f64``. A subexpression that stands in several places, or deep inside another, is written once, in a
``where`` at the end of its line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from dlc.errors import InternalError
from dlc.ir.dims import Dim, Symbol, free_symbols, sort_key, to_text as dim_text
from dlc.ir.dtypes import DType
from dlc.ir.text import quoted, symbol_text
from dlc.lowering import expr as e
from dlc.lowering.inspect import kernel_dims, roots
from dlc.lowering.kernel import (
    Axis,
    AxisKind,
    Contract,
    Contraction,
    Duplicates,
    Kernel,
    LocalTensor,
    Map,
    Param,
    Recur,
    Reduce,
    Routine,
    Stage,
    State,
    Store,
    StoreMode,
)

#: Binary functions and comparisons that are written between their operands.
OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
#: How a store combines, as its assignment is written.
ASSIGNMENTS = {
    StoreMode.SET: "=",
    StoreMode.ADD: "+=",
    StoreMode.MUL: "*=",
    StoreMode.MIN: "min=",
    StoreMode.MAX: "max=",
}
#: Expressions nested deeper than this are bound to names.
MAX_DEPTH = 16
#: Words that stand for values, which no parameter or local may be called.
WORDS = frozenset({"true", "false", "inf", "nan"})

_COMPARISON, _SUM, _PRODUCT, _PRIMARY = range(4)
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def to_text(kernel: Kernel) -> str:
    """The text of `kernel`."""
    lines = [f"kernel {_name(kernel.name)} {{"]
    if kernel.origins:
        lines.append(f"  origin {', '.join(map(quoted, kernel.origins))}")
    lines += [f"  symbol {symbol_text(symbol, None)}" for symbol in kernel_symbols(kernel)]
    lines += [f"  {_param_text(param)}" for param in kernel.params]
    lines += [f"  {_axis_text(axis)}" for axis in kernel.axes]
    for stage in kernel.body:
        lines += [f"  {line}" for line in stage_lines(stage)]
    return "\n".join([*lines, "}"]) + "\n"


def kernel_symbols(kernel: Kernel) -> list[Symbol]:
    """The symbols of a kernel that are not axes of it, in their fixed order."""
    axes = {axis.name for axis in kernel.axes}
    found = {s for dim in kernel_dims(kernel) for s in free_symbols(dim) if s.name not in axes}
    return sorted(found, key=sort_key)


def expression_text(expr: e.Expr) -> str:
    """An expression on one line."""
    printer = _Printer((expr,))
    return printer.top(expr) + printer.where()


def stage_lines(stage: Stage) -> list[str]:
    """A stage; a recurrence takes several lines, the others one."""
    if isinstance(stage, Recur):
        return _recur_lines(stage)
    if isinstance(stage, Routine):
        return [_routine_text(stage)]
    printer = _Printer(roots(stage))
    return [_stage_text(stage, printer) + printer.where()]


def _stage_text(stage: Map | Store | Reduce | Contract, printer: _Printer) -> str:
    match stage:
        case Map(out, value):
            return f"{_domain(out.axes)}{_local(out)} = {printer.top(value)}"
        case Store():
            return _store_text(stage, printer)
        case Reduce(outs, axes, monoid, values):
            target, source = ", ".join(map(_local, outs)), ", ".join(map(printer.top, values))
            if len(outs) != 1:
                target, source = f"({target})", f"({source})"
            return f"{_domain(outs[0].axes)}{target} = {monoid.value} over {_names(axes)} of {source}"
    operands = f"{printer.top(stage.left)}, {printer.top(stage.right)}"
    contract = f"contract over {_names(stage.spec.reduce)} of {operands} with {_spec_text(stage.spec)}"
    return f"{_domain(stage.out.axes)}{_local(stage.out)} = {contract}"


def _store_text(store: Store, printer: _Printer) -> str:
    ordered = store.duplicates is Duplicates.LAST_WINS
    target = f"{store.param}[{printer.place(store.index, store.mask, None)}]"
    value = f"{ASSIGNMENTS[store.mode]} {printer.top(store.value)}"
    return f"{_domain(store.axes, ordered)}{target} {value}"


def _spec_text(spec: Contraction) -> str:
    parts = [("batch", spec.batch), ("rows", spec.rows), ("columns", spec.columns)]
    texts = [f"{role}({', '.join(axes)})" for role, axes in parts if axes]
    for w in spec.windows:
        texts.append(f"window({w.out}, {w.tap}, {w.stride}, {w.dilation}, {dim_text(w.pad)})")
    return " ".join(texts) or "nothing"


def _recur_lines(recur: Recur) -> list[str]:
    lines = [f"recur {recur.axis}{' reverse' if recur.reverse else ''} {{"]
    for state in recur.states:
        printer = _Printer((state.start,))
        text = f"{_domain(state.local.axes)}state {_local(state.local)} = {printer.top(state.start)}"
        lines.append(f"  {text}{printer.where()}")
    for stage in recur.body:
        lines += [f"  {line}" for line in stage_lines(stage)]
    lines += [f"  {_next_text(state)}" for state in recur.states]
    return [*lines, "}"]


def _next_text(state: State) -> str:
    printer = _Printer((state.next,))
    return f"next {state.local.name} = {printer.top(state.next)}{printer.where()}"


def _routine_text(routine: Routine) -> str:
    attributes = [f"{key}={_attribute_text(value)}" for key, value in routine.attributes]
    rest = f"; {', '.join(attributes)}" if attributes else ""
    return f"routine {routine.name}({', '.join(routine.params)}{rest})"


def _attribute_text(value: Dim | str | bool | float) -> str:
    match value:
        case str():
            return quoted(value)
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
    # In parentheses, so that no symbol is taken for a word.
    return f"({dim_text(value)})"


def _domain(axes: Sequence[str], ordered: bool = False) -> str:
    if not axes:
        return "in order: " if ordered else ""
    return f"for {', '.join(axes)}{' in order' if ordered else ''}: "


def _names(axes: Sequence[str]) -> str:
    return ", ".join(axes) if axes else "()"


def _local(local: LocalTensor) -> str:
    return f"{local.name}: {local.dtype.text}"


def _name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else quoted(name)


def _param_text(param: Param) -> str:
    access = f"{param.access.value} constant" if param.constant else param.access.value
    strides = "" if param.strides is None else f" strides ({', '.join(map(dim_text, param.strides))})"
    return f"{access} {param.name}: {param.type}{strides}"


def _axis_text(axis: Axis) -> str:
    kind = "" if axis.kind is AxisKind.PARALLEL else f" {axis.kind.value}"
    return f"axis {axis.name}: {dim_text(axis.extent)}{kind}"


class _Printer:
    """The text of the expressions of one stage; those that occur in several places are bound to names."""

    def __init__(self, stage_roots: Iterable[e.Expr]) -> None:
        stage_roots = tuple(stage_roots)
        uses = Counter(stage_roots)
        nodes = list(e.walk(*stage_roots))
        for node in nodes:
            uses.update(e.children(node))
        self._names: dict[e.Expr, str] = {}
        depth: dict[e.Expr, int] = {}
        for node in nodes:
            depth[node] = 1 + max((depth[child] for child in e.children(node)), default=0)
            if (uses[node] > 1 and not _is_short(node)) or depth[node] > MAX_DEPTH:
                self._names[node] = f"%{len(self._names)}"
                depth[node] = 0

    def where(self) -> str:
        """The bindings, each after those that it uses; nothing when there are none."""
        bindings = [f"{name} = {self._written(node)[0]}" for node, name in self._names.items()]
        return f" where {', '.join(bindings)}" if bindings else ""

    def top(self, expr: e.Expr) -> str:
        """`expr` where nothing binds tighter."""
        return self._text(expr)[0]

    def place(self, index: Sequence[e.Index], mask: Sequence[e.InRange], other: e.Expr | None) -> str:
        """What stands in the brackets of an access: index, conditions, and the value where they fail."""
        entries = (f"{{{self.top(i)}}}" if isinstance(i, e.Expr) else dim_text(i) for i in index)
        parts = [", ".join(entries)]
        if mask or other is not None:
            parts.append(", ".join(map(str, mask)))
        if other is not None:
            parts.append(self.top(other))
        return " | ".join(parts)

    def _text(self, expr: e.Expr) -> tuple[str, int]:
        """The text and how tightly it binds."""
        name = self._names.get(expr)
        return (name, _PRIMARY) if name is not None else self._written(expr)

    def _operand(self, expr: e.Expr, least: int) -> str:
        text, binding = self._text(expr)
        return text if binding >= least else f"({text})"

    def _written(self, expr: e.Expr) -> tuple[str, int]:
        match expr:
            case e.Binary(_, fn, left, right) if fn in OPERATORS:
                level = _SUM if fn in ("add", "sub") else _PRODUCT
                text = f"{self._operand(left, level)} {OPERATORS[fn]} {self._operand(right, level + 1)}"
                return text, level
            case e.Compare(_, fn, left, right):
                text = f"{self._operand(left, _SUM)} {COMPARISONS[fn]} {self._operand(right, _SUM)}"
                return text, _COMPARISON
        return self._primary(expr), _PRIMARY

    def _primary(self, expr: e.Expr) -> str:
        match expr:
            case e.Const():
                return _const_text(expr)
            case e.Iota(dtype, index):
                return f"iota({dim_text(index)}){'' if dtype is DType.I64 else f':{dtype.text}'}"
            case e.Load(_, param, load_index, mask, other):
                return f"{param}[{self.place(load_index, mask, other)}]"
            case e.Read(_, local, read_index, mask, other):
                inside = self.place(read_index, mask, other)
                return f"{local}[{inside}]" if inside else local
            case e.Unary(_, fn, operand):
                return f"{fn}({self.top(operand)})"
            case e.Binary(_, fn, left, right):
                return f"{fn}({self.top(left)}, {self.top(right)})"
            case e.Select(_, condition, then, otherwise):
                return f"select({self.top(condition)}, {self.top(then)}, {self.top(otherwise)})"
            case e.Cast(dtype, operand, mode):
                suffix = "" if mode is e.CastMode.RNE else f".{mode.value}"
                return f"{dtype.text}{suffix}({self.top(operand)})"
        raise InternalError(f"{type(expr).__name__} has no text form")


def _is_short(expr: e.Expr) -> bool:
    """Whether an expression is written out wherever it stands."""
    match expr:
        case e.Const() | e.Iota() | e.Read(mask=()):
            return True
        case e.Load(_, _, index, ()):
            return not any(isinstance(entry, e.Expr) for entry in index)
    return False


def _const_text(const: e.Const) -> str:
    if const.dtype is DType.BOOL:
        return "true" if const.value else "false"
    plain = const.dtype is (DType.F32 if isinstance(const.value, float) else DType.I64)
    return f"{const.value!r}{'' if plain else f':{const.dtype.text}'}"
