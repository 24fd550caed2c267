"""Resize: interpolation of a tensor on a regular grid, one axis after the other.

Coordinates are computed in float32 (one mode in float64), in the order of operations of `source_coordinates`,
as onnxruntime does: rounding decides which element "nearest" picks, so that all engines must round alike.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dlc.errors import ShapeError
from dlc.ir.dims import Dim, to_text
from dlc.ir.operator import (
    Array,
    EvaluateDim,
    InferenceError,
    Operator,
    OperatorClass,
    tensor,
)
from dlc.ir.ops.common import given, known_different, require_vector
from dlc.ir.ops.movement import check_extents
from dlc.ir.types import Type

MODES = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
               "tf_half_pixel_for_nn", "tf_crop_and_resize")
POLICIES = ("stretch", "not_larger", "not_smaller")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

#: How far from a half a coordinate still counts as a tie of the rounding modes, as in onnxruntime 1.31.
TIE = np.float32(1e-6)


@dataclasses.dataclass(frozen=True)
class Resize(Operator):
    """x interpolated to `sizes`; operands x and, for "tf_crop_and_resize", roi [2 * rank] (starts, ends).

    scales: the factor of each axis that coordinates go by, or None for sizes / extent; it may differ from
        that quotient because sizes were rounded.
    mode: "nearest", "linear" or "cubic" (Keys' kernel with coefficient `cubic_coefficient`).
    coordinates, nearest: the standard's coordinate_transformation_mode and nearest_mode.
    exclude_outside: taps outside of x get no weight, the others are scaled to sum 1; else they read the edge.
    extrapolation: the value where "tf_crop_and_resize" leaves x.
    antialias: stretch the kernel of "linear" and "cubic" by 1 / scale when scale < 1.
    policy, wanted: "not_larger" or "not_smaller" lets the axes that `wanted` has an extent for share one
        scale, the least or greatest of wanted / extent; `sizes` are rounded from it.

    An axis that keeps its extent at scale 1 (and is not cropped) is left alone. Integer results saturate;
    they are truncated toward zero without antialias, rounded (half to even) with it, as onnxruntime does.
    """

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    sizes: tuple[Dim, ...]
    scales: tuple[float | None, ...]
    mode: str
    coordinates: str
    nearest: str
    cubic_coefficient: float
    exclude_outside: bool
    extrapolation: float
    antialias: bool
    policy: str = "stretch"
    wanted: tuple[Dim | None, ...] = ()

    @property
    def crops(self) -> bool:
        """Whether the operator reads its roi."""
        return self.coordinates == "tf_crop_and_resize"

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = tensor(inputs[0], "the operand")
        if not len(self.sizes) == len(self.scales) == x.rank:
            raise InferenceError(f"sizes and scales must have {x.rank} entries, one an axis")
        names = ((self.mode, MODES), (self.coordinates, COORDINATES), (self.nearest, NEAREST))
        for value, known in (*names, (self.policy, POLICIES)):
            if value not in known:
                raise InferenceError(f"{value!r} is none of {', '.join(known)}")
        check_extents(self.sizes)
        if any(scale is not None and not scale > 0 for scale in self.scales):
            raise InferenceError(f"scales {self.scales} must be positive")
        if len(self.wanted) != (0 if self.policy == "stretch" else x.rank):
            raise InferenceError(f"{len(self.wanted)} wanted extents do not fit policy {self.policy}")
        if self.antialias and self.mode == "nearest":
            raise InferenceError("antialiasing needs mode linear or cubic")
        if self.mode != "nearest" and not (x.dtype.is_float or x.dtype.is_integer):
            raise InferenceError(f"mode {self.mode!r} cannot interpolate {x.dtype.text}")
        for axis, (extent, size) in enumerate(zip(x.shape, self.sizes)):
            if extent == 0 and known_different(size, 0):
                raise InferenceError(f"axis {axis} has no elements to give {to_text(size)}")
        if self.crops:
            roi = tensor(inputs[1] if len(inputs) > 1 else None, "roi")
            require_vector(roi, 2 * x.rank, "roi")
            if not roi.dtype.is_float:
                raise InferenceError(f"roi must hold floats, but is {roi}")
        return (x.with_shape(self.sizes),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        roi = np.asarray(inputs[1], dtype=np.float32) if self.crops else None
        y = x if self.mode == "nearest" else x.astype(interpolation_dtype(x.dtype))
        outside: list[tuple[int, Array]] = []
        common = self._common_scale(x.shape, dim)
        for axis, (extent, size) in enumerate(zip(x.shape, (dim(size) for size in self.sizes))):
            scale = self.axis_scale(axis, extent, size)
            if common is not None and self.wanted[axis] is not None:
                scale = common
            window = (roi[axis], roi[axis + x.ndim]) if roi is not None else None
            if size == extent and scale == 1 and window in (None, (0, 1)):
                continue
            if extent == 0 and size:
                raise ShapeError(f"axis {axis} of shape {x.shape} has no elements to give {size}")
            at = source_coordinates(self.coordinates, extent, size, scale, window)
            y = self._interpolate(y, axis, at, scale)
            if self.crops:
                outside.append((axis, (at < 0) | (at > extent - 1)))
        for axis, missing in outside:
            mask = missing.reshape((-1,) + (1,) * (x.ndim - 1 - axis))
            y = np.where(mask, np.asarray(self.extrapolation).astype(y.dtype), y)
        return (narrow(y, x.dtype, self.antialias),)

    def axis_scale(self, axis: int, extent: int, size: int) -> np.float32:
        """The factor that coordinates of `axis` go by."""
        given = self.scales[axis]
        if given is not None:
            return np.float32(given)
        return np.float32(size) / np.float32(extent) if extent else np.float32(1)

    def _common_scale(self, shape: Sequence[int], dim: EvaluateDim) -> np.float32 | None:
        """The scale that axes share by the policy."""
        pairs = [(extent, dim(wanted)) for extent, wanted in zip(shape, self.wanted) if wanted is not None]
        quotients = [np.float32(wanted) / np.float32(extent) for extent, wanted in pairs if extent]
        if not quotients:
            return None
        return min(quotients) if self.policy == "not_larger" else max(quotients)

    def taps(self, at: Array, extent: int, scale: np.float32) -> tuple[Array, Array]:
        """Positions [size, taps] in an axis of `extent`, and their weights, for coordinates `at` [size]."""
        if self.mode == "nearest":
            position = nearest_position(at, self.nearest)[:, None]
            return np.clip(position, 0, extent - 1), np.ones(position.shape, dtype=np.float32)
        reach = 1 if self.mode == "linear" else 2
        stretch = min(scale, np.float32(1)) if self.antialias else np.float32(1)
        support = int(np.ceil(np.float32(reach) / stretch))
        base = np.floor(at)
        offsets = np.arange(1 - support, support + 1, dtype=np.float32)
        distance = np.abs((offsets[None, :] - (at - base)[:, None]) * stretch)
        weights = linear_kernel(distance) if reach == 1 else cubic_kernel(distance, self.cubic_coefficient)
        position = base[:, None].astype(np.int64) + offsets[None, :].astype(np.int64)
        if self.exclude_outside:
            weights = np.where((position < 0) | (position >= extent), np.float32(0), weights)
        if self.exclude_outside or self.antialias:
            total = weights.sum(axis=1, keepdims=True)
            weights = weights / np.where(total == 0, np.float32(1), total)
        return np.clip(position, 0, extent - 1), weights

    def _interpolate(self, x: Array, axis: int, at: Array, scale: np.float32) -> Array:
        """x with `axis` replaced by the interpolation at the coordinates `at`."""
        positions, weights = self.taps(at, x.shape[axis], scale)
        if self.mode == "nearest":
            return np.take(x, positions[:, 0], axis=axis)
        shape = (1,) * axis + (len(at),) + (1,) * (x.ndim - 1 - axis)
        with np.errstate(all="ignore"):
            terms = [np.take(x, source, axis=axis) * weight.astype(x.dtype).reshape(shape)
                     for source, weight in zip(positions.T, weights.T)]
            return np.asarray(sum(terms[1:], start=terms[0]))

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        if self.mode == "nearest":
            return 0
        output = tensor(outputs[0], "the result")
        return output.elements * (2 * (2 if self.mode == "linear" else 4))


def source_coordinates(coordinates: str, extent: int, size: int, scale: np.float32,
                       window: tuple[np.float32, np.float32] | None = None) -> Array:
    """The position in an axis of `extent` of each of `size` results, in float32; window: start, end."""
    one, half = np.float32(1), np.float32(0.5)
    x = np.arange(size, dtype=np.float32)
    last, resized_last = np.float32(extent) - one, np.float32(size) - one
    match coordinates:
        case "asymmetric":
            return x / scale
        case "half_pixel":
            return (x + half) / scale - half
        case "tf_half_pixel_for_nn":
            return (x + half) / scale
        case "pytorch_half_pixel":
            return (x + half) / scale - half if size > 1 else np.zeros_like(x)
        case "align_corners":
            return x * last / resized_last if size > 1 else np.zeros_like(x)
        case "half_pixel_symmetric":
            adjustment = np.float32(size) / (scale * np.float32(extent))
            offset = np.float32(extent) / np.float32(2) * (one - adjustment)
            wide = np.float64(offset) + (x.astype(np.float64) + 0.5) / np.float64(scale) - 0.5
            return wide.astype(np.float32)
    if window is None:
        raise ShapeError(f"{coordinates} needs a region of interest")
    start, end = window
    if size > 1:
        return start * last + x * (end - start) * last / resized_last
    return np.full_like(x, half * (start + end) * last)


def nearest_position(at: Array, nearest: str) -> Array:
    """The integer that `nearest` (the standard's nearest_mode) picks for each float32 coordinate.

    A coordinate within TIE of a half is taken as that half, which rounding has moved.
    """
    below = np.floor(at)
    fraction = at - below
    match nearest:
        case "round_prefer_floor":
            below = below + (fraction > np.float32(0.5) + TIE)
        case "round_prefer_ceil":
            below = below + (fraction >= np.float32(0.5) - TIE)
        case "ceil":
            below = np.ceil(at)
    return below.astype(np.int64)


def interpolation_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which weighted sums of `dtype` are computed: float64 for 64-bit elements, else float32."""
    return np.dtype(np.float64 if dtype.itemsize > 4 else np.float32)


def linear_kernel(distance: Array) -> Array:
    """The triangle kernel at distances >= 0."""
    return np.maximum(np.float32(1) - distance, np.float32(0))


def cubic_kernel(distance: Array, coefficient: float) -> Array:
    """The cubic convolution kernel at distances >= 0 (Keys 1981, equation 4, with free parameter a)."""
    a, d = np.float32(coefficient), distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, np.float32(0)))


def narrow(y: Array, dtype: np.dtype[Any], rounds: bool) -> Array:
    """`y` in the result's type: floats are rounded once, integers rounded or truncated, and saturated."""
    if y.dtype == dtype:
        return y
    if dtype.kind not in "iu":
        return y.astype(dtype)
    info = np.iinfo(dtype)
    whole = np.nan_to_num(np.rint(y) if rounds else np.trunc(y), nan=0.0).astype(np.float64)
    # The greatest float64 below 2**63, which int64's maximum rounds up to.
    greatest = min(float(info.max), np.nextafter(float(info.max) + 1, 0))
    return np.asarray(np.clip(whole, float(info.min), greatest).astype(dtype))

