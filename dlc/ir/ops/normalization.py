"""Operators that scale elements by statistics of a group of elements; kept whole until lowering.

All are for f64, f32, f16 and bf16. Evaluation computes in float64 and rounds once at the end. Variances are
those of the population (divided by N).
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType, from_numpy
from dlc.ir.operator import (
    Array,
    EvaluateDim,
    InferenceError,
    Operator,
    OperatorClass,
    compute_dtype,
    normalize_axis,
)
from dlc.ir.ops.common import (
    FLOATS,
    given,
    require_broadcastable,
    require_dtype,
    require_vector,
    same_dtype,
    take,
)
from dlc.ir.ops.conversion import convert
from dlc.ir.types import TensorType, Type


@dataclasses.dataclass(frozen=True)
class Normalization(Operator):
    """Base of the operators of this file."""

    kind: ClassVar[OperatorClass] = OperatorClass.NORMALIZATION

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        """About five an element: two passes for the statistics, then subtract, multiply and add."""
        return sum((5 * t.elements for t in outputs[:1] if isinstance(t, TensorType)), start=0)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        wide = [None if operand is None else operand.astype(np.float64) for operand in inputs]
        with np.errstate(all="ignore"):
            return (convert(self.normalize(wide), self._result(inputs)),)

    def normalize(self, inputs: Sequence[Array | None]) -> Array:
        """The first output for operands in float64."""
        raise TypeError(f"{self.name} defines no evaluation")

    def _result(self, inputs: Sequence[Array | None]) -> DType:
        return from_numpy(given(inputs[0]).dtype)


@dataclasses.dataclass(frozen=True)
class _AlongAxis(Normalization):
    """One operand, normalized along `axis` (counted from the front)."""

    axis: int

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_dtype(x, FLOATS, "the operand")
        normalize_axis(self.axis, x.rank)
        return (TensorType(x.dtype, x.shape),)


def _shifted(x: Array, axis: int) -> Array:
    """`x` minus its maximum along `axis` (nothing is subtracted from no elements)."""
    return np.asarray(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))


@dataclasses.dataclass(frozen=True)
class Softmax(_AlongAxis):
    """exp(x) / sum(exp(x)) along `axis`. A row that is -inf throughout, or holds +inf or NaN, is NaN."""

    def normalize(self, inputs: Sequence[Array | None]) -> Array:
        x = given(inputs[0])
        power = np.exp(_shifted(x, self.axis))
        return np.asarray(power / np.sum(power, axis=self.axis, keepdims=True))


@dataclasses.dataclass(frozen=True)
class LogSoftmax(_AlongAxis):
    """log(softmax(x)) along `axis`, without the underflow of the two steps."""

    def normalize(self, inputs: Sequence[Array | None]) -> Array:
        x = given(inputs[0])
        shifted = _shifted(x, self.axis)
        return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=self.axis, keepdims=True)))


@dataclasses.dataclass(frozen=True)
class LpNorm(_AlongAxis):
    """x divided by its l1 (p = 1) or l2 norm (p = 2) along `axis`; 0 where the norm is 0."""

    p: int = 2

    def __post_init__(self) -> None:
        if self.p not in (1, 2):
            raise ValueError(f"p = {self.p} is neither 1 nor 2")

    def normalize(self, inputs: Sequence[Array | None]) -> Array:
        x = given(inputs[0])
        power = np.sum(np.abs(x) if self.p == 1 else np.square(x), axis=self.axis, keepdims=True)
        norm = power if self.p == 1 else np.sqrt(power)
        return np.where(norm == 0, 0.0, x / norm)


@dataclasses.dataclass(frozen=True)
class LayerNorm(Normalization):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the axes from `axis` (from the front) on.

    Operands x, scale, bias or None; scale and bias broadcast to x. With `statistics` also mean and
    1 / sqrt(variance + epsilon), of extent 1 along the normalized axes: f64 for f64, otherwise f32.
    """

    axis: int
    epsilon: float
    statistics: bool = False

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x, scale), (bias,) = take(inputs, 2, optional=1)
        operands = [x, scale] if bias is None else [x, scale, bias]
        require_dtype(x, FLOATS, "x")
        same_dtype(operands, "x, scale and bias")
        axis = normalize_axis(self.axis, x.rank)
        for operand, what in zip(operands[1:], ("scale", "bias")):
            require_broadcastable(operand, x.shape, what)
        y = TensorType(x.dtype, x.shape)
        if not self.statistics:
            return (y,)
        dtype = DType.F64 if x.dtype is DType.F64 else DType.F32
        row = TensorType(dtype, (*x.shape[:axis], *[1] * (x.rank - axis)))
        return (y, row, row)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        operand = given(inputs[0])
        x, scale = operand.astype(np.float64), given(inputs[1]).astype(np.float64)
        bias = inputs[2] if len(inputs) > 2 else None
        axes = tuple(range(self.axis, x.ndim))
        with np.errstate(all="ignore"):
            mean, inverse = standard_statistics(x, axes, self.epsilon)
            y = (x - mean) * inverse * scale
            if bias is not None:
                y = y + bias.astype(np.float64)
        result = convert(np.asarray(y), from_numpy(operand.dtype))
        if not self.statistics:
            return (result,)
        dtype = from_numpy(compute_dtype(operand.dtype))
        return (result, convert(mean, dtype), convert(inverse, dtype))


