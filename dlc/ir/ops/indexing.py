"""Operators that read or write at positions given by data: Gather, Scatter and OneHot.

A negative index counts from the end of its axis. An index outside of [-n, n) is an IndexFault.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from dlc.errors import IndexFault
from dlc.ir.dims import Dim, Relation, to_text
from dlc.ir.dtypes import DType
from dlc.ir.obligations import rely
from dlc.ir.operator import (
    Array,
    EvaluateDim,
    InferenceError,
    Operator,
    OperatorClass,
    compute_dtype,
    normalize_axis,
    prod,
    tensor,
)
from dlc.ir.ops.checks import require_equal
from dlc.ir.ops.common import given, require_vector
from dlc.ir.ops.movement import Movement, text
from dlc.ir.types import TensorType, Type

REDUCTIONS = ("none", "add", "mul", "min", "max")


def index_tensor(operand: Type | None) -> TensorType:
    """The operand that holds indices; InferenceError unless it is of i32 or i64."""
    indices = tensor(operand, "indices")
    if indices.dtype not in (DType.I32, DType.I64):
        raise InferenceError(f"indices must be i32 or i64, but are {indices}")
    return indices


def wrap(indices: Array, extent: int) -> Array:
    """Indices counted from the front; IndexFault when one is outside of [-extent, extent)."""
    wide = indices.astype(np.int64)
    outside = (wide < -extent) | (wide >= extent)
    if outside.any():
        raise IndexFault(f"index {wide[outside].reshape(-1)[0]} is outside [{-extent}, {extent})")
    return np.where(wide < 0, wide + extent, wide)


@dataclasses.dataclass(frozen=True)
class Gather(Movement):
    """Slices of x along `axis` (>= 0) at `indices`, whose axes take that axis' place."""

    axis: int

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, indices = tensor(inputs[0], "the operand"), index_tensor(inputs[1])
        if not 0 <= self.axis < x.rank:
            raise InferenceError(f"axis {self.axis} is outside [0, {x.rank}) of {x}")
        return (x.with_shape(x.shape[:self.axis] + indices.shape + x.shape[self.axis + 1:]),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, indices = given(inputs[0]), given(inputs[1])
        return (np.asarray(np.take(x, wrap(indices, x.shape[self.axis]), axis=self.axis)),)


@dataclasses.dataclass(frozen=True)
class GatherElements(Movement):
    """y[i0, i1, ...] = x at the same position, but with indices[i0, i1, ...] on `axis` (>= 0)."""

    axis: int

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, indices = tensor(inputs[0], "the operand"), index_tensor(inputs[1])
        check_elements(x, indices, self.axis)
        return (x.with_shape(indices.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, indices = given(inputs[0]), given(inputs[1])
        return (x[element_positions(x.shape, indices, self.axis)],)


@dataclasses.dataclass(frozen=True)
class GatherND(Movement):
    """Slices of x at the index tuples on the last axis of `indices`, sharing the first `batch_dims` axes."""

    batch_dims: int

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, indices = tensor(inputs[0], "the operand"), index_tensor(inputs[1])
        width = tuple_width(indices)
        if not 0 <= self.batch_dims < min(x.rank, indices.rank):
            raise InferenceError(f"{self.batch_dims} batch axes do not fit {x} and {indices}")
        if self.batch_dims + width > x.rank:
            raise InferenceError(f"index tuples of {width} entries do not fit {x} "
                                 f"after {self.batch_dims} batch axes")
        for axis in range(self.batch_dims):
            require_equal(x.shape[axis], indices.shape[axis], f"batch axis {axis} of the operand and indices")
        return (x.with_shape(indices.shape[:-1] + x.shape[self.batch_dims + width:]),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, indices = given(inputs[0]), given(inputs[1])
        batches = [axis.reshape(axis.shape + (1,) * (indices.ndim - 1 - self.batch_dims))
                   for axis in np.indices(indices.shape[:self.batch_dims], sparse=True)]
        inner = [wrap(indices[..., entry], x.shape[self.batch_dims + entry])
                 for entry in range(indices.shape[-1])]
        if not inner:
            shape = indices.shape[:-1] + x.shape[self.batch_dims:]
            gap = (1,) * (indices.ndim - 1 - self.batch_dims)
            return (np.broadcast_to(x.reshape(x.shape[:self.batch_dims] + gap + x.shape[self.batch_dims:]),
                                    shape).copy(),)
        return (x[tuple(np.broadcast_arrays(*batches, *inner))],)


@dataclasses.dataclass(frozen=True)
class Scatter(Operator):
    """Base of the scatters: a copy of x in which `updates` replace elements, or are combined with them.

    Updates take effect in the row-major order of `indices`: with reduction "none" the last of several writes
    to one element stays, with the others all contribute. Sums and products of narrow floats are rounded once.
    """

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def combine(self, x: Array, at: tuple[Array, ...], updates: Array, reduction: str) -> Array:
        """x with `updates` combined at positions `at`."""
        if reduction == "none":
            y = x.copy()
            y[at] = updates
            return y
        functions: dict[str, Callable[..., None]] = {
            "add": np.add.at, "mul": np.multiply.at, "min": np.minimum.at, "max": np.maximum.at}
        y = x.astype(compute_dtype(x.dtype), copy=True)
        with np.errstate(all="ignore"):
            functions[reduction](y, at, updates.astype(y.dtype))
            return y.astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class ScatterElements(Scatter):
    """updates[i0, i1, ...] goes to the same position of x, but with indices[i0, i1, ...] on `axis` (>= 0)."""

    axis: int
    reduction: str

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, indices = tensor(inputs[0], "the operand"), index_tensor(inputs[1])
        updates = tensor(inputs[2], "updates")
        check_elements(x, indices, self.axis)
        check_updates(x, updates, indices.shape, self.reduction)
        return (x.with_shape(x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, indices, updates = given(inputs[0]), given(inputs[1]), given(inputs[2])
        return (self.combine(x, element_positions(x.shape, indices, self.axis), updates, self.reduction),)


@dataclasses.dataclass(frozen=True)
class ScatterND(Scatter):
    """Slices of `updates` go to the index tuples along the last axis of `indices`."""

    reduction: str

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, indices = tensor(inputs[0], "the operand"), index_tensor(inputs[1])
        updates = tensor(inputs[2], "updates")
        width = tuple_width(indices)
        if width > x.rank:
            raise InferenceError(f"index tuples of {width} entries do not fit {x}")
        check_updates(x, updates, indices.shape[:-1] + x.shape[width:], self.reduction)
        return (x.with_shape(x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, indices, updates = given(inputs[0]), given(inputs[1]), given(inputs[2])
        width, count = indices.shape[-1], prod(indices.shape[:-1])
        updates = updates.reshape((count, *x.shape[width:]))
        if not width:
            everything = np.zeros(count, dtype=np.int64)
            return (self.combine(x[None], (everything,), updates, self.reduction)[0],)
        positions = tuple(wrap(indices[..., entry], x.shape[entry]).reshape(-1) for entry in range(width))
        return (self.combine(x, positions, updates, self.reduction),)


@dataclasses.dataclass(frozen=True)
class OneHot(Movement):
    """values[1] where the position on the new `axis` (>= 0) equals the index, values[0] elsewhere.

    Operands: indices (integers of any shape) and values [2] = (off, on). A negative index counts from
    `depth`, and one outside of [-depth, depth) gives a line of off values.
    """

    axis: int
    depth: Dim

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        indices, values = tensor(inputs[0], "indices"), tensor(inputs[1], "values")
        if not indices.dtype.is_integer:
            raise InferenceError(f"indices must be integers, but are {indices}")
        require_vector(values, 2, "values")
        if not 0 <= self.axis <= indices.rank:
            raise InferenceError(f"axis {self.axis} is outside [0, {indices.rank}]")
        if isinstance(self.depth, int) and self.depth < 0:
            raise InferenceError(f"depth {self.depth} is negative")
        return (values.with_shape((*indices.shape[:self.axis], self.depth, *indices.shape[self.axis:])),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        indices, values = given(inputs[0]).astype(np.int64), given(inputs[1])
        depth = dim(self.depth)
        hot = np.expand_dims(np.where(indices < 0, indices + depth, indices), self.axis)
        line = np.arange(depth).reshape((-1,) + (1,) * (indices.ndim - self.axis))
        return (np.where(hot == line, values[1], values[0]),)


def tuple_width(indices: TensorType) -> int:
    """The number of entries of each index tuple of GatherND and ScatterND."""
    if not indices.rank:
        raise InferenceError("indices must have at least one axis")
    width = indices.shape[-1]
    if not isinstance(width, int):
        raise InferenceError(f"the last extent of indices must be a number, but is {to_text(width)}")
    return width


def check_elements(x: TensorType, indices: TensorType, axis: int) -> None:
    """InferenceError unless `indices` fit x on all axes but `axis`."""
    normalize_axis(axis, x.rank)
    if axis < 0 or indices.rank != x.rank:
        raise InferenceError(f"indices {indices} must have the rank of {x}, and axis {axis} be at least 0")
    for other, (extent, length) in enumerate(zip(indices.shape, x.shape)):
        message = f"axis {other} of indices has {to_text(extent)} elements, the operand's {to_text(length)}"
        if other != axis and not rely(Relation.LE, extent, length, message):
            raise InferenceError(message)


def check_updates(x: TensorType, updates: TensorType, shape: Sequence[Dim], reduction: str) -> None:
    """InferenceError unless `updates` have x's type and `shape`, and the reduction exists."""
    if reduction not in REDUCTIONS:
        raise InferenceError(f"reduction {reduction!r} is none of {', '.join(REDUCTIONS)}")
    if updates.dtype is not x.dtype:
        raise InferenceError(f"updates are {updates.dtype.text}, but the operand is {x.dtype.text}")
    if updates.rank != len(shape):
        raise InferenceError(f"updates must have shape {text(shape)}, but are {updates}")
    for axis, (extent, wanted) in enumerate(zip(updates.shape, shape)):
        require_equal(extent, wanted, f"axis {axis} of the updates and of the shape {text(shape)}")


def element_positions(shape: tuple[int, ...], indices: Array, axis: int) -> tuple[Array, ...]:
    """The position in a tensor of `shape` that each element of `indices` speaks of, one array an axis."""
    positions: list[Array] = list(np.indices(indices.shape, sparse=True))
    for other, extent in enumerate(indices.shape):
        if other != axis and extent > shape[other]:
            raise IndexFault(f"axis {other} of indices has {extent} elements, the operand's {shape[other]}")
    positions[axis] = wrap(indices, shape[axis])
    return tuple(positions)
