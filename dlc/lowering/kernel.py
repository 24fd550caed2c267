"""The kernel IR: what a group of operators computes, in loops over named axes. See docs/kernel-ir.md.

A Kernel's meaning is that of its stages run one after the other over whole tensors: a stage that defines a
Local fills it for all points of its axes before the next stage starts. How it is really run (tiles, lanes,
Locals in registers) is the Schedule's business and changes no value beyond the order of summation.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TypeAlias

from dlc.ir.dims import Dim, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.types import TensorType
from dlc.lowering.expr import Expr, Index, InRange


class Access(enum.Enum):
    """What a kernel does with a parameter."""

    READ = "read"
    WRITE = "write"
    UPDATE = "update"


class AxisKind(enum.Enum):
    """How the points of an axis relate: independent, combined by a monoid, or one after the other."""

    PARALLEL = "parallel"
    REDUCE = "reduce"
    SEQUENTIAL = "sequential"


@dataclasses.dataclass(frozen=True)
class Axis:
    """A loop: a name that index expressions use as a symbol, and its extent."""

    name: str
    extent: Dim
    kind: AxisKind = AxisKind.PARALLEL

    @property
    def symbol(self) -> Symbol:
        """The axis as a symbol in index expressions, with its range when the extent is a number."""
        return Symbol(self.name, 0, max(self.extent - 1, 0) if isinstance(self.extent, int) else None)


@dataclasses.dataclass(frozen=True)
class Param:
    """A tensor that the kernel reads or writes; indices into it are logical, its type holds the layout.

    `strides` are in elements, one a physical axis of the type; None: row-major without gaps. A `constant` is
    known at compile time, so that a backend may rearrange it then.
    """

    name: str
    type: TensorType
    access: Access
    strides: tuple[Dim, ...] | None = None
    constant: bool = False

    def physical_strides(self) -> tuple[Dim, ...]:
        """The strides of the physical axes, in elements."""
        if self.strides is not None:
            return self.strides
        strides: list[Dim] = []
        step: Dim = 1
        for extent in reversed(self.type.physical_shape):
            strides.append(step)
            step = step * extent
        return tuple(reversed(strides))


@dataclasses.dataclass(frozen=True)
class LocalTensor:
    """A tensor over some axes that lives within the kernel and need not exist in memory."""

    name: str
    dtype: DType
    axes: tuple[str, ...]


class StoreMode(enum.Enum):
    """How a store combines with what is there."""

    SET = "set"
    ADD = "add"
    MUL = "mul"
    MIN = "min"
    MAX = "max"


class Duplicates(enum.Enum):
    """Whether two points of a store may hit one element."""

    FORBIDDEN = "forbidden"
    LAST_WINS = "last_wins"


@dataclasses.dataclass(frozen=True)
class Map:
    """out[axes] = value, for every point of the local's axes."""

    out: LocalTensor
    value: Expr


@dataclasses.dataclass(frozen=True)
class Store:
    """param[index] (mode)= value, for every point of `axes`, where the mask holds."""

    param: str
    axes: tuple[str, ...]
    index: tuple[Index, ...]
    value: Expr
    mode: StoreMode = StoreMode.SET
    mask: tuple[InRange, ...] = ()
    duplicates: Duplicates = Duplicates.FORBIDDEN


class Monoid(enum.Enum):
    """How a Reduce combines. ARGMAX / ARGMIN pair (value, index): first or last index wins a tie.

    WELFORD gives (count, mean, sum of squared deviations); HORNER and others are Recur's business.
    """

    SUM = "sum"
    PROD = "prod"
    MAX = "max"
    MIN = "min"
    AND = "and"
    OR = "or"
    ARGMAX = "argmax"
    ARGMIN = "argmin"
    ARGMAX_LAST = "argmax_last"
    ARGMIN_LAST = "argmin_last"


@dataclasses.dataclass(frozen=True)
class Reduce:
    """outs[their axes] = monoid over `axes` of `values`; the outs share their axes, one out a value.

    For the ARG kinds: outs are (extreme value, index), values are (value, index).
    """

    outs: tuple[LocalTensor, ...]
    axes: tuple[str, ...]
    monoid: Monoid
    values: tuple[Expr, ...]


@dataclasses.dataclass(frozen=True)
class Window:
    """One spatial axis of a convolution: input position = out * stride + tap * dilation - pad."""

    out: str
    tap: str
    stride: int
    dilation: int
    pad: Dim


@dataclasses.dataclass(frozen=True)
class Contraction:
    """The roles of the axes of a Contract.

    `batch` axes (batches of matrices, groups of a convolution) index both operands and the result; `rows`
    only the left operand (matmul: m; convolution: batch and output positions), `columns` only the right one
    (n; output channels), `reduce` both and not the result. `windows` is empty for a matmul.
    """

    batch: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    reduce: tuple[str, ...]
    windows: tuple[Window, ...] = ()


@dataclasses.dataclass(frozen=True)
class Contract:
    """out[axes] = sum over the reduce axes of left * right, all three of one dtype.

    `left` and `right` are Loads, or expressions over Loads (prologues, conversions of narrower elements too).
    """

    out: LocalTensor
    spec: Contraction
    left: Expr
    right: Expr


@dataclasses.dataclass(frozen=True)
class State:
    """A value carried along the axis of a Recur: the local that holds it, its start and its next value.

    `start` and `next` are expressions over the local's axes; `next` may read any local of the Recur's body
    and the states themselves (their values before the step).
    """

    local: LocalTensor
    start: Expr
    next: Expr


@dataclasses.dataclass(frozen=True)
class Recur:
    """For each point of `axis` in order (backwards when `reverse`): run `body`, then advance the states.

    Stages of the body may read the states, and may store; locals defined in the body live for one step. The
    states advance together, and keep their final values after the Recur.
    """

    axis: str
    states: tuple[State, ...]
    body: tuple[Stage, ...]
    reverse: bool = False


@dataclasses.dataclass(frozen=True)
class Routine:
    """A hand-written algorithm with a NumPy meaning (dlc.lowering.routines): sort, top-k, unique, NMS, ...

    `params` are the kernel parameters that it uses, in the routine's order; `attributes` its options.
    """

    name: str
    params: tuple[str, ...]
    attributes: tuple[tuple[str, Dim | str | bool | float], ...] = ()


Stage: TypeAlias = Map | Store | Reduce | Contract | Recur | Routine


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A computation over named axes; `origins` are the ONNX nodes that it came from."""

    name: str
    params: tuple[Param, ...]
    axes: tuple[Axis, ...]
    body: tuple[Stage, ...]
    origins: tuple[str, ...] = ()

    def param(self, name: str) -> Param:
        """The parameter of that name; KeyError otherwise."""
        for param in self.params:
            if param.name == name:
                return param
        raise KeyError(name)

    def axis(self, name: str) -> Axis:
        """The axis of that name; KeyError otherwise."""
        for axis in self.axes:
            if axis.name == name:
                return axis
        raise KeyError(name)

    def extent(self, name: str) -> Dim:
        """The extent of axis `name`."""
        return self.axis(name).extent

    @property
    def reads(self) -> tuple[Param, ...]:
        """The parameters that are read (or updated)."""
        return tuple(p for p in self.params if p.access is not Access.WRITE)

    @property
    def writes(self) -> tuple[Param, ...]:
        """The parameters that are written (or updated)."""
        return tuple(p for p in self.params if p.access is not Access.READ)
