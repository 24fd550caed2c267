"""Operators that combine elements along axes: reductions, arg-reductions, cumulative ones, top-k."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from dlc.errors import InputError
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
from dlc.ir.ops.common import NUMBERS, given, require_dtype, take
from dlc.ir.ops.conversion import convert, integer_range
from dlc.ir.types import TensorType, Type

_REDUCTIONS = frozenset({"sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum",
                         "log_sum_exp"})


@dataclasses.dataclass(frozen=True)
class Reduction(Operator):
    """Base of the operators of this file."""

    kind: ClassVar[OperatorClass] = OperatorClass.REDUCTION

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        """One an operand element."""
        return sum((t.elements for t in inputs[:1] if isinstance(t, TensorType)), start=0)


def reduced_shape(shape: Sequence[Dim], axes: Sequence[int], keepdims: bool) -> tuple[Dim, ...]:
    """`shape` with `axes` removed, or of extent 1 when `keepdims`."""
    if keepdims:
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    return tuple(extent for axis, extent in enumerate(shape) if axis not in axes)


@dataclasses.dataclass(frozen=True)
class Reduce(Reduction):
    """A reduction over `axes`, which are counted from the front and ascend; () reduces nothing.

    fn: sum mean max min prod l1 (sum of magnitudes) l2 (root of sum_square) sum_square log_sum log_sum_exp.
    Numbers, and bool for max and min. Over no elements: sum, l1, l2, sum_square 0; prod 1; mean NaN (0 for
    integers); max and min their identity (-inf and inf, the type's limits, false and true); log_sum and
    log_sum_exp -inf. max and min propagate NaN. Integer sums wrap, an integer mean truncates toward zero, and
    of integers the functions with a root or logarithm are converted as by Cast. Sums of floats accumulate in
    float64. Over no axes the sum is dropped, the rest of the function stays (l1 gives magnitudes).
    """

    fn: str
    axes: tuple[int, ...]
    keepdims: bool = True

    def __post_init__(self) -> None:
        if self.fn not in _REDUCTIONS:
            raise ValueError(f"there is no reduction {self.fn!r}")
        if list(self.axes) != sorted(set(self.axes)) or any(axis < 0 for axis in self.axes):
            raise ValueError(f"axes {self.axes} must be ascending and counted from the front")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        allowed = NUMBERS | {DType.BOOL} if self.fn in ("max", "min") else NUMBERS
        require_dtype(x, allowed, f"the operand of {self.fn}")
        if self.axes and self.axes[-1] >= x.rank:
            raise InferenceError(f"axis {self.axes[-1]} is outside a tensor of rank {x.rank}")
        return (TensorType(x.dtype, reduced_shape(x.shape, self.axes, self.keepdims)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        dtype = from_numpy(x.dtype)
        with np.errstate(all="ignore"):
            wide = x.astype(compute_dtype(x.dtype), copy=False)
            if dtype.is_integer and self.fn in ("l2", "log_sum", "log_sum_exp"):
                wide = x.astype(np.float64)
            return (convert(np.asarray(self._reduce(wide, dtype)), dtype),)

    def _reduce(self, x: Array, dtype: DType) -> Array:
        match self.fn:
            case "sum":
                return self._sum(x)
            case "mean":
                return self._mean(x)
            case "max":
                lowest = _limit(dtype, -1)
                return np.asarray(np.max(x, axis=self.axes, keepdims=self.keepdims, initial=lowest))
            case "min":
                highest = _limit(dtype, 1)
                return np.asarray(np.min(x, axis=self.axes, keepdims=self.keepdims, initial=highest))
            case "prod":
                return np.asarray(np.prod(x, axis=self.axes, keepdims=self.keepdims, dtype=x.dtype))
            case "l1":
                return self._sum(np.abs(x))
            case "l2":
                return np.sqrt(self._sum(np.square(x)))
            case "sum_square":
                return self._sum(np.square(x))
            case "log_sum":
                return np.log(self._sum(x))
        return self._log_sum_exp(x)

    def _sum(self, x: Array) -> Array:
        accumulator = np.float64 if x.dtype.kind == "f" else x.dtype
        return np.asarray(np.sum(x, axis=self.axes, keepdims=self.keepdims, dtype=accumulator))

    def _mean(self, x: Array) -> Array:
        total = self._sum(x)
        count = int(np.prod([x.shape[axis] for axis in self.axes], dtype=np.int64))
        if x.dtype.kind == "f":
            return np.asarray(total / count if count else np.full_like(total, np.nan))
        return total if count == 0 else (np.sign(total.astype(object)) * (abs(total.astype(object)) // count))

    def _log_sum_exp(self, x: Array) -> Array:
        """max + log(sum(exp(x - max))): the standard's formula without overflow."""
        x = x.astype(np.float64)
        peak = np.max(x, axis=self.axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(peak), peak, 0.0)
        total = np.sum(np.exp(x - shift), axis=self.axes, keepdims=True)
        result = shift + np.log(total)
        return np.asarray(result if self.keepdims else np.squeeze(result, axis=self.axes))


def _limit(dtype: DType, sign: int) -> float | int | bool:
    """The identity of max (sign -1) or min (sign 1): the infinity or limit of the type."""
    if dtype is DType.BOOL:
        return sign > 0
    if dtype.is_integer:
        return integer_range(dtype)[sign > 0]
    return sign * np.inf


@dataclasses.dataclass(frozen=True)
class ArgReduce(Reduction):
    """The position along `axis` of the largest (fn max) or smallest (min) element, as i64.

    Of equal elements the first counts, or the last when `select_last`. A NaN counts as the extremum.
    """

    fn: str
    axis: int
    keepdims: bool = True
    select_last: bool = False

    def __post_init__(self) -> None:
        if self.fn not in ("max", "min"):
            raise ValueError(f"there is no arg-reduction {self.fn!r}")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_dtype(x, NUMBERS, "the operand")
        axis = normalize_axis(self.axis, x.rank)
        if x.shape[axis] == 0:
            raise InferenceError(f"axis {axis} has no elements to choose from")
        return (TensorType(DType.I64, reduced_shape(x.shape, (axis,), self.keepdims)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        x = x.astype(compute_dtype(x.dtype), copy=False)
        extent = x.shape[self.axis]
        if extent == 0:
            raise InputError(f"axis {self.axis} of the operand of {self.name} has no elements to choose from")
        choose = np.argmax if self.fn == "max" else np.argmin
        if self.select_last:
            x = np.flip(x, self.axis)
        position = choose(x, axis=self.axis, keepdims=self.keepdims)
        return (np.asarray(extent - 1 - position if self.select_last else position, dtype=np.int64),)


@dataclasses.dataclass(frozen=True)
class Cumulative(Reduction):
    """The sum or product of all elements up to each one along `axis`.

    `exclusive` leaves the element itself out; `reverse` runs from the end. Integers wrap; floats accumulate
    in float64.
    """

    fn: str
    axis: int
    exclusive: bool = False
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.fn not in ("sum", "prod"):
            raise ValueError(f"there is no cumulative function {self.fn!r}")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_dtype(x, NUMBERS, "the operand")
        normalize_axis(self.axis, x.rank)
        return (TensorType(x.dtype, x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        dtype = from_numpy(x.dtype)
        accumulator = np.dtype(np.float64) if dtype.is_float else x.dtype
        run: Callable[..., Array] = np.cumsum if self.fn == "sum" else np.cumprod
        with np.errstate(all="ignore"):
            wide = np.moveaxis(x.astype(accumulator, copy=False), self.axis, 0)
            if self.reverse:
                wide = wide[::-1]
            result = run(wide, axis=0, dtype=accumulator)
            if self.exclusive and len(result):
                first = np.full_like(result[:1], 0 if self.fn == "sum" else 1)
                result = np.concatenate([first, result[:-1]])
            if self.reverse:
                result = result[::-1]
            return (convert(np.moveaxis(result, 0, self.axis), dtype),)


@dataclasses.dataclass(frozen=True)
class TopK(Reduction):
    """The `k` largest (or smallest) elements along `axis` and their positions (i64).

    Equal elements keep their order: the lower position first. NaN counts as larger than every number. The
    result is descending (ascending for the smallest) when `sorted`; otherwise its order is undefined, and the
    evaluator sorts all the same.
    """

    axis: int
    k: Dim
    largest: bool = True
    sorted: bool = True

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_dtype(x, NUMBERS, "the operand")
        axis = normalize_axis(self.axis, x.rank)
        extent = x.shape[axis]
        if isinstance(self.k, int) and (self.k < 0 or (isinstance(extent, int) and self.k > extent)):
            raise InferenceError(f"k = {self.k} elements cannot be chosen out of {extent}")
        shape = tuple(self.k if index == axis else size for index, size in enumerate(x.shape))
        return (TensorType(x.dtype, shape), TensorType(DType.I64, shape))

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        k, extent = dim(self.k), x.shape[self.axis]
        if not 0 <= k <= extent:
            raise InputError(f"{self.name}: k = {k} elements cannot be chosen out of {extent}")
        order = np.take(self._order(x), range(k), axis=self.axis)
        return (np.take_along_axis(x, order, axis=self.axis), order.astype(np.int64))

    def _order(self, x: Array) -> Array:
        """Positions in the wanted order, by a stable sort of keys that ascend."""
        if from_numpy(x.dtype).is_float:
            number = x.astype(np.float64)
            is_nan = np.isnan(number)
            key = np.where(is_nan, 0.0, -number if self.largest else number)
            return np.lexsort((key, ~is_nan if self.largest else is_nan), axis=self.axis)
        return np.argsort(~x if self.largest else x, axis=self.axis, kind="stable")

