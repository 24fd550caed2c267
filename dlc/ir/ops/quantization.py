"""Affine quantization: real number = (stored number - zero point) * scale."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

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
from dlc.ir.ops.checks import require_equal
from dlc.ir.ops.common import given, require_dtype, require_vector, take
from dlc.ir.ops.conversion import convert, integer_range
from dlc.ir.types import TensorType, Type

_REALS = frozenset({DType.F32, DType.F16, DType.BF16})
_QUANTIZED_INTEGERS = frozenset({DType.U8, DType.I8, DType.U16, DType.I16, DType.U4, DType.I4, DType.U2,
                                 DType.I2})
_QUANTIZED_FLOATS = frozenset({DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ,
                               DType.F4E2M1})
QUANTIZED = _QUANTIZED_INTEGERS | _QUANTIZED_FLOATS
"""The element types that QuantizeLinear makes; DequantizeLinear reads i32 too."""


@dataclasses.dataclass(frozen=True)
class _Linear(Operator):
    """What both directions share: how scale and zero point spread over x.

    A scalar scale holds for the whole tensor; a vector for each position along `axis` (from the front); with
    `block_size` > 0 the scale has the rank of x and each of its elements along `axis` holds for that many.
    """

    axis: int
    block_size: int

    kind: ClassVar[OperatorClass] = OperatorClass.POINTWISE

    def _check_parameter(self, x: TensorType, parameter: TensorType, what: str) -> None:
        if not self.block_size and (parameter.rank == 0 or parameter.shape == (1,)):
            return
        axis = normalize_axis(self.axis, x.rank)
        if not self.block_size:
            require_vector(parameter, x.shape[axis], what)
            return
        if parameter.rank != x.rank:
            raise InferenceError(f"{what} must have the rank of x, {x.rank}, for blocks, but is {parameter}")
        for index, (extent, size) in enumerate(zip(x.shape, parameter.shape)):
            wanted = (extent + self.block_size - 1) // self.block_size if index == axis else extent
            require_equal(wanted, size, f"axis {index} of the blocks of x and of {what}")

    def _check(self, x: TensorType, scale: TensorType, zero_point: TensorType | None, stored: DType) -> None:
        self._check_parameter(x, scale, "scale")
        if zero_point is not None:
            self._check_parameter(x, zero_point, "zero_point")
            if zero_point.dtype is not stored:
                raise InferenceError(f"zero_point must be of type {stored.text}, but is {zero_point}")

    def spread(self, parameter: Array, shape: Sequence[int]) -> Array:
        """`parameter` repeated or reshaped so that it broadcasts against a tensor of `shape`."""
        if self.block_size:
            repeated = np.repeat(parameter, self.block_size, axis=self.axis)
            return np.take(repeated, range(shape[self.axis]), axis=self.axis)
        if parameter.size == 1 and parameter.ndim <= 1:
            return parameter.reshape(())
        return parameter.reshape([-1 if index == self.axis else 1 for index in range(len(shape))])


@dataclasses.dataclass(frozen=True)
class QuantizeLinear(_Linear):
    """saturate(round(x / scale) + zero_point), rounding half to even; operands x, scale, zero_point or None.

    The division is rounded to `precision` (None: the type of scale). To 8-bit and 4-bit floats there is no
    rounding to integers: x / scale + zero_point is converted as by Cast with `saturate`. NaN becomes the
    smallest number of an integer type, as in onnxruntime.
    """

    to: DType
    saturate: bool = True
    precision: DType | None = None

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x, scale), (zero_point,) = take(inputs, 2, optional=1)
        require_dtype(x, _REALS | {DType.I32}, "x")
        require_dtype(scale, _REALS | {DType.I32, DType.F8E8M0}, "scale")
        if self.to not in QUANTIZED:
            raise InferenceError(f"{self.to.text} is not a type of quantized tensors")
        self._check(x, scale, zero_point, self.to)
        return (TensorType(self.to, x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, scale = given(inputs[0]), given(inputs[1])
        zero_point = inputs[2] if len(inputs) > 2 else None
        offset = np.float64(0) if zero_point is None else self.spread(zero_point, x.shape).astype(np.float64)
        with np.errstate(all="ignore"):
            quotient = self._divide(x, self.spread(scale, x.shape))
            if self.to.is_float:
                return (convert(quotient + offset, self.to, self.saturate),)
            low, high = integer_range(self.to)
            number = np.clip(np.rint(quotient) + offset, low, high)
            number = np.where(np.isnan(number), low, number)
            return (np.asarray(number.astype(np.int64).astype(self.to.numpy)),)

    def _divide(self, x: Array, scale: Array) -> Array:
        """x / scale as float64 holding numbers of the precision asked for."""
        precision = self.precision or from_numpy(scale.dtype)
        if precision not in _REALS:
            precision = DType.F32
        working = compute_dtype(precision.numpy)
        return convert(x.astype(working) / scale.astype(working), precision).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class DequantizeLinear(_Linear):
    """(x - zero_point) * scale in the type `to`; operands x, scale, zero_point or None (always None for i32).

    Differences of integers are exact; the product is computed in float32 and rounded once to `to`.
    """

    to: DType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x, scale), (zero_point,) = take(inputs, 2, optional=1)
        require_dtype(x, QUANTIZED | {DType.I32}, "x")
        require_dtype(scale, _REALS | {DType.F8E8M0}, "scale")
        if self.to not in _REALS:
            raise InferenceError(f"dequantized tensors are of type f32, f16 or bf16, not {self.to.text}")
        self._check(x, scale, zero_point, x.dtype)
        return (TensorType(self.to, x.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, scale = given(inputs[0]), given(inputs[1])
        zero_point = inputs[2] if len(inputs) > 2 else None
        difference = x.astype(np.float64)
        if zero_point is not None:
            difference = difference - self.spread(zero_point, x.shape).astype(np.float64)
        with np.errstate(all="ignore"):
            product = difference.astype(np.float32) * self.spread(scale, x.shape).astype(np.float32)
        return (convert(np.asarray(product), self.to),)
