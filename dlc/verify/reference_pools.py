"""MaxPool for the ONNX reference evaluator (onnx 1.23), whose own fails or errs on many windows.

That one fails on most pools of one axis, on NaN and on much padding. This one writes the standard's formulas
down position by position, and has nothing in common with the code under test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from onnx.reference.op_run import OpRun

from dlc.verify.compare import Array
from dlc.verify.tolerances import is_float


class MaxPool(OpRun):
    """The maximum of each window and its first position; padding never wins, NaN does (docs/semantics.md).

    A window without an element is -infinity (of integers the minimum), at position -1.
    """

    op_domain = ""

    def _run(
        self,
        x: Array,
        auto_pad: str | None = None,
        ceil_mode: int | None = None,
        dilations: Sequence[int] | None = None,
        kernel_shape: Sequence[int] = (),
        pads: Sequence[int] | None = None,
        storage_order: int | None = None,
        strides: Sequence[int] | None = None,
    ) -> tuple[Array, ...]:
        count, spatial = len(kernel_shape), x.shape[2:]
        pads = pads or [0] * (2 * count)
        inside, flat = np.array(True), np.array(0, np.int64)
        index: list[Any] = [slice(None), slice(None)]
        order = list(range(count))[:: 1 if storage_order else -1]  # the axis that runs fastest comes first
        for axis in range(count):
            positions = _positions(
                spatial[axis],
                kernel_shape[axis],
                strides[axis] if strides else 1,
                dilations[axis] if dilations else 1,
                (pads[axis], pads[count + axis]),
                auto_pad or "NOTSET",
                bool(ceil_mode),
            )
            others = tuple(a for a in range(2 * count) if a % count != axis)
            positions = np.expand_dims(positions, others)  # axes: windows, then taps
            inside = inside & (positions >= 0) & (positions < spatial[axis])
            index.append(positions.clip(0, spatial[axis] - 1))
            faster = order[: order.index(axis)]
            flat = flat + index[-1] * math.prod(spatial[a] for a in faster)
        shape = (*inside.shape[:count], -1)
        inside, flat = inside.reshape(shape), flat.reshape(shape)
        found = x[tuple(index)].reshape(*x.shape[:2], *shape)
        y = np.where(inside, found, _lowest(x.dtype)).max(axis=-1).astype(x.dtype)
        if len(self.onnx_node.output) < 2:
            return (y,)
        hit = inside & ((found == y[..., None]) | (found != found))
        first = np.take_along_axis(np.broadcast_to(flat, hit.shape), hit.argmax(-1)[..., None], -1)[..., 0]
        planes = np.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * count)
        return y, np.where(hit.any(-1), first + planes * math.prod(spatial), -1)


def _positions(
    extent: int,
    kernel: int,
    stride: int,
    dilation: int,
    pads: tuple[int, int],
    auto_pad: str,
    ceil_mode: bool,
) -> Array:
    """What each tap of each window of an axis reads, [windows, taps]; positions outside are padding."""
    covered = (kernel - 1) * dilation + 1
    if auto_pad.startswith("SAME"):
        windows = -(-extent // stride)
        total = max((windows - 1) * stride + covered - extent, 0)
        before = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
    else:
        before, after = pads
        room = extent + before + after - covered
        windows = room // stride + 1
        if ceil_mode and auto_pad == "NOTSET":
            windows = -(-room // stride) + 1
            windows -= (windows - 1) * stride >= extent + before
        elif room < 0:
            raise ValueError("a window is larger than the padded input")
    return np.arange(windows)[:, None] * stride - before + np.arange(kernel)[None, :] * dilation


def _lowest(dtype: np.dtype[Any]) -> Any:
    if is_float(dtype):
        return dtype.type(-np.inf)
    return ml_dtypes.iinfo(dtype).min