def standard_statistics(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array]:
    """Mean and 1 / sqrt(variance + epsilon) over `axes`, kept with extent 1."""
    count = np.prod([x.shape[axis] for axis in axes], dtype=np.float64)
    mean = np.asarray(np.sum(x, axis=axes, keepdims=True) / count)
    variance = np.sum(np.square(x - mean), axis=axes, keepdims=True) / count
    return mean, np.asarray(1 / np.sqrt(variance + epsilon))


@dataclasses.dataclass(frozen=True)
class RMSNorm(Normalization):
    """x / sqrt(mean(x^2) + epsilon) * scale over the axes from `axis` (from the front) on.

    Operands x and scale, which broadcasts to x; the result has the type of scale.
    """

    axis: int
    epsilon: float

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x, scale), _ = take(inputs, 2)
        require_dtype(x, FLOATS, "x")
        require_dtype(scale, FLOATS, "scale")
        normalize_axis(self.axis, x.rank)
        require_broadcastable(scale, x.shape, "scale")
        return (TensorType(scale.dtype, x.shape),)

    def normalize(self, inputs: Sequence[Array | None]) -> Array:
        x, scale = given(inputs[0]), given(inputs[1])
        axes = tuple(range(self.axis, x.ndim))
        count = np.prod([x.shape[axis] for axis in axes], dtype=np.float64)
        mean_square = np.sum(np.square(x), axis=axes, keepdims=True) / count
        return np.asarray(x / np.sqrt(mean_square + self.epsilon) * scale)

    def _result(self, inputs: Sequence[Array | None]) -> DType:
        return from_numpy(given(inputs[1]).dtype)


def _per_channel(vector: Array, rank: int) -> Array:
    """A vector over channels shaped to broadcast along axis 1 of a tensor of `rank` (axis 0 is of one channel
    when the rank is 1)."""
    return vector.reshape(1, -1, *[1] * (rank - 2)) if rank > 1 else vector


@dataclasses.dataclass(frozen=True)
class BatchNorm(Normalization):
    """(x - mean) / sqrt(var + epsilon) * scale + bias with given statistics of each channel (axis 1).

    Operands x[N, C, ...] (or [N], of one channel), scale, bias, mean and var of shape [C], which may be of
    other float types than x.
    """

    epsilon: float

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x, *vectors), _ = take(inputs, 5)
        if x.rank == 0:
            raise InferenceError("x must have a batch axis, but is a scalar")
        require_dtype(x, FLOATS, "x")
        for vector, what in zip(vectors, ("scale", "bias", "mean", "var")):
            require_dtype(vector, FLOATS, what)
            require_vector(vector, x.shape[1] if x.rank > 1 else 1, what)
        return (TensorType(x.dtype, x.shape),)

    def normalize(self, inputs: Sequence[Array | None]) -> Array:
        x = given(inputs[0])
        scale, bias, mean, var = (_per_channel(given(vector), x.ndim) for vector in inputs[1:])
        return np.asarray((x - mean) / np.sqrt(var + self.epsilon) * scale + bias)


