"""Pooling in regions of interest: RoiAlign (He et al. 2017) and MaxRoiPool (Girshick 2015)."""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dlc.errors import IndexFault
from dlc.ir.dims import Dim, to_text
from dlc.ir.dtypes import DType
from dlc.ir.operator import (
    Array,
    EvaluateDim,
    InferenceError,
    Operator,
    OperatorClass,
    compute_dtype,
    tensor,
)
from dlc.ir.ops.checks import require_equal
from dlc.ir.ops.common import given
from dlc.ir.types import Type


@dataclasses.dataclass(frozen=True)
class RoiAlign(Operator):
    """Each region divided in output_height x output_width bins, each the mean or maximum of bilinear samples.

    Operands: x [N, C, H, W], rois [R, 4] (x1, y1, x2, y2, times spatial_scale in x's pixels) and the image of
    each roi [R] (i32 or i64). Result [R, C, output_height, output_width].

    mode: "avg" or "max". "max" takes the greatest *weighted* corner of all samples, as the standard does.
    sampling_ratio: samples a bin and axis; 0 means ceil(roi extent / bins).
    half_pixel: shift coordinates by half a pixel; otherwise regions are made at least 1 x 1.
    """

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    mode: str
    output_height: int
    output_width: int
    sampling_ratio: int
    spatial_scale: float
    half_pixel: bool

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, rois = tensor(inputs[0], "the operand"), tensor(inputs[1], "rois")
        images = tensor(inputs[2], "batch indices")
        if self.mode not in ("avg", "max"):
            raise InferenceError(f"mode {self.mode!r} is neither avg nor max")
        if self.output_height < 1 or self.output_width < 1 or self.sampling_ratio < 0:
            raise InferenceError(f"{self.output_height} x {self.output_width} bins of {self.sampling_ratio} "
                                 "samples make no result")
        if x.rank != 4 or not x.dtype.is_float:
            raise InferenceError(f"the operand must be floats [N, C, H, W], but is {x}")
        if rois.rank != 2 or rois.dtype is not x.dtype:
            raise InferenceError(f"rois must be {x.dtype.text}[R, 4], but are {rois}")
        if images.dtype not in (DType.I32, DType.I64) or images.rank != 1:
            raise InferenceError(f"batch indices must be i64[{to_text(rois.shape[0])}], but are {images}")
        require_equal(rois.shape[1], 4, "axis 1 of rois")
        require_equal(images.shape[0], rois.shape[0], "the numbers of batch indices and of rois")
        return (x.with_shape((rois.shape[0], x.shape[1], self.output_height, self.output_width)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, rois, images = given(inputs[0]), given(inputs[1]), given(inputs[2])
        dtype = compute_dtype(x.dtype)
        y = np.zeros((len(rois), x.shape[1], self.output_height, self.output_width), dtype=dtype)
        for index, (roi, image) in enumerate(zip(rois.astype(dtype), images.tolist())):
            if not 0 <= image < x.shape[0]:
                raise IndexFault(f"batch index {image} is outside [0, {x.shape[0]})")
            y[index] = self._pool(x[image].astype(dtype), roi)
        return (y.astype(x.dtype),)

    def _pool(self, x: Array, roi: Array) -> Array:
        """The bins [C, output_height, output_width] of one region of x [C, H, W]."""
        offset = x.dtype.type(0.5 if self.half_pixel else 0.0)
        left, top, right, bottom = roi * x.dtype.type(self.spatial_scale) - offset
        rows = self._samples(top, bottom - top, self.output_height, x.shape[1])
        columns = self._samples(left, right - left, self.output_width, x.shape[2])
        corners = [weight_r[..., :, None, None] * weight_c * x[:, position_r[:, :, None, None], position_c]
                   for position_r, weight_r in rows for position_c, weight_c in columns]
        shape = (x.shape[0], self.output_height, self.output_width)
        if not corners[0].size:
            return np.zeros(shape, dtype=x.dtype)
        if self.mode == "max":
            return np.asarray(np.max(np.maximum.reduce(corners), axis=(2, 4)))
        return np.asarray(np.sum(sum(corners), axis=(2, 4)) / (corners[0].shape[2] * corners[0].shape[4]))

    def _samples(self, start: Any, length: Any, bins: int, extent: int) -> list[tuple[Array, Array]]:
        """The two corners on one axis as (positions, weights), each [bins, samples a bin].

        A sample outside of [-1, extent] has no weight.
        """
        if not self.half_pixel:
            length = max(length, type(length)(1))
        size = length / bins
        count = self.sampling_ratio or max(math.ceil(size), 0)
        inner = (np.arange(count, dtype=size.dtype) + size.dtype.type(0.5)) * size / max(count, 1)
        at = start + np.arange(bins, dtype=size.dtype)[:, None] * size + inner
        valid = (at >= -1) & (at <= extent)
        at = np.clip(at, 0, max(extent - 1, 0))
        low = np.floor(at).astype(np.int64)
        upper = (at - low) * valid
        return [(low, (1 - (at - low)) * valid), (np.minimum(low + 1, max(extent - 1, 0)), upper)]

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        return tensor(outputs[0], "the result").elements * (8 * max(self.sampling_ratio, 1) ** 2)


@dataclasses.dataclass(frozen=True)
class MaxRoiPool(Operator):
    """The maxima of height x width bins of regions: y [R, C, height, width].

    Operands: x [N, C, H, W] and rois [R, 5] of its type: the number of an image, then x1, y1, x2, y2, which
    times `spatial_scale` and rounded (half away from zero) are the first and last column and row of a region
    of at least 1 x 1. Bins begin and end at whole elements, rounded outwards, and are cut off at the image;
    one without elements gives 0. As Fast R-CNN and onnxruntime have it; the standard gives no formula.
    """

    kind: ClassVar[OperatorClass] = OperatorClass.REDUCTION

    height: int
    width: int
    spatial_scale: float

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, rois = tensor(inputs[0], "the operand"), tensor(inputs[1], "rois")
        if self.height < 1 or self.width < 1:
            raise InferenceError(f"{self.height} x {self.width} bins make no result")
        if x.rank != 4 or not x.dtype.is_float:
            raise InferenceError(f"the operand must be floats [N, C, H, W], but is {x}")
        if rois.rank != 2 or rois.dtype is not x.dtype:
            raise InferenceError(f"rois must be {x.dtype.text}[R, 5], but are {rois}")
        require_equal(rois.shape[1], 5, "axis 1 of rois")
        return (x.with_shape((rois.shape[0], x.shape[1], self.height, self.width)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, rois = given(inputs[0]), given(inputs[1])
        dtype = compute_dtype(x.dtype)
        y = np.zeros((len(rois), x.shape[1], self.height, self.width), dtype=x.dtype)
        for index, roi in enumerate(rois.astype(dtype)):
            image = int(roi[0])
            if not 0 <= image < x.shape[0]:
                raise IndexFault(f"image {image} is outside [0, {x.shape[0]})")
            corners = (roi[1:] * dtype.type(self.spatial_scale)).astype(np.float64)
            left, top, right, bottom = np.sign(corners) * np.floor(np.abs(corners) + 0.5)
            rows = self._bins(top, bottom, self.height, x.shape[2], dtype)
            columns = self._bins(left, right, self.width, x.shape[3], dtype)
            for i, j in np.ndindex(self.height, self.width):
                part = x[image, :, rows[i], columns[j]]
                if part.size:
                    y[index, :, i, j] = part.max(axis=(1, 2))
        return (y,)

    @staticmethod
    def _bins(first: Any, last: Any, bins: int, extent: int, dtype: np.dtype[Any]) -> list[slice]:
        """The elements of each bin along one axis of the image."""
        size = dtype.type(max(last - first + 1, 1)) / dtype.type(bins)
        number = np.arange(bins + 1, dtype=dtype)
        starts, stops = np.floor(number[:-1] * size) + first, np.ceil(number[1:] * size) + first
        bounds = np.clip([starts, stops], 0, extent).astype(np.int64)
        return [slice(int(start), int(stop)) for start, stop in bounds.T]

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        x, rois = tensor(inputs[0], "the operand"), tensor(inputs[1], "rois")
        return rois.shape[0] * x.shape[1] * x.shape[2] * x.shape[3] * self.height
