"""Convolution, transposed convolution and pooling over 1, 2 or 3 spatial axes, channels on axis 1."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir import dims
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.operator import (
    Array,
    EvaluateDim,
    InferenceError,
    Operator,
    OperatorClass,
    compute_dtype,
    prod,
    tensor,
)
from dlc.ir.ops.checks import optional, require_equal, require_shape
from dlc.ir.ops.common import given
from dlc.ir.ops.contraction import carrier_dtype, contraction_dtype, result_dtype, round_result
from dlc.ir.ops.windows import (
    numbers,
    output_extent,
    pad_spatial,
    tap_of_kernel,
    tap_slices,
    taps,
    transposed_extent,
)
from dlc.ir.types import TensorType, Type


def _spatial(x: Type | None, rank: int, what: str) -> TensorType:
    """`x` as a tensor with `rank` spatial axes; InferenceError otherwise."""
    type_ = tensor(x, what)
    if type_.rank != rank + 2:
        raise InferenceError(f"{what} must have rank {rank + 2} (two axes and {rank} spatial ones), "
                             f"but has rank {type_.rank}")
    return type_


def _check_geometry(**fields: Sequence[object]) -> int:
    """The common length of the attributes that have one entry a spatial axis; InferenceError otherwise."""
    lengths = {name: len(field) for name, field in fields.items()}
    if len(set(lengths.values())) != 1:
        raise InferenceError(f"attributes speak of different numbers of spatial axes: {lengths}")
    return next(iter(lengths.values()))


@dataclasses.dataclass(frozen=True)
class Conv(Operator):
    """Cross-correlation: x [N, C, S...], w [O, C / groups, K...], b [O] or absent -> y [N, O, ...].

    Padding is with zeros. Element types as for MatMul.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[Dim, Dim], ...]
    groups: int = 1

    kind: ClassVar[OperatorClass] = OperatorClass.CONTRACTION

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        rank = _check_geometry(strides=self.strides, dilations=self.dilations, pads=self.pads)
        x, w = _spatial(inputs[0], rank, "x"), _spatial(inputs[1], rank, "w")
        dtype = contraction_dtype(x.dtype, w.dtype)
        require_equal(x.shape[1], w.shape[1] * self.groups, "channels of x and of w times groups")
        if isinstance(w.shape[0], int) and w.shape[0] % self.groups:
            raise InferenceError(f"{w.shape[0]} output channels are not divisible by {self.groups} groups")
        bias = optional(inputs, 2)
        if bias is not None:
            _check_bias(bias, w.shape[0], dtype)
        spatial = (output_extent(*axis) for axis in
                   zip(x.shape[2:], w.shape[2:], self.strides, self.dilations, self.pads, strict=True))
        return (TensorType(dtype, (x.shape[0], w.shape[0], *spatial)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, w, b = given(inputs[0]), given(inputs[1]), (*inputs, None)[2]
        dtype = result_dtype(x, w)
        carrier = carrier_dtype(x, w, prod(w.shape[1:]))
        pads = [(dim(before), dim(after)) for before, after in self.pads]
        padded = pad_spatial(x.astype(carrier, copy=False), pads)
        outputs = numbers([dim(output_extent(*axis)) for axis in
                           zip(padded.shape[2:], w.shape[2:], self.strides, self.dilations,
                               [(0, 0)] * len(pads), strict=True)])
        batch, channels, per_group = len(x), len(w), w.shape[1]
        weights = w.astype(carrier, copy=False).reshape(self.groups, channels // self.groups, *w.shape[1:])
        sums = np.zeros((batch, self.groups, channels // self.groups, prod(outputs)), carrier)
        for tap in taps(w.shape[2:]):
            read = tap_slices(tap, outputs, self.strides, self.dilations)
            window = padded[(slice(None), slice(None), *read)]
            columns = window.reshape(batch, self.groups, per_group, prod(outputs))
            sums += np.matmul(weights[tap_of_kernel(tap)], columns)
        y = sums.reshape(batch, channels, *outputs)
        return (round_result(_add_bias(y, b), dtype),)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        return tensor(outputs[0], "y").elements * dims.product(tensor(inputs[1], "w").shape[1:]) * 2


def _check_bias(bias: Type, channels: Dim, dtype: DType) -> None:
    type_ = require_shape(bias, (channels,), "the bias")
    if type_.dtype is not dtype:
        raise InferenceError(f"the bias must be {dtype}, but is {type_.dtype}")


def _add_bias(y: Array, bias: Array | None) -> Array:
    """`y` [N, O, S...] plus the bias of each channel, in y's type."""
    if bias is None:
        return y
    summed: Array = y + bias.astype(y.dtype, copy=False).reshape(1, -1, *[1] * (y.ndim - 2))
    return summed


@dataclasses.dataclass(frozen=True)
class ConvTranspose(Operator):
    """The gradient of Conv: x [N, C, S...], w [C, O / groups, K...], b [O] or absent -> y [N, O, ...].

    Every input element adds its multiple of the kernel at stride times its position; `pads` are cut off the
    result, `output_padding` lengthens it at its end.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[Dim, Dim], ...]
    output_padding: tuple[Dim, ...]
    groups: int = 1

    kind: ClassVar[OperatorClass] = OperatorClass.CONTRACTION

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        rank = _check_geometry(strides=self.strides, dilations=self.dilations, pads=self.pads,
                               output_padding=self.output_padding)
        x, w = _spatial(inputs[0], rank, "x"), _spatial(inputs[1], rank, "w")
        dtype = contraction_dtype(x.dtype, w.dtype)
        require_equal(x.shape[1], w.shape[0], "channels of x and of w")
        if isinstance(w.shape[0], int) and w.shape[0] % self.groups:
            raise InferenceError(f"{w.shape[0]} input channels are not divisible by {self.groups} groups")
        channels = w.shape[1] * self.groups
        bias = optional(inputs, 2)
        if bias is not None:
            _check_bias(bias, channels, dtype)
        spatial = self._extents(x.shape[2:], w.shape[2:])
        if any(isinstance(extent, int) and extent < 0 for extent in spatial):
            raise InferenceError("the padding is larger than the output")
        return (TensorType(dtype, (x.shape[0], channels, *spatial)),)

    def _extents(self, spatial: Sequence[Dim], kernel: Sequence[Dim]) -> list[Dim]:
        axes = zip(spatial, kernel, self.strides, self.dilations, self.pads, self.output_padding, strict=True)
        return [transposed_extent(*axis) for axis in axes]

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, w, b = given(inputs[0]), given(inputs[1]), (*inputs, None)[2]
        dtype = result_dtype(x, w)
        batch, inputs_per_group, outputs_per_group = len(x), len(w) // self.groups, w.shape[1]
        carrier = carrier_dtype(x, w, inputs_per_group * prod(w.shape[2:]))
        outputs = numbers([dim(extent) for extent in self._extents(x.shape[2:], w.shape[2:])])
        before = [dim(pads[0]) for pads in self.pads]
        full = [max((i - 1) * s + (k - 1) * d + 1, front + o) for i, k, s, d, front, o in
                zip(x.shape[2:], w.shape[2:], self.strides, self.dilations, before, outputs, strict=True)]
        spread = (batch, self.groups, inputs_per_group, prod(x.shape[2:]))
        columns = x.astype(carrier, copy=False).reshape(spread)
        weights = w.astype(carrier, copy=False).reshape(self.groups, inputs_per_group, *w.shape[1:])
        sums = np.zeros((batch, self.groups * outputs_per_group, *full), carrier)
        for tap in taps(w.shape[2:]):
            products = np.matmul(np.swapaxes(weights[tap_of_kernel(tap)], 1, 2), columns)
            target = tap_slices(tap, x.shape[2:], self.strides, self.dilations)
            sums[(slice(None), slice(None), *target)] += products.reshape(batch, sums.shape[1], *x.shape[2:])
        window = tuple(slice(front, front + o) for front, o in zip(before, outputs, strict=True))
        return (round_result(_add_bias(sums[(slice(None), slice(None), *window)], b), dtype),)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        return tensor(inputs[0], "x").elements * dims.product(tensor(inputs[1], "w").shape[1:]) * 2


@dataclasses.dataclass(frozen=True)
class Pool(Operator):
    """Maximum, average or Lp norm of sliding windows: x [N, C, S...] -> y [N, C, ...] (and indices).

    `fn` is "max", "average" or "lp". Padding never wins a maximum; an average divides by the elements inside
    the input, or inside input and padding with `count_include_pad` (never by those that overhang in
    `ceil_mode`). NaN propagates. With `indices` (max only) a second output, i64, holds the position of the
    first maximum in x flattened, its spatial axes in reverse order when `column_major`. A window wholly in
    the padding has the maximum -infinity (of integers the minimum) at -1, and the average NaN.
    """

    fn: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[Dim, Dim], ...]
    ceil_mode: bool = False
    count_include_pad: bool = False
    p: int = 2
    indices: bool = False
    column_major: bool = False

    kind: ClassVar[OperatorClass] = OperatorClass.REDUCTION

    def _extents(self, spatial: Sequence[Dim]) -> list[Dim]:
        return [output_extent(*axis, self.ceil_mode) for axis in
                zip(spatial, self.kernel, self.strides, self.dilations, self.pads, strict=True)]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        rank = _check_geometry(kernel=self.kernel, strides=self.strides, dilations=self.dilations,
                               pads=self.pads)
        x = _spatial(inputs[0], rank, "x")
        if not (x.dtype.is_float or (self.fn == "max" and x.dtype.is_integer)):
            raise InferenceError(f"a pool ({self.fn}) does not take {x.dtype}")
        y = x.with_shape((*x.shape[:2], *self._extents(x.shape[2:])))
        return (y, y.with_dtype(DType.I64)) if self.indices else (y,)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        outputs = numbers([dim(extent) for extent in self._extents(x.shape[2:])])
        pads = [(dim(before), dim(after)) for before, after in self.pads]
        if self.fn == "max":
            return self._maximum(x, pads, outputs)
        wide = x.astype(compute_dtype(x.dtype), copy=False)
        padded = self._padded(wide, pads, outputs, 0)
        sums = np.zeros((*x.shape[:2], *outputs), wide.dtype)
        for tap in taps(self.kernel):
            part = self._tap(padded, tap, outputs)
            sums += np.abs(part) ** self.p if self.fn == "lp" else part
        with np.errstate(invalid="ignore"):
            y = sums ** (1 / self.p) if self.fn == "lp" else sums / self._counts(x.shape[2:], pads, outputs)
        return (y.astype(x.dtype, copy=False),)

    def _padded(self, x: Array, pads: list[tuple[int, int]], outputs: tuple[int, ...], fill: float) -> Array:
        """`x` padded as far as the windows reach."""
        reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in
                 zip(outputs, self.strides, self.kernel, self.dilations, strict=True)]
        ends = [max(after, r - before - extent) for (before, after), r, extent in
                zip(pads, reach, x.shape[2:], strict=True)]
        return pad_spatial(x, [(before, end) for (before, _), end in zip(pads, ends, strict=True)], fill)

    def _tap(self, padded: Array, tap: tuple[int, ...], outputs: tuple[int, ...]) -> Array:
        return padded[(slice(None), slice(None), *tap_slices(tap, outputs, self.strides, self.dilations))]

    def _counts(self, spatial: Sequence[int], pads: list[tuple[int, int]], outputs: tuple[int, ...]) -> Array:
        """The number of elements that each window's average divides by."""
        counts = np.ones((), np.int64)
        geometry = zip(spatial, self.kernel, self.strides, self.dilations, pads, outputs, strict=True)
        for extent, kernel, stride, dilation, (before, after), count in geometry:
            low, high = (-before, extent + after) if self.count_include_pad else (0, extent)
            positions = np.arange(count)[:, None] * stride - before + np.arange(kernel) * dilation
            along = ((positions >= low) & (positions < high)).sum(axis=1)
            counts = counts[..., None] * along
        return counts

    def _maximum(self, x: Array, pads: list[tuple[int, int]], outputs: tuple[int, ...]) -> tuple[Array, ...]:
        """The maxima and, when asked for, their positions."""
        integral = np.issubdtype(x.dtype, np.integer)
        wide = x if integral else x.astype(compute_dtype(x.dtype), copy=False)
        lowest = int(np.iinfo(wide.dtype).min) if integral else -np.inf
        padded = self._padded(wide, pads, outputs, lowest)
        best = np.full((*x.shape[:2], *outputs), lowest, wide.dtype)
        chosen = np.full(best.shape, -1, np.int64)
        for tap in taps(self.kernel):
            part = self._tap(padded, tap, outputs)
            if self.indices:
                position, inside = self._positions(x.shape[2:], tap, pads, outputs)
                better = inside & ((chosen < 0) | (part > best) | (np.isnan(part) & ~np.isnan(best)))
                chosen = np.where(better, position, chosen)
            best = np.maximum(best, part)
        y = best.astype(x.dtype, copy=False)
        if not self.indices:
            return (y,)
        planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(outputs))
        return y, np.where(chosen < 0, -1, chosen + planes * prod(x.shape[2:]))

    def _positions(self, spatial: Sequence[int], tap: tuple[int, ...], pads: list[tuple[int, int]],
                   outputs: tuple[int, ...]) -> tuple[Array, Array]:
        """For one tap and every window: its position in a flattened plane of x, and whether it is inside."""
        steps = [prod(spatial[:axis]) if self.column_major else prod(spatial[axis + 1:])
                 for axis in range(len(spatial))]
        position, inside = np.zeros((), np.int64), np.ones((), np.bool_)
        geometry = zip(spatial, tap, self.strides, self.dilations, pads, outputs, steps, strict=True)
        for extent, offset, stride, dilation, (before, _), count, step in geometry:
            at = np.arange(count) * stride - before + offset * dilation
            position = position[..., None] + at * step
            inside = inside[..., None] & (at >= 0) & (at < extent)
        return position, inside

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        return tensor(outputs[0], "y").elements * prod(self.kernel)
