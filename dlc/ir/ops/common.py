"""What the operator families share: checks of operand types and broadcasting of shapes."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.ir.dims import Dim, Relation, broadcast, known_equal, to_text
from dlc.ir.dtypes import DType
from dlc.ir.obligations import rely
from dlc.ir.operator import Array, InferenceError, tensor
from dlc.ir.types import TensorType, Type

FLOATS = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16})
"""The floating-point types that operators compute in; narrower floats are storage types."""

SMALL_FLOATS = frozenset({DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ, DType.F8E8M0,
                          DType.F4E2M1})
"""Storage types of quantized tensors and of their scales."""

SIGNED = frozenset({DType.I64, DType.I32, DType.I16, DType.I8})
UNSIGNED = frozenset({DType.U64, DType.U32, DType.U16, DType.U8})
INTEGERS = SIGNED | UNSIGNED
"""The integer types that operators compute in; narrower integers are storage types."""

NUMBERS = FLOATS | INTEGERS


def given(operand: Array | None) -> Array:
    """An operand that inference has found present; TypeError otherwise."""
    if operand is None:
        raise TypeError("a required operand is absent")
    return operand


def require_dtype(operand: TensorType, allowed: frozenset[DType], what: str) -> None:
    """InferenceError unless the element type of `operand` is one of `allowed`."""
    if operand.dtype not in allowed:
        names = ", ".join(sorted(dtype.text for dtype in allowed))
        raise InferenceError(f"{what} must be of one of the types {names}, but is {operand}")


def same_dtype(operands: Sequence[TensorType], what: str) -> DType:
    """The element type that all `operands` share; InferenceError when they differ."""
    dtypes = {operand.dtype for operand in operands}
    if len(dtypes) > 1:
        found = ", ".join(operand.dtype.text for operand in operands)
        raise InferenceError(f"{what} must be of one element type, but are {found}")
    return operands[0].dtype


def take(inputs: Sequence[Type | None], count: int,
         optional: int = 0) -> tuple[list[TensorType], list[TensorType | None]]:
    """The first `count` operand types, which must be tensors, and `optional` more, None where absent.

    Raises InferenceError when an operand is missing or there are too many.
    """
    if not count <= len(inputs) <= count + optional:
        raise InferenceError(f"{len(inputs)} operands are given where {count} are needed"
                             + (f" and {optional} more may follow" if optional else ""))
    required = [tensor(operand, f"operand {index}") for index, operand in enumerate(inputs[:count])]
    padded = [*inputs[count:], *[None] * (count + optional - len(inputs))]
    extra = [None if operand is None else tensor(operand, f"operand {count + index}")
             for index, operand in enumerate(padded)]
    return required, extra


def known_different(left: Dim, right: Dim) -> bool:
    """Whether two extents are numbers that differ."""
    return isinstance(left, int) and isinstance(right, int) and left != right


def broadcast_shapes(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape to which `shapes` broadcast together as in NumPy; InferenceError when they cannot."""
    rank = max(map(len, shapes), default=0)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for axis, extent in enumerate(shape, start=rank - len(shape)):
            have = result[axis]
            if 1 not in (have, extent) and not known_equal(have, extent):
                pair = f"{to_text(have)} and {to_text(extent)}"
                message = f"extents {pair} of axis {axis - rank} do not broadcast"
                if not rely(Relation.EQ, (have - extent) * (have - 1) * (extent - 1), 0, message):
                    raise InferenceError(message)
            result[axis] = broadcast(have, extent)
    return tuple(result)


def require_broadcastable(operand: TensorType, target: Sequence[Dim], what: str) -> None:
    """InferenceError unless `operand` broadcasts to the shape `target` (unidirectional broadcasting)."""
    if operand.rank > len(target):
        raise InferenceError(f"{what} of rank {operand.rank} does not broadcast to rank {len(target)}")
    for extent, wanted in zip(reversed(operand.shape), reversed(target), strict=False):
        message = f"{what} with extent {to_text(extent)} does not broadcast to an extent of {to_text(wanted)}"
        if extent != 1 and not rely(Relation.EQ, (extent - wanted) * (extent - 1), 0, message):
            raise InferenceError(message)


def require_vector(operand: TensorType, extent: Dim, what: str) -> None:
    """InferenceError unless `operand` is a tensor of rank 1 with `extent` elements, as far as is known."""
    message = f"{what} must have the shape [{to_text(extent)}], but is {operand}"
    if operand.rank != 1 or not rely(Relation.EQ, operand.shape[0], extent, message):
        raise InferenceError(message)
