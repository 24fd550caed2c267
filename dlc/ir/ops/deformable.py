"""Convolution whose taps are displaced by data (arXiv:1703.06211; with a mask arXiv:1811.11168)."""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dlc.ir.dims import Dim, product
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
from dlc.ir.ops.checks import optional, require_equal, require_rank, require_shape
from dlc.ir.ops.common import given
from dlc.ir.ops.windows import numbers, output_extent, tap_of_kernel, taps
from dlc.ir.types import Type


@dataclasses.dataclass(frozen=True)
class DeformConv(Operator):
    """Like Conv, but tap k of output o reads x at o * stride - before + k * dilation + offset[k, o].

    Operands: x [N, C, S...], w [O, C / groups, K...], offset [N, offset_groups * prod(K) * rank, out...] (of
    each tap and axis, for C / offset_groups channels), b [O] or absent, mask [N, offset_groups * prod(K),
    out...] or absent: a factor of each sample. Samples between elements are interpolated linearly; elements
    outside x count as 0.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[Dim, Dim], ...]
    groups: int = 1
    offset_groups: int = 1

    kind: ClassVar[OperatorClass] = OperatorClass.CONTRACTION

    def _extents(self, spatial: Sequence[Dim], kernel: Sequence[Dim]) -> list[Dim]:
        axes = zip(spatial, kernel, self.strides, self.dilations, self.pads, strict=True)
        return [output_extent(*axis) for axis in axes]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        rank = len(self.strides)
        x, w = require_rank(inputs[0], rank + 2, "x"), require_rank(inputs[1], rank + 2, "w")
        if not x.dtype.is_float or w.dtype is not x.dtype:
            raise InferenceError(f"x and w must be of one floating-point type, not {x.dtype} and {w.dtype}")
        require_equal(x.shape[1], w.shape[1] * self.groups, "channels of x and of w times groups")
        for extent, divisor in ((x.shape[1], self.offset_groups), (w.shape[0], self.groups)):
            if isinstance(extent, int) and extent % divisor:
                raise InferenceError(f"{extent} channels are not divisible by {divisor} groups")
        outputs = self._extents(x.shape[2:], w.shape[2:])
        samples = product(w.shape[2:]) * self.offset_groups
        require_shape(inputs[2], (x.shape[0], samples * rank, *outputs), "offset")
        if (bias := optional(inputs, 3)) is not None:
            require_shape(bias, (w.shape[0],), "the bias")
        if (mask := optional(inputs, 4)) is not None:
            require_shape(mask, (x.shape[0], samples, *outputs), "the mask")
        return (x.with_shape((x.shape[0], w.shape[0], *outputs)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, w, offset = (given(operand) for operand in inputs[:3])
        bias, mask = (*inputs[3:], None, None)[:2]
        carrier = compute_dtype(x.dtype)
        kernel, spatial = w.shape[2:], x.shape[2:]
        outputs = numbers([dim(extent) for extent in self._extents(spatial, kernel)])
        batch, rank = len(x), len(spatial)
        displaced = offset.astype(carrier).reshape(batch, self.offset_groups, *kernel, rank, *outputs)
        factors = np.ones((batch, self.offset_groups, *kernel, *outputs), carrier) if mask is None \
            else mask.astype(carrier).reshape(batch, self.offset_groups, *kernel, *outputs)
        images = x.astype(carrier).reshape(
            batch, self.offset_groups, x.shape[1] // self.offset_groups, *spatial)
        weights = w.astype(carrier).reshape(self.groups, len(w) // self.groups, *w.shape[1:])
        sums = np.zeros((batch, self.groups, len(w) // self.groups, prod(outputs)), carrier)
        for tap in taps(kernel):
            positions = [self._grid(axis, tap[axis], outputs, dim) + displaced[_at_tap(*tap, axis)]
                         for axis in range(rank)]
            samples = _sample(images, positions) * factors[_at_tap(*tap)][:, :, None]
            columns = samples.reshape(batch, self.groups, w.shape[1], prod(outputs))
            sums += np.matmul(weights[tap_of_kernel(tap)], columns)
        y = sums.reshape(batch, len(w), *outputs)
        if bias is not None:
            y = y + bias.astype(carrier).reshape(1, -1, *[1] * rank)
        return (y.astype(x.dtype, copy=False),)

    def _grid(self, axis: int, tap: int, outputs: Sequence[int], dim: EvaluateDim) -> Array:
        """Where the tap would read along `axis` without offsets, shaped to broadcast over the outputs."""
        start = tap * self.dilations[axis] - dim(self.pads[axis][0])
        along = np.arange(outputs[axis]) * self.strides[axis] + start
        return along.reshape([-1 if other == axis else 1 for other in range(len(outputs))])

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        return tensor(outputs[0], "y").elements * product(tensor(inputs[1], "w").shape[1:]) * 2


def _at_tap(*position: int) -> tuple[Any, ...]:
    """The index that takes a position on the axes after batch and group."""
    return (slice(None), slice(None), *position)


def _sample(images: Array, positions: Sequence[Array]) -> Array:
    """Linear interpolation of images [N, G, C, S...] at positions (one array [N, G, out...] an axis).

    Returns [N, G, C, out...].
    """
    spatial = images.shape[3:]
    batch, group = (np.arange(extent).reshape([-1 if axis == at else 1 for at in range(positions[0].ndim)])
                    for axis, extent in enumerate(images.shape[:2]))
    low = [np.floor(position) for position in positions]
    total = np.zeros((), images.dtype)
    for corner in itertools.product((0, 1), repeat=len(spatial)):
        weight = np.ones((), images.dtype)
        index = []
        for position, floor, step, extent in zip(positions, low, corner, spatial, strict=True):
            at = floor + step
            share = position - floor if step else 1 - (position - floor)
            weight = weight * np.where((at >= 0) & (at < extent), share, 0)
            index.append(np.clip(at, 0, extent - 1).astype(np.int64))
        # The advanced indices surround the slice of channels, which NumPy therefore puts last.
        elements = images[(batch, group, slice(None), *index)]
        total = total + np.moveaxis(elements, -1, 2) * weight.astype(images.dtype)[:, :, None]
    return total
