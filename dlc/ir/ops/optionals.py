"""Optionals: a value or none; at run time the value itself or None."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlc.errors import InputError
from dlc.ir.dtypes import DType
from dlc.ir.operator import EvaluateDim, InferenceError
from dlc.ir.ops.movement import Movement
from dlc.ir.ops.sequences import check_array
from dlc.ir.types import OpenTensorType, OptionalType, SequenceType, TensorType, Type, join, opened


@dataclasses.dataclass(frozen=True)
class Optional(Movement):
    """An optional that holds the operand, a tensor or sequence; without one it is empty."""

    type: OptionalType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        operand = inputs[0] if inputs else None
        if operand is not None and join(opened(operand), self.type.element) != self.type.element:
            raise InferenceError(f"an {self.type} cannot hold {operand}")
        return (self.type,)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        return (inputs[0] if inputs else None,)


@dataclasses.dataclass(frozen=True)
class OptionalHasElement(Movement):
    """Whether an optional holds something, a bool scalar."""

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        if not inputs or not isinstance(inputs[0], OptionalType):
            raise InferenceError("the operand must be an optional")
        return (TensorType(DType.BOOL, ()),)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        return (np.array(inputs[0] is not None),)


@dataclasses.dataclass(frozen=True)
class OptionalGetElement(Movement):
    """What an optional holds; InputError when it holds nothing.

    `type` is that of the result; what the optional's type leaves open is a symbol in it, bound from the
    result.
    """

    type: TensorType | OpenTensorType | SequenceType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        operand = inputs[0] if inputs else None
        if not isinstance(operand, OptionalType) or join(opened(self.type), operand.element) is None:
            raise InferenceError(f"a {self.type} cannot come out of {operand}")
        return (self.type,)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Any, ...]:
        if inputs[0] is None:
            raise InputError("an optional holds no value, but its value is asked for")
        if isinstance(self.type, TensorType | OpenTensorType):
            check_array(inputs[0], self.type, "the value of an optional")
        return (inputs[0],)
