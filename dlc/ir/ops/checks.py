"""Checks that the inference of several operator families shares."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.ir.dims import Dim, Relation, to_text
from dlc.ir.obligations import rely
from dlc.ir.operator import InferenceError, tensor
from dlc.ir.types import TensorType, Type


def require_equal(left: Dim, right: Dim, what: str) -> None:
    """InferenceError when two extents provably differ; whether others do is checked by the run."""
    message = f"{what}: {to_text(left)} and {to_text(right)} differ"
    if not rely(Relation.EQ, left, right, message):
        raise InferenceError(message)


def require_shape(operand: Type | None, shape: Sequence[Dim], what: str) -> TensorType:
    """`operand` as a tensor of `shape`; InferenceError naming `what` when rank or known extents differ."""
    type_ = tensor(operand, what)
    if type_.rank != len(shape):
        raise InferenceError(f"{what} must have rank {len(shape)}, but has rank {type_.rank}")
    for axis, (extent, wanted) in enumerate(zip(type_.shape, shape, strict=True)):
        require_equal(extent, wanted, f"axis {axis} of {what}")
    return type_


def require_rank(operand: Type | None, rank: int, what: str) -> TensorType:
    """`operand` as a tensor of `rank`; InferenceError naming `what` otherwise."""
    type_ = tensor(operand, what)
    if type_.rank != rank:
        raise InferenceError(f"{what} must have rank {rank}, but has rank {type_.rank}")
    return type_


def optional(inputs: Sequence[Type | None], index: int) -> Type | None:
    """Operand type `index`, or None when the list is shorter."""
    return inputs[index] if index < len(inputs) else None
