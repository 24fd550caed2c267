"""Writing the kernel of one graph node: axes, loads, stages, stores.

Names of axes and locals are unique in the whole program while kernels are drafted and fused; `canonical` (in
dlc.lowering.canonical) renames them at the end, so that equal kernels become equal texts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

from dlc.ir.dims import Dim, Symbol, known_equal, minimum
from dlc.ir.dtypes import DType, Kind
from dlc.ir.graph import Node, Value
from dlc.ir.types import TensorType
from dlc.lowering.expr import (
    Binary,
    Cast,
    CastMode,
    Const,
    Expr,
    Index,
    InRange,
    Load,
    Read,
    Unary,
    simplify_mask,
)
from dlc.lowering.inspect import used_axes, used_params
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
    StoreMode,
)


class Names:
    """Hands out names that are unique in one program: parameters by value, axes and locals by count.

    `taken` are the names of the program's symbols, which no axis may have.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._values: dict[Value, str] = {}
        self._taken = frozenset(taken)
        self._axes = (name for name in map("x{}".format, itertools.count()) if name not in self._taken)
        self._locals = itertools.count()

    def param(self, value: Value) -> str:
        """The parameter name that stands for a graph value in every kernel of the program."""
        return self._values.setdefault(value, f"t{len(self._values)}")

    def axis(self) -> str:
        """A fresh axis name."""
        return next(self._axes)

    def local(self) -> str:
        """A fresh name of a local."""
        return f"l{next(self._locals)}"


@dataclasses.dataclass(frozen=True)
class LoweredKernel:
    """A kernel and the graph value that each of its parameters stands for."""

    kernel: Kernel
    values: dict[str, Value]

    @property
    def inputs(self) -> list[Value]:
        """The values read."""
        return [self.values[p.name] for p in self.kernel.reads]

    @property
    def outputs(self) -> list[Value]:
        """The values written."""
        return [self.values[p.name] for p in self.kernel.writes]


def arithmetic_dtype(dtype: DType) -> DType:
    """The type in which a kernel computes elements of `dtype`: f32 for narrower floats, itself otherwise."""
    return DType.F32 if dtype.kind is Kind.FLOAT and dtype.bits < 32 else dtype


def cast(expr: Expr, dtype: DType, mode: CastMode = CastMode.RNE) -> Expr:
    """`expr` as `dtype`; itself when it already is."""
    return expr if expr.dtype is dtype else Cast(dtype, expr, mode)


def const(value: float | int | bool, dtype: DType) -> Const:
    """A constant of `dtype`; of a complex type only 0."""
    number = bool(value) if dtype is DType.BOOL else float(value) if dtype.is_float else int(value)
    return Const(dtype, number)


def unary(fn: str, operand: Expr) -> Expr:
    """A unary function in the operand's type (bool for predicates)."""
    return Unary(DType.BOOL if fn == "is_nan" else operand.dtype, fn, operand)


def binary(fn: str, left: Expr, right: Expr | float | int) -> Expr:
    """A binary function in the left operand's type; a Python number becomes a constant of it."""
    other = right if isinstance(right, Expr) else const(right, left.dtype)
    return Binary(left.dtype, fn, left, other)


