"""Geometry of sliding windows: extents, taps and padding of convolutions and pools.

For one spatial axis: input extent i, kernel k, stride s, dilation d, padding (before, after). The window
covers e = (k - 1) * d + 1 positions. Output o starts at position o * s - before of the input.
"""
from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dlc.errors import ShapeError
from dlc.ir import dims
from dlc.ir.dims import Dim
from dlc.ir.operator import Array, InferenceError


def effective_extent(kernel: Dim, dilation: int) -> Dim:
    """Positions from the first to the last tap of a window, both included."""
    return (kernel - 1) * dilation + 1


def output_extent(extent: Dim, kernel: Dim, stride: int, dilation: int, pads: tuple[Dim, Dim],
                  ceil_mode: bool = False) -> Dim:
    """The number of windows along an axis.

    With `ceil_mode` a last window may overhang the padded input, but not start in the padding after it (the
    rule of MaxPool-22 and PyTorch). Raises InferenceError when the window is known to be larger than the
    padded input.
    """
    before, after = pads
    room = extent + before + after - effective_extent(kernel, dilation)
    if isinstance(room, int) and room < 0 and not (ceil_mode and room > -stride):
        raise InferenceError(f"a window of {effective_extent(kernel, dilation)} elements is larger than the "
                             f"padded input of {extent + before + after}")
    if ceil_mode:
        return dims.minimum(dims.ceildiv(room, stride) + 1, dims.ceildiv(extent + before, stride))
    return room // stride + 1


def transposed_extent(extent: Dim, kernel: Dim, stride: int, dilation: int, pads: tuple[Dim, Dim],
                      output_padding: Dim) -> Dim:
    """The extent of a transposed convolution's output along an axis."""
    covered = (extent - 1) * stride + effective_extent(kernel, dilation)
    return covered + output_padding - pads[0] - pads[1]


def same_padding(extent: Dim, kernel: Dim, stride: int, dilation: int, upper: bool) -> tuple[Dim, Dim]:
    """The padding with which an axis has ceil(extent / stride) windows (auto_pad SAME_UPPER or SAME_LOWER).

    An odd element goes after the input when `upper`, else before it.
    """
    windows = dims.ceildiv(extent, stride)
    total = dims.maximum((windows - 1) * stride + effective_extent(kernel, dilation) - extent, 0)
    small = total // 2
    return (small, total - small) if upper else (total - small, small)


def numbers(extents: Sequence[int]) -> tuple[int, ...]:
    """Output extents as they are at run time; ShapeError when a window does not fit its input."""
    if any(extent < 0 for extent in extents):
        raise ShapeError("a sliding window is larger than the padded input")
    return tuple(extents)


def taps(kernel: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every position of a kernel, row-major."""
    return itertools.product(*(range(extent) for extent in kernel))


def tap_of_kernel(tap: Sequence[int]) -> tuple[Any, ...]:
    """The index that takes one tap of weights [groups, out, in, K...]."""
    return (slice(None), slice(None), slice(None), *tap)


def tap_slices(tap: Sequence[int], outputs: Sequence[int], strides: Sequence[int],
               dilations: Sequence[int]) -> tuple[slice, ...]:
    """What a tap reads of a padded input, for all outputs at once (spatial axes only)."""
    return tuple(slice(t * d, t * d + (o - 1) * s + 1 if o else t * d, s)
                 for t, o, s, d in zip(tap, outputs, strides, dilations, strict=True))


def pad_spatial(x: Array, pads: Sequence[tuple[int, int]], fill: float = 0) -> Array:
    """`x` with its spatial axes (from axis 2 on) padded."""
    if not any(before or after for before, after in pads):
        return x
    return np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
