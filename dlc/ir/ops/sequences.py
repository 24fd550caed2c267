"""Sequences: lists of tensors of one element type, whose shapes may differ; at run time lists of arrays.

An array that goes into a sequence or comes out of one is not copied: values never change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlc.errors import IndexFault, ShapeError
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType, from_numpy
from dlc.ir.operator import Array, EvaluateDim, InferenceError, tensor
from dlc.ir.ops.common import given
from dlc.ir.ops.movement import Movement
from dlc.ir.types import (
    ElementType,
    NoTensorType,
    OpenTensorType,
    SequenceType,
    TensorType,
    Type,
    join,
    opened,
)


def sequence(operand: Type | None, what: str) -> SequenceType:
    """`operand` as a sequence type; InferenceError naming `what` when it is absent or something else."""
    if not isinstance(operand, SequenceType):
        raise InferenceError(f"{what} must be a sequence, but is {'absent' if operand is None else operand}")
    return operand


def _tensor_in(operand: Type | None, what: str) -> ElementType:
    """The type that a tensor has as an element; its rank may be open."""
    return operand if isinstance(operand, OpenTensorType) else opened(tensor(operand, what))


def joined(elements: Sequence[ElementType]) -> ElementType:
    """The type of all `elements`; InferenceError when they have none in common."""
    result = elements[0]
    for element in elements[1:]:
        both = join(result, element)
        if both is None:
            raise InferenceError(f"a sequence cannot hold both {result} and {element}")
        result = both
    return result


def _check_position(operand: Type | None) -> None:
    position = tensor(operand, "the position")
    if position.dtype not in (DType.I32, DType.I64) or position.elements != 1:
        raise InferenceError(f"the position must be one i32 or i64 number, but is {position}")


def _position(position: Array | None, least: int, behind: int, length: int) -> int:
    """A position counted from the front; IndexFault unless it is of [least, behind)."""
    number = int(given(position).reshape(-1)[0])
    if not least <= number < behind:
        raise IndexFault(f"position {number} is outside of [{least}, {behind})")
    return number + length if number < 0 else number


def check_array(array: Any, type_: TensorType | OpenTensorType, what: str) -> None:
    """ShapeError unless an array is of a type, as far as that speaks in numbers."""
    wanted = array.shape if type_.shape is None else type_.shape
    extents = zip(array.shape, wanted)
    if (
        from_numpy(array.dtype) is not type_.dtype
        or len(wanted) != array.ndim
        or any(isinstance(dim, int) and dim != extent for extent, dim in extents)
    ):
        found = f"{from_numpy(array.dtype).text}{list(array.shape)}"
        raise ShapeError(f"{what} is {found}, but {type_} was expected")


@dataclasses.dataclass(frozen=True)
class SequenceConstruct(Movement):
    """The operands as a sequence; `type` is that of the result, whose element type has all operands."""

    type: SequenceType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        element = self.type.element
        parts = [_tensor_in(operand, f"operand {index}") for index, operand in enumerate(inputs)]
        if joined([element, *parts]) != element:
            raise InferenceError(f"an operand is none of {element}")
        return (self.type,)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        return (list(inputs),)


@dataclasses.dataclass(frozen=True)
class SequenceAt(Movement):
    """The element of a sequence at a position of [-n, n), counted from the end where it is negative.

    `type` is that of the element; what the sequence's type leaves open is a symbol in it, bound from the
    result.
    """

    type: TensorType | OpenTensorType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        element = sequence(inputs[0], "the operand").element
        if not isinstance(element, OpenTensorType | NoTensorType) or element.dtype is not self.type.dtype:
            raise InferenceError(f"a {self.type} cannot come out of {inputs[0]}")
        _check_position(inputs[1])
        return (self.type,)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        elements = inputs[0]
        at = _position(inputs[1], -len(elements), len(elements), len(elements))
        check_array(elements[at], self.type, f"element {at} of a sequence")
        return (elements[at],)


@dataclasses.dataclass(frozen=True)
class SequenceInsert(Movement):
    """A sequence with a tensor put in before a position of [-n, n], or at the end where none is given."""

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        element = sequence(inputs[0], "the operand").element
        if len(inputs) > 2 and inputs[2] is not None:
            _check_position(inputs[2])
        return (SequenceType(joined([element, _tensor_in(inputs[1], "the new element")])),)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        elements = list(inputs[0])
        at = length = len(elements)
        if len(inputs) > 2 and inputs[2] is not None:
            at = _position(inputs[2], -length, length + 1, length)
        elements.insert(at, inputs[1])
        return (elements,)


@dataclasses.dataclass(frozen=True)
class SequenceErase(Movement):
    """A sequence without the element at a position of [-n, n), or without the last where none is given."""

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        if len(inputs) > 1 and inputs[1] is not None:
            _check_position(inputs[1])
        return (sequence(inputs[0], "the operand"),)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        elements = list(inputs[0])
        length = len(elements)
        position = inputs[1] if len(inputs) > 1 and inputs[1] is not None else np.array(-1)
        del elements[_position(position, -length, length, length)]
        return (elements,)


@dataclasses.dataclass(frozen=True)
class SequenceLength(Movement):
    """The number of elements of a sequence, an i64 scalar."""

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        sequence(inputs[0], "the operand")
        return (TensorType(DType.I64, ()),)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        return (np.array(len(inputs[0]), np.int64),)


@dataclasses.dataclass(frozen=True)
class SplitToSequence(Movement):
    """x cut along `axis` (>= 0), into the extents of a vector, or into chunks of a scalar's extent, of which
    the last one may be smaller. Without that operand the extent is 1, and goes unless `keepdims`.
    """

    axis: int
    keepdims: bool

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "the operand")
        if not 0 <= self.axis < x.rank:
            raise InferenceError(f"axis {self.axis} is outside [0, {x.rank}) of {x}")
        shape: list[Dim | None] = list(x.shape)
        if len(inputs) > 1 and inputs[1] is not None:
            split = tensor(inputs[1], "the extents")
            if split.dtype not in (DType.I32, DType.I64) or split.rank > 1:
                raise InferenceError(f"the extents must be a scalar or vector of i32 or i64, but are {split}")
            shape[self.axis] = None
        elif self.keepdims:
            shape[self.axis] = 1
        else:
            del shape[self.axis]
        return (SequenceType(OpenTensorType(x.dtype, tuple(shape))),)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        x, split = inputs[0], inputs[1] if len(inputs) > 1 else None
        extent = x.shape[self.axis]
        if split is None:
            parts = np.split(x, extent, self.axis) if extent else []
            return ([part if self.keepdims else part.squeeze(self.axis) for part in parts],)
        extents = split.reshape(-1).tolist()
        if split.ndim == 0:
            (size,) = extents
            if size <= 0:
                raise ShapeError(f"chunks of extent {size} cannot be cut")
            ends = [min(start + size, extent) for start in range(0, extent, size)]
        else:
            ends = np.cumsum(extents, dtype=np.int64).tolist()
            if min(extents, default=0) < 0 or sum(extents) != extent:
                raise ShapeError(f"parts of extents {extents} are not those of an extent of {extent}")
        starts = [0, *ends[:-1]]
        along = (slice(None),) * self.axis
        return ([x[(*along, slice(start, end))] for start, end in zip(starts, ends)],)


@dataclasses.dataclass(frozen=True)
class ConcatFromSequence(Movement):
    """The elements of a sequence one after the other along `axis` (>= 0), or stacked along a new axis.

    `type` is that of the result, with symbols for what the run tells. An empty sequence is a ShapeError.
    """

    axis: int
    new_axis: bool
    type: TensorType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        element = sequence(inputs[0], "the operand").element
        if not isinstance(element, OpenTensorType) or element.dtype is not self.type.dtype:
            raise InferenceError(f"{self.type} cannot be made of {inputs[0]}")
        if not 0 <= self.axis < self.type.rank:
            raise InferenceError(f"axis {self.axis} is outside [0, {self.type.rank}) of {self.type}")
        return (self.type,)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        elements = inputs[0]
        shapes = [part.shape for part in elements]
        if not elements:
            raise ShapeError("an empty sequence cannot be concatenated")
        others = shapes if self.new_axis else [s[: self.axis] + s[self.axis + 1 :] for s in shapes]
        if len(set(others)) > 1 or elements[0].ndim + self.new_axis != self.type.rank:
            raise ShapeError(f"elements of shapes {shapes[:8]} cannot be concatenated along axis {self.axis}")
        result = (np.stack if self.new_axis else np.concatenate)(elements, axis=self.axis)
        check_array(result, self.type, "a concatenated sequence")
        return (result,)


@dataclasses.dataclass(frozen=True)
class Identity(Movement):
    """The operand itself, whatever its type."""

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        if not inputs or inputs[0] is None:
            raise InferenceError("the operand is absent")
        return (inputs[0],)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        return (inputs[0],)
