"""Operators that move, repeat or generate elements without arithmetic on their values."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dlc.errors import IndexFault, ShapeError
from dlc.ir.dims import Dim, Relation, product, to_text
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
    tensor,
)
from dlc.ir.ops.checks import require_equal
from dlc.ir.ops.common import given, require_broadcastable, require_vector
from dlc.ir.types import TensorType, Type

PAD_MODES = ("constant", "edge", "reflect", "wrap")


@dataclasses.dataclass(frozen=True)
class Movement(Operator):
    """Base of the operators that only move elements; they do no floating-point operation."""

    kind: ClassVar[OperatorClass] = OperatorClass.MOVEMENT

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        return 0


def text(shape: Sequence[Dim]) -> str:
    """A shape as it stands in messages."""
    return f"[{', '.join(to_text(dim) for dim in shape)}]"


def blank(dtype: np.dtype[Any]) -> Array:
    """The scalar that stands for "no value": zero, or the empty string."""
    return np.array("" if dtype.kind == "O" else 0).astype(dtype)


def check_extents(shape: Sequence[Dim]) -> None:
    """InferenceError when an extent is a negative number."""
    if any(isinstance(extent, int) and extent < 0 for extent in shape):
        raise InferenceError(f"shape {text(shape)} has a negative extent")


@dataclasses.dataclass(frozen=True)
class Reshape(Movement):
    """The elements of x in row-major order under another shape with the same number of elements."""

    shape: tuple[Dim, ...]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "the operand")
        check_extents(self.shape)
        have, wanted = x.elements, product(self.shape)
        message = (f"shape {text(self.shape)} holds {to_text(wanted)} elements, "
                   f"but the operand has {to_text(have)}")
        if not rely(Relation.EQ, have, wanted, message):
            raise InferenceError(message)
        return (x.with_shape(self.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        shape = tuple(dim(extent) for extent in self.shape)
        if any(extent < 0 for extent in shape) or x.size != int(np.prod(shape, dtype=np.int64)):
            raise ShapeError(f"a tensor of shape {x.shape} cannot be reshaped to {shape}")
        return (x.reshape(shape),)


@dataclasses.dataclass(frozen=True)
class Transpose(Movement):
    """Axis i of the result is axis perm[i] of x."""

    perm: tuple[int, ...]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "the operand")
        if sorted(self.perm) != list(range(x.rank)):
            raise InferenceError(f"{self.perm} is no permutation of the {x.rank} axes")
        return (x.with_shape([x.shape[axis] for axis in self.perm]),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        return (given(inputs[0]).transpose(self.perm).copy(),)


@dataclasses.dataclass(frozen=True)
class Expand(Movement):
    """x repeated along its axes of extent 1, and new leading axes, up to exactly `shape`."""

    shape: tuple[Dim, ...]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "the operand")
        check_extents(self.shape)
        if x.rank > len(self.shape):
            raise InferenceError(f"rank {x.rank} cannot be expanded to the {len(self.shape)} axes of "
                                 f"{text(self.shape)}")
        require_broadcastable(x, self.shape, f"the operand {x}")
        return (x.with_shape(self.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        shape = tuple(dim(extent) for extent in self.shape)
        try:
            return (np.broadcast_to(x, shape).copy(),)
        except ValueError:
            raise ShapeError(f"a tensor of shape {x.shape} cannot be expanded to {shape}") from None


@dataclasses.dataclass(frozen=True)
class Concat(Movement):
    """The operands one after the other along `axis` (>= 0); their other extents agree."""

    axis: int

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        parts = [tensor(operand, f"operand {index}") for index, operand in enumerate(inputs)]
        if not parts:
            raise InferenceError("there is nothing to concatenate")
        normalize_axis(self.axis, parts[0].rank)
        shape = list(parts[0].shape)
        for index, part in enumerate(parts[1:], start=1):
            if part.rank != len(shape) or part.dtype is not parts[0].dtype:
                raise InferenceError(f"operand {index} is {part}, but the first one {parts[0]}")
            for axis, extent in enumerate(part.shape):
                if axis == self.axis:
                    shape[axis] = shape[axis] + extent
                    continue
                require_equal(shape[axis], extent, f"extents of axis {axis} of operands 0 and {index}")
                if isinstance(extent, int):
                    shape[axis] = extent
        return (parts[0].with_shape(shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        parts = [given(part) for part in inputs]
        others = {part.shape[:self.axis] + part.shape[self.axis + 1:] for part in parts}
        if len(others) > 1:
            raise ShapeError(f"tensors of shapes {[part.shape for part in parts]} cannot be concatenated "
                             f"along axis {self.axis}")
        return (np.concatenate(parts, axis=self.axis),)


@dataclasses.dataclass(frozen=True)
class Tile(Movement):
    """x repeated `repeats[axis]` times along each axis."""

    repeats: tuple[Dim, ...]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "the operand")
        if len(self.repeats) != x.rank:
            raise InferenceError(f"{len(self.repeats)} repeats were given for {x.rank} axes")
        check_extents(self.repeats)
        return (x.with_shape([extent * count for extent, count in zip(x.shape, self.repeats)]),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        repeats = [dim(count) for count in self.repeats]
        if min(repeats, default=0) < 0:
            raise ShapeError(f"repeats {repeats} are negative")
        return (np.tile(given(inputs[0]), repeats),)


@dataclasses.dataclass(frozen=True)
class Slice(Movement):
    """y[i] = x[starts + i * steps] with i below `extents`; every axis is listed and nothing is clamped."""

    starts: tuple[Dim, ...]
    extents: tuple[Dim, ...]
    steps: tuple[int, ...]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "the operand")
        if not len(self.starts) == len(self.extents) == len(self.steps) == x.rank:
            raise InferenceError(f"starts, extents and steps must have {x.rank} entries, one an axis")
        check_extents(self.extents)
        if 0 in self.steps:
            raise InferenceError("a step is zero")
        for axis, step in enumerate(self.steps):
            length, start, extent = x.shape[axis], self.starts[axis], self.extents[axis]
            if isinstance(length, int) and isinstance(start, int) and isinstance(extent, int) and extent:
                last = start + (extent - 1) * step
                if not (0 <= start < length and 0 <= last < length):
                    raise InferenceError(f"elements {start} to {last} of axis {axis} of {x} do not exist")
        return (x.with_shape(self.extents),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        window = []
        for axis, (start, extent, step) in enumerate(zip(self.starts, self.extents, self.steps)):
            first, count = dim(start), dim(extent)
            stop = first + count * step
            if count < 0 or (count and not (0 <= first < x.shape[axis] and 0 <= stop - step < x.shape[axis])):
                raise IndexFault(f"slice of {count} elements from {first} by {step} leaves axis {axis} "
                                 f"of shape {x.shape}")
            window.append(slice(first, None if stop < 0 else stop, step) if count else slice(0, 0))
        return (x[tuple(window)].copy(),)


@dataclasses.dataclass(frozen=True)
class Pad(Movement):
    """x with `before` and `after` elements (>= 0) added along each axis; operands x and the value or None.

    The element at position p - before[axis] outside of [0, n) is, by mode: the scalar value (0 when absent);
    "edge" the nearest one inside; "reflect" the mirror image about the first and last element, which are not
    repeated (period 2n - 2); "wrap" the one at p modulo n. All but "constant" need n > 0.
    """

    before: tuple[Dim, ...]
    after: tuple[Dim, ...]
    mode: str

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "the operand")
        if self.mode not in PAD_MODES:
            raise InferenceError(f"mode {self.mode!r} is none of {', '.join(PAD_MODES)}")
        if not len(self.before) == len(self.after) == x.rank:
            raise InferenceError(f"pads must have {x.rank} entries before and after, one an axis")
        check_extents(self.before + self.after)
        if len(inputs) > 1 and inputs[1] is not None:
            value = tensor(inputs[1], "the padding value")
            if value.rank or value.dtype is not x.dtype:
                raise InferenceError(f"the padding value must be a scalar of {x.dtype.text}, but is {value}")
        shape = [before + extent + after for before, extent, after in zip(self.before, x.shape, self.after)]
        if self.mode != "constant" and any(
            old == 0 and isinstance(new, int) and new != 0 for old, new in zip(x.shape, shape)
        ):
            raise InferenceError(f"mode {self.mode!r} cannot pad an axis without elements of {text(x.shape)}")
        return (x.with_shape(shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        value = inputs[1] if len(inputs) > 1 else None
        pads = [(dim(before), dim(after)) for before, after in zip(self.before, self.after)]
        if any(min(pad) < 0 for pad in pads):
            raise ShapeError(f"pads {pads} are negative")
        if self.mode == "constant":
            shape = [before + extent + after for extent, (before, after) in zip(x.shape, pads)]
            y = np.full(shape, blank(x.dtype) if value is None else value, dtype=x.dtype)
            y[tuple(slice(before, before + extent) for extent, (before, _) in zip(x.shape, pads))] = x
            return (y,)
        for axis, (before, after) in enumerate(pads):
            if before or after:
                x = np.take(x, self._sources(x.shape[axis], before, after), axis=axis)
        return (x,)

    def _sources(self, extent: int, before: int, after: int) -> Array:
        """For each position of the padded axis, the position in x that it copies."""
        if extent == 0:
            raise ShapeError(f"mode {self.mode!r} cannot pad an axis without elements")
        position = np.arange(-before, extent + after)
        if self.mode == "edge":
            return np.clip(position, 0, extent - 1)
        if self.mode == "wrap":
            return position % extent
        period = max(2 * extent - 2, 1)
        folded = position % period
        return np.minimum(folded, period - folded) if extent > 1 else np.zeros_like(position)


@dataclasses.dataclass(frozen=True)
class Range(Movement):
    """y[i] = start + i * delta for i below `extent`; operands start and delta are scalars of y's type."""

    extent: Dim

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        start, delta = tensor(inputs[0], "start"), tensor(inputs[1], "delta")
        if start.rank or delta.rank or start.dtype is not delta.dtype:
            raise InferenceError(f"start and delta must be scalars of one type, but are {start} and {delta}")
        check_extents((self.extent,))
        return (TensorType(start.dtype, (self.extent,)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        start, delta = given(inputs[0]), given(inputs[1])
        dtype = compute_dtype(start.dtype)
        steps = np.arange(dim(self.extent)).astype(dtype)
        with np.errstate(all="ignore"):
            return ((start.astype(dtype) + steps * delta.astype(dtype)).astype(start.dtype),)


@dataclasses.dataclass(frozen=True)
class DimTensor(Movement):
    """The numbers of `dims`, which are known when the input shapes are, as an i64 tensor of `shape`."""

    dims: tuple[Dim, ...]
    shape: tuple[int, ...]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        if len(self.dims) != product(self.shape):
            raise InferenceError(f"{len(self.dims)} dims do not fill shape {text(self.shape)}")
        return (TensorType(DType.I64, self.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        return (np.array([dim(extent) for extent in self.dims], dtype=np.int64).reshape(self.shape),)


@dataclasses.dataclass(frozen=True)
class Trilu(Movement):
    """x with zeros below (upper) or above (not upper) diagonal `k` of its last two axes.

    Row r and column c are kept where c - r >= k (upper) or c - r <= k.
    """

    upper: bool
    k: Dim

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "the operand")
        if x.rank < 2:
            raise InferenceError(f"the operand must have at least 2 axes, but is {x}")
        return (x.with_shape(x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        rows, columns = x.shape[-2:]
        offset = np.arange(columns)[None, :] - np.arange(rows)[:, None]
        keep = offset >= dim(self.k) if self.upper else offset <= dim(self.k)
        return (np.where(keep, x, blank(x.dtype)),)


@dataclasses.dataclass(frozen=True)
class ReverseSequence(Movement):
    """The first lengths[b] elements along `time_axis` reversed in batch b; operands x and lengths [batch].

    Axes are 0 and 1 in either order. Lengths outside of [0, extent of the time axis] are an IndexFault.
    """

    batch_axis: int
    time_axis: int

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, lengths = tensor(inputs[0], "the operand"), tensor(inputs[1], "the lengths")
        if {self.batch_axis, self.time_axis} != {0, 1}:
            raise InferenceError(f"the batch axis {self.batch_axis} and time axis {self.time_axis} "
                                 "must be 0 and 1")
        if x.rank < 2:
            raise InferenceError(f"the operand must have at least 2 axes, but is {x}")
        require_vector(lengths, x.shape[self.batch_axis], "the lengths")
        if not lengths.dtype.is_integer:
            raise InferenceError(f"lengths must be integers, but are {lengths}")
        return (x.with_shape(x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, lengths = given(inputs[0]), given(inputs[1])
        batch_first = np.moveaxis(x, self.batch_axis, 0)
        y = batch_first.copy()
        for batch, length in enumerate(lengths.tolist()):
            if not 0 <= length <= batch_first.shape[1]:
                raise IndexFault(f"sequence length {length} is outside [0, {batch_first.shape[1]}]")
            y[batch, :length] = batch_first[batch, :length][::-1]
        return (np.ascontiguousarray(np.moveaxis(y, 0, self.batch_axis)),)
