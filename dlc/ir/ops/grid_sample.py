"""GridSample: interpolation at given positions (Jaderberg et al. 2015, Spatial Transformer Networks)."""
from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.errors import ShapeError
from dlc.ir.dims import Dim
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
from dlc.ir.ops.checks import require_equal
from dlc.ir.ops.common import given
from dlc.ir.ops.resize import cubic_kernel, linear_kernel
from dlc.ir.types import Type

MODES = ("nearest", "linear", "cubic")
PADDINGS = ("zeros", "border", "reflection")

#: Coordinates are limited to this before they become integers, so that nan, inf and far ones are safe.
_FAR = float(2**30)


@dataclasses.dataclass(frozen=True)
class GridSample(Operator):
    """Operands x [N, C, D1 .. Dr] and grid [N, E1 .. Er, r]; result [N, C, E1 .. Er].

    A grid entry lists the coordinates of axes r .. 1 (innermost first), scaled so that -1 and 1 are the outer
    edges of x or, with align_corners, the centres of its corner elements. Positions outside read zero, the
    nearest element, or the mirror image about those edges. A coordinate outside is moved to the border or
    reflected before it is split in position and fraction, except that "cubic" leaves it beyond the border, as
    PyTorch and onnxruntime do. "nearest" rounds half to even; "cubic" is Keys' kernel with a = -0.75.
    Coordinates are computed in the grid's type, at least float32; one that is not a number gives
    not-a-number, or with "nearest" a legal but arbitrary element.
    """

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    mode: str
    padding: str
    align_corners: bool

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, grid = tensor(inputs[0], "the operand"), tensor(inputs[1], "grid")
        for value, known in ((self.mode, MODES), (self.padding, PADDINGS)):
            if value not in known:
                raise InferenceError(f"{value!r} is none of {', '.join(known)}")
        if x.rank < 3 or grid.rank != x.rank:
            raise InferenceError(f"grid {grid} does not fit the operand {x}")
        require_equal(grid.shape[-1], x.rank - 2, "the coordinates of the grid and the axes of the operand")
        require_equal(x.shape[0], grid.shape[0], "the batch of the operand and of the grid")
        if not grid.dtype.is_float or (self.mode != "nearest" and not x.dtype.is_float):
            raise InferenceError(f"mode {self.mode!r} cannot sample {x} at {grid}")
        return (x.with_shape((x.shape[0], x.shape[1], *grid.shape[1:-1])),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, grid = given(inputs[0]), given(inputs[1])
        grid = grid.astype(compute_dtype(grid.dtype))
        if grid.size and 0 in x.shape[2:]:
            raise ShapeError(f"an operand of shape {x.shape} has no elements to sample")
        values = x if self.mode == "nearest" else x.astype(compute_dtype(x.dtype))
        axes = [self._taps(grid[..., -1 - axis], extent) for axis, extent in enumerate(x.shape[2:])]
        batch = np.arange(len(x)).reshape((-1,) + (1,) * (grid.ndim - 2))
        y = np.zeros((len(x), *grid.shape[1:-1], x.shape[1]), dtype=values.dtype)
        with np.errstate(all="ignore"):
            for corner in itertools.product(*axes):
                picked = np.moveaxis(values, 1, -1)[(batch, *(position for position, _, _ in corner))]
                inside = np.logical_and.reduce([valid for _, valid, _ in corner])
                picked = np.where(inside[..., None], picked, np.zeros((), dtype=values.dtype))
                if self.mode == "nearest":
                    y = picked
                    continue
                weight = np.multiply.reduce([weight.astype(values.dtype) for _, _, weight in corner])
                y = y + weight[..., None] * picked
        return (np.moveaxis(y, -1, 1).astype(x.dtype),)

    def _taps(self, at: Array, extent: int) -> list[tuple[Array, Array, Array]]:
        """(position, whether it is inside, weight) of each tap on one axis for scaled coordinates `at`."""
        last = at.dtype.type(extent - 1)
        with np.errstate(all="ignore"):
            at = (at + 1) / 2 * last if self.align_corners else ((at + 1) * extent - 1) / 2
            if self.mode == "nearest":
                at = np.rint(at)
            if self.padding == "border" and self.mode != "cubic":
                at = np.clip(at, 0, last)
            elif self.padding == "reflection":
                at = self._reflected(at, extent)
            base = np.floor(at)
            fraction = at - base
        reach = {"nearest": 0, "linear": 1, "cubic": 2}[self.mode]
        first = np.clip(np.nan_to_num(base, nan=-_FAR), -_FAR, _FAR).astype(np.int64)
        taps = []
        for offset in range(1 - reach, reach + 1) if reach else (0,):
            distance = np.abs(offset - fraction)
            weight = linear_kernel(distance) if reach < 2 else cubic_kernel(distance, -0.75)
            position = first + offset
            valid = (position >= 0) & (position < extent)
            if self.padding == "reflection":
                position = self._reflected(position.astype(np.float64), extent).astype(np.int64)
            if self.padding != "zeros":
                valid = np.ones_like(valid)
            weight = np.where(np.isnan(fraction), fraction, weight)
            taps.append((np.clip(position, 0, max(extent - 1, 0)), valid, weight))
        return taps

    def _reflected(self, at: Array, extent: int) -> Array:
        """Coordinates outside of the borders, folded back until they are inside."""
        low = at.dtype.type(0 if self.align_corners else -0.5)
        span = at.dtype.type(extent - 1 if self.align_corners else extent)
        if span == 0:
            return np.where(np.isfinite(at), np.zeros_like(at), at)
        with np.errstate(all="ignore"):
            below = at < low
            beyond = np.where(below, low - at, at - (low + span))
            turns = np.trunc(beyond / span)
            rest = beyond - turns * span
            from_low = below == (turns % 2 == 0)
            folded = np.where(from_low, low + rest, low + span - rest)
        return np.where(below | (at > low + span), folded, at)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        output = tensor(outputs[0], "the result")
        taps = {"nearest": 0, "linear": 2, "cubic": 4}[self.mode]
        return output.elements * (2 * prod([taps] * (output.rank - 2)))