@dataclasses.dataclass(frozen=True)
class GroupNorm(Normalization):
    """Each of `groups` groups of channels of each instance to mean 0 and variance 1, then scale and bias.

    Operands x[N, C, ...] with C a multiple of groups, scale and bias of shape [C].
    """

    groups: int
    epsilon: float

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = _infer_channels(inputs)
        channels = x.shape[1]
        if self.groups < 1 or (isinstance(channels, int) and channels % self.groups):
            raise InferenceError(f"{channels} channels do not divide into {self.groups} groups")
        return (x,)

    def normalize(self, inputs: Sequence[Array | None]) -> Array:
        x = given(inputs[0])
        batch, channels, *spatial = x.shape
        grouped = x.reshape(batch, self.groups, channels // self.groups, *spatial)
        mean, inverse = standard_statistics(grouped, tuple(range(2, grouped.ndim)), self.epsilon)
        scale, bias = (_per_channel(given(vector), x.ndim) for vector in inputs[1:])
        return np.asarray(((grouped - mean) * inverse).reshape(x.shape) * scale + bias)


@dataclasses.dataclass(frozen=True)
class InstanceNorm(Normalization):
    """Each channel of each instance to mean 0 and variance 1, then scale and bias.

    Operands x[N, C, ...], scale and bias of shape [C].
    """

    epsilon: float

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        return (_infer_channels(inputs),)

    def normalize(self, inputs: Sequence[Array | None]) -> Array:
        x = given(inputs[0])
        mean, inverse = standard_statistics(x, tuple(range(2, x.ndim)), self.epsilon)
        scale, bias = (_per_channel(given(vector), x.ndim) for vector in inputs[1:])
        return np.asarray((x - mean) * inverse * scale + bias)


def _infer_channels(inputs: Sequence[Type | None]) -> TensorType:
    """The type of x[N, C, ...] after checking it against scale[C] and bias[C] of its type."""
    (x, scale, bias), _ = take(inputs, 3)
    require_dtype(x, FLOATS, "x")
    same_dtype((x, scale, bias), "x, scale and bias")
    if x.rank < 2:
        raise InferenceError(f"x must have a batch and a channel axis, but is {x}")
    require_vector(scale, x.shape[1], "scale")
    require_vector(bias, x.shape[1], "bias")
    return TensorType(x.dtype, x.shape)


@dataclasses.dataclass(frozen=True)
class LRN(Normalization):
    """Local response normalization: x / (bias + alpha / size * s)^beta over channels (axis 1).

    s is the sum of x^2 over those channels from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2) that
    exist.
    """

    size: int
    alpha: float
    beta: float
    bias: float

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_dtype(x, FLOATS, "the operand")
        if x.rank < 2:
            raise InferenceError(f"the operand must have a batch and a channel axis, but is {x}")
        if self.size < 1:
            raise InferenceError(f"size = {self.size} is less than 1")
        return (TensorType(x.dtype, x.shape),)

    def normalize(self, inputs: Sequence[Array | None]) -> Array:
        x = given(inputs[0])
        before, after = (self.size - 1) // 2, self.size // 2
        padding = [(before, after) if axis == 1 else (0, 0) for axis in range(x.ndim)]
        squares = np.pad(np.square(x), padding)
        channels = x.shape[1]
        total = sum((squares[:, at:at + channels] for at in range(self.size)), start=np.zeros_like(x))
        return np.asarray(x / (self.bias + self.alpha / self.size * total) ** self.beta)
