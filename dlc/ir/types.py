"""Types of values: tensors with symbolic shape and physical layout; sequences, optionals and maps."""

from __future__ import annotations

import dataclasses
import enum
import math
import operator
from collections.abc import Callable, Sequence
from typing import TypeAlias

from dlc.ir.dims import Dim, known_equal, product, to_text
from dlc.ir.dtypes import DType


class FillKind(enum.Enum):
    """What lanes outside the logical tensor (halo and padding) hold."""

    ZERO = "zero"
    NEG_INF = "neg_inf"
    VALUE = "value"
    UNDEFINED = "undefined"


@dataclasses.dataclass(frozen=True)
class Fill:
    """The content of halo or pad lanes; `value` is meaningful for VALUE only."""

    kind: FillKind
    value: float = 0.0

    def satisfies(self, wanted: Fill) -> bool:
        """Whether lanes filled so may be read by a consumer that asks for `wanted`."""
        return wanted.kind is FillKind.UNDEFINED or self == wanted

    @property
    def number(self) -> float:
        """The number in the lanes; nan for UNDEFINED, so that a wrong read shows."""
        match self.kind:
            case FillKind.ZERO:
                return 0.0
            case FillKind.NEG_INF:
                return -math.inf
            case FillKind.VALUE:
                return self.value
        return math.nan

    def __str__(self) -> str:
        return f"value({self.value})" if self.kind is FillKind.VALUE else self.kind.value


ZERO = Fill(FillKind.ZERO)
NEG_INF = Fill(FillKind.NEG_INF)
UNDEFINED = Fill(FillKind.UNDEFINED)


@dataclasses.dataclass(frozen=True)
class Halo:
    """Physical padding of one logical axis: elements before and after it, and what they hold."""

    axis: int
    before: int
    after: int
    fill: Fill


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a logical tensor lies in memory, row-major over `order`.

    `order` lists (logical axis, block or None). An axis that appears with a block is split: its None entry
    walks the blocks, its block entry the elements within one. The extent of a blocked axis is rounded up to
    the block; the extra lanes hold `pad`.
    """

    order: tuple[tuple[int, int | None], ...]
    halos: tuple[Halo, ...] = ()
    pad: Fill = UNDEFINED

    def block(self, axis: int) -> int:
        """The block of `axis`; 1 when it is not blocked."""
        return next((block for a, block in self.order if a == axis and block), 1)

    def halo(self, axis: int) -> Halo:
        """The halo of `axis`; an empty one when it has none."""
        return next((h for h in self.halos if h.axis == axis), Halo(axis, 0, 0, UNDEFINED))

    @property
    def permutation(self) -> tuple[int, ...] | None:
        """The axes as they lie in memory, of a layout without blocks and halos; None for others."""
        if self.halos or any(block for _, block in self.order):
            return None
        return tuple(axis for axis, _ in self.order)

    def physical_shape(self, shape: Sequence[Dim]) -> tuple[Dim, ...]:
        """The extents in memory, in `order`, of a tensor of logical `shape`."""
        extents: list[Dim] = []
        for axis, block in self.order:
            if block:
                extents.append(block)
                continue
            halo = self.halo(axis)
            inside = shape[axis] + halo.before + halo.after
            extents.append((inside + self.block(axis) - 1) // self.block(axis))
        return tuple(extents)

    def physical_index(self, index: Sequence[Dim]) -> tuple[Dim, ...]:
        """The position in memory of the element at logical `index`."""
        position: list[Dim] = []
        for axis, block in self.order:
            at = index[axis] + self.halo(axis).before
            divisor = self.block(axis)
            position.append(at % block if block else at // divisor)
        return tuple(position)

    def __str__(self) -> str:
        order = ".".join(f"{axis}b{block}" if block else str(axis) for axis, block in self.order)
        halos = "".join(f" halo({h.axis}, {h.before}, {h.after}, {h.fill})" for h in self.halos)
        return f"<{order}{halos} pad({self.pad})>"


def blocked_channels(rank: int, block: int, halos: tuple[Halo, ...] = (), pad: Fill = UNDEFINED) -> Layout:
    """The layout N C/block spatial... block of a tensor whose axis 1 holds channels."""
    return Layout((*((axis, None) for axis in range(rank)), (1, block)), halos, pad)


@dataclasses.dataclass(frozen=True)
class TensorType:
    """A tensor: element type, shape (ints and symbolic dims) and physical layout (None: row-major)."""

    dtype: DType
    shape: tuple[Dim, ...]
    layout: Layout | None = None

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def elements(self) -> Dim:
        """The number of logical elements."""
        return product(self.shape)

    @property
    def physical_shape(self) -> tuple[Dim, ...]:
        """The extents in memory, halo and rounding included."""
        return self.layout.physical_shape(self.shape) if self.layout else self.shape

    @property
    def is_static(self) -> bool:
        """Whether every extent is a number."""
        return all(isinstance(dim, int) for dim in self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The extents, all of which are numbers; TypeError when one is symbolic."""
        return tuple(map(operator.index, self.shape))  # type: ignore[arg-type]

    def with_shape(self, shape: Sequence[Dim]) -> TensorType:
        """The same element type, row-major, of another shape."""
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        """The same shape and layout of another element type."""
        return dataclasses.replace(self, dtype=dtype)

    def __str__(self) -> str:
        dims = ", ".join(to_text(dim) for dim in self.shape)
        return f"{self.dtype.text}[{dims}]{self.layout or ''}"