class Draft:
    """The kernel of one node under construction."""

    def __init__(self, names: Names, node: Node) -> None:
        self.names = names
        self.node = node
        self.axes: list[Axis] = []
        self.body: list[Stage] = []
        self.values: dict[str, Value] = {}
        self.access: dict[str, Access] = {}

    # --- operands

    def operand(self, index: int) -> Value:
        """Operand `index`, which must be present."""
        value = self.node.inputs[index]
        assert value is not None
        return value

    def optional(self, index: int) -> Value | None:
        """Operand `index`, or None."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def param(self, value: Value, access: Access = Access.READ) -> str:
        """The parameter that stands for `value`."""
        name = self.names.param(value)
        self.values[name] = value
        known = self.access.get(name)
        self.access[name] = access if known in (None, access) else Access.UPDATE
        return name

    def temporary(self, what: str, dtype: DType, shape: Sequence[Dim]) -> Value:
        """A tensor in memory that leads from one part of the kernel to a later one, a launch of its own."""
        output = self.node.outputs[0]
        value = Value(f"{output.name}.{what}", TensorType(dtype, tuple(shape)))
        value.producer = self.node
        return value

    def axis(self, extent: Dim, kind: AxisKind = AxisKind.PARALLEL) -> Symbol:
        """A new axis; returns its symbol for index expressions."""
        axis = Axis(self.names.axis(), extent, kind)
        self.axes.append(axis)
        return axis.symbol

    def axes_of(self, shape: Sequence[Dim], kind: AxisKind = AxisKind.PARALLEL) -> list[Symbol]:
        """One new axis for each extent."""
        return [self.axis(extent, kind) for extent in shape]

    def load(
        self, value: Value, index: Sequence[Index], mask: Sequence[InRange] = (), other: Expr | None = None
    ) -> Expr:
        """An element of `value`, in its own type; `other` where a condition of `mask` fails."""
        mask = simplify_mask(tuple(mask))
        return Load(value.tensor.dtype, self.param(value), tuple(index), mask, other if mask else None)

    def load_arithmetic(
        self, value: Value, index: Sequence[Index], mask: Sequence[InRange] = (), other: Expr | None = None
    ) -> Expr:
        """An element of `value`, in the type in which its arithmetic is done."""
        return cast(self.load(value, index, mask, other), arithmetic_dtype(value.tensor.dtype))

    def load_broadcast(self, value: Value, index: Sequence[Dim], shape: Sequence[Dim]) -> Expr:
        """The element of `value` that NumPy broadcasting reads for the element at `index` of `shape`."""
        return self.load(value, broadcast_index(value.tensor, index, shape))

    # --- stages

    def local(self, dtype: DType, axes: Sequence[Symbol]) -> LocalTensor:
        """A fresh local tensor."""
        return LocalTensor(self.names.local(), dtype, tuple(axis.name for axis in axes))

    def map(self, value: Expr, axes: Sequence[Symbol]) -> Read:
        """Name an intermediate tensor; returns its element at `axes`."""
        local = self.local(value.dtype, axes)
        self.body.append(Map(local, value))
        return Read(value.dtype, local.name, tuple(axes))

    def reduce(self, monoid: Monoid, axes: Sequence[Symbol], value: Expr, outer: Sequence[Symbol]) -> Read:
        """Combine `value` over `axes` for each point of `outer`; returns the result's element at `outer`."""
        return self.reduce_all(monoid, axes, (value,), outer)[0]

    def reduce_all(
        self, monoid: Monoid, axes: Sequence[Symbol], values: Sequence[Expr], outer: Sequence[Symbol]
    ) -> tuple[Read, ...]:
        """As `reduce`, for monoids over tuples."""
        outs = tuple(self.local(value.dtype, outer) for value in values)
        self.body.append(Reduce(outs, tuple(axis.name for axis in axes), monoid, tuple(values)))
        return tuple(Read(out.dtype, out.name, tuple(outer)) for out in outs)

    def contract(
        self, spec: Contraction, left: Expr, right: Expr, outer: Sequence[Symbol], dtype: DType | None = None
    ) -> Read:
        """Sum left * right over the reduce axes of `spec`; returns the result's element at `outer`."""
        local = self.local(dtype or left.dtype, outer)
        self.body.append(Contract(local, spec, left, right))
        return Read(local.dtype, local.name, tuple(outer))

    @contextlib.contextmanager
    def inner_body(self) -> Iterator[list[Stage]]:
        """Stages appended inside go to the list that this yields, for the body of a recurrence."""
        outside, self.body = self.body, []
        try:
            yield self.body
        finally:
            self.body = outside

    def recur(
        self, axis: Symbol, states: Sequence[State], body: Sequence[Stage], reverse: bool = False
    ) -> None:
        """Append a recurrence over `axis`."""
        self.body.append(Recur(axis.name, tuple(states), tuple(body), reverse))

    def routine(self, name: str, params: Sequence[str], **attributes: Dim | str | bool | float) -> None:
        """Append a hand-written algorithm."""
        self.body.append(Routine(name, tuple(params), tuple(sorted(attributes.items()))))

    def store(
        self,
        value: Value,
        axes: Sequence[Symbol],
        expr: Expr,
        index: Sequence[Index] | None = None,
        mode: StoreMode = StoreMode.SET,
        mask: Sequence[InRange] = (),
        duplicates: Duplicates = Duplicates.FORBIDDEN,
    ) -> None:
        """Store `expr`, converted to the type of `value`, at `index` (default: the axes themselves)."""
        access = Access.WRITE if mode is StoreMode.SET else Access.UPDATE
        self.body.append(
            Store(
                self.param(value, access),
                tuple(axis.name for axis in axes),
                tuple(axes if index is None else index),
                cast(expr, value.tensor.dtype),
                mode,
                tuple(mask),
                duplicates,
            )
        )

    def finish(self) -> LoweredKernel:
        """The kernel, with those parameters and axes that its stages use."""
        body = tuple(self.body)
        named, walked = used_params(body), used_axes(body)
        values = {name: value for name, value in self.values.items() if name in named}
        params = tuple(
            Param(name, value.tensor, self.access[name], constant=value.is_constant)
            for name, value in values.items()
        )
        axes = tuple(axis for axis in self.axes if axis.name in walked)
        return LoweredKernel(Kernel(self.node.op.name.lower(), params, axes, body, self.node.origin), values)


def broadcast_index(operand: TensorType, index: Sequence[Dim], shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """The index that NumPy broadcasting gives an operand of a result of `shape` at `index`.

    An extent that is 1 is read at 0; one that only the binding tells (equal to the result's, or 1) is read at
    index * min(extent - 1, 1), which is 0 where the extent turns out to be 1.
    """
    skip = len(shape) - operand.rank
    entries: list[Dim] = []
    for axis, extent in enumerate(operand.shape):
        at = index[skip + axis]
        if isinstance(extent, int) and extent == 1:
            entries.append(0)
        elif known_equal(extent, shape[skip + axis]) or isinstance(extent, int):
            entries.append(at)
        else:
            entries.append(at * minimum(extent - 1, 1))
    return tuple(entries)