@dataclasses.dataclass(frozen=True)
class OpenTensorType:
    """A tensor whose extents are not all known: what stands in a sequence or an optional.

    `shape` has None for an extent that differs from element to element or that only the run tells; it is None
    altogether where that holds of the rank.
    """

    dtype: DType
    shape: tuple[Dim | None, ...] | None

    @property
    def rank(self) -> int | None:
        """The number of axes, if it is known."""
        return None if self.shape is None else len(self.shape)

    def __str__(self) -> str:
        if self.shape is None:
            return f"{self.dtype.text}[...]"
        dims = ", ".join("?" if dim is None else to_text(dim) for dim in self.shape)
        return f"{self.dtype.text}[{dims}]"


@dataclasses.dataclass(frozen=True)
class NoTensorType:
    """The type of the elements of a sequence that has none, of which only the element type is known."""

    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype.text}[none]"


@dataclasses.dataclass(frozen=True)
class MapType:
    """A dictionary from integers or strings to numbers or strings."""

    key: DType
    value: DType

    @property
    def dtype(self) -> DType:
        """The type of the values."""
        return self.value

    def __str__(self) -> str:
        return f"map<{self.key.text}, {self.value.text}>"


@dataclasses.dataclass(frozen=True)
class SequenceType:
    """A list of values of one type."""

    element: ElementType

    def __str__(self) -> str:
        return f"seq<{self.element}>"


@dataclasses.dataclass(frozen=True)
class OptionalType:
    """A value of a type, or none."""

    element: ElementType

    def __str__(self) -> str:
        return f"optional<{self.element}>"


ElementType: TypeAlias = OpenTensorType | NoTensorType | MapType | SequenceType | OptionalType
Type: TypeAlias = TensorType | ElementType


def type_dims(type_: Type) -> tuple[Dim, ...]:
    """The dims in a type."""
    match type_:
        case TensorType(shape=shape):
            return shape
        case OpenTensorType(shape=shape):
            return tuple(dim for dim in shape or () if dim is not None)
        case NoTensorType() | MapType():
            return ()
    return type_dims(type_.element)


def element_dtype(type_: Type) -> DType:
    """The element type of the tensors, or of the values of the maps, that values of a type consist of."""
    if isinstance(type_, SequenceType | OptionalType):
        return element_dtype(type_.element)
    return type_.dtype


def is_object(type_: Type) -> bool:
    """Whether values of a type are Python objects at run time: all but tensors of numbers."""
    return not isinstance(type_, TensorType) or type_.dtype is DType.STRING


def opened(type_: Type) -> ElementType:
    """The type as that of an element of a sequence or optional."""
    return OpenTensorType(type_.dtype, type_.shape) if isinstance(type_, TensorType) else type_


def join(left: ElementType, right: ElementType) -> ElementType | None:
    """The narrowest type that has all values of both; None where there is none.

    A value without an optional around it is also one of the optional.
    """
    match left, right:
        case OpenTensorType(), OpenTensorType():
            if left.dtype is not right.dtype:
                return None
            if left.shape is None or right.shape is None or len(left.shape) != len(right.shape):
                return OpenTensorType(left.dtype, None)
            return OpenTensorType(left.dtype, tuple(map(_common, left.shape, right.shape)))
        case SequenceType(), SequenceType():
            element = join(left.element, right.element)
            return None if element is None else SequenceType(element)
        case MapType(), MapType():
            return left if left == right else None
        case NoTensorType(dtype), OpenTensorType() | NoTensorType():
            return right if right.dtype is dtype else None
        case OpenTensorType(), NoTensorType():
            return join(right, left)
        case OptionalType(), _:
            element = join(left.element, right.element if isinstance(right, OptionalType) else right)
            return None if element is None else OptionalType(element)
        case _, OptionalType():
            return join(right, left)
    return None


def _common(left: Dim | None, right: Dim | None) -> Dim | None:
    return left if left is not None and right is not None and known_equal(left, right) else None


def without(type_: ElementType, hidden: Callable[[Dim], bool]) -> ElementType:
    """The type with every extent left open of which `hidden` holds."""
    match type_:
        case OpenTensorType(dtype, shape):
            if shape is None:
                return type_
            return OpenTensorType(dtype, tuple(None if d is None or hidden(d) else d for d in shape))
        case SequenceType(element):
            return SequenceType(without(element, hidden))
        case OptionalType(element):
            return OptionalType(without(element, hidden))
    return type_
