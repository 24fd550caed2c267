"""Operators whose results are selections of unknown number: positions, distinct rows, boxes that remain.

A number of results is a tensor of its own, from which a symbol is bound. `Compact` takes that symbol; the
others give results of the largest possible extent, of which the first so many count and the rest is 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.errors import InputError
from dlc.ir.dims import Dim, minimum
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass, compute_dtype
from dlc.ir.ops.checks import require_rank, require_shape
from dlc.ir.ops.common import NUMBERS, given, require_dtype, take
from dlc.ir.types import TensorType, Type


@dataclasses.dataclass(frozen=True)
class Compact(Operator):
    """The positions of the true elements of a bool vector, ascending: i64[count], `count` being their number.
    """

    count: Dim

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_rank(x, 1, "the condition")
        require_dtype(x, frozenset({DType.BOOL}), "the condition")
        return (TensorType(DType.I64, (self.count,)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        positions = np.flatnonzero(given(inputs[0])).astype(np.int64)
        if len(positions) != dim(self.count):
            raise InputError(f"{self.name}: {len(positions)} elements are true, not {dim(self.count)}")
        return (positions,)


@dataclasses.dataclass(frozen=True)
class Distinct(Operator):
    """What distinct rows a matrix [n, m] has.

    Results: the position of the first of each group of equal rows (i64[n]), the group of each row (i64[n]),
    the number of rows of each group (i64[n]), the number of groups (i64 scalar). Groups come in the order of
    their rows, compared element by element, when `sorted`, else in that of their first occurrence. NaN equals
    NaN and counts as larger than every number, as in NumPy; 0 equals -0. Strings compare by code points.
    """

    sorted: bool

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x,), _ = take(inputs, 1)
        require_rank(x, 2, "the operand")
        require_dtype(x, NUMBERS | {DType.BOOL, DType.STRING}, "the operand")
        vector = TensorType(DType.I64, x.shape[:1])
        return vector, vector, vector, TensorType(DType.I64, ())

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        if x.dtype.kind == "O":  # the order of strings as numbers
            x = np.unique(x, return_inverse=True)[1].reshape(x.shape)
        x = x.astype(compute_dtype(x.dtype), copy=False)
        rows = len(x)
        order = np.lexsort(x.T[::-1]) if x.shape[1] else np.arange(rows)
        ordered = x[order]
        nan = ordered != ordered
        differs = (ordered[1:] != ordered[:-1]) & ~(nan[1:] & nan[:-1])
        begins = np.concatenate([np.ones(min(rows, 1), bool), differs.any(axis=1)])
        inverse = np.empty(rows, np.int64)
        inverse[order] = np.cumsum(begins) - 1
        # The sort is stable: the first row of a group in the order is the first in the matrix.
        first = order[begins]
        if not self.sorted:
            place = np.argsort(first, kind="stable")
            rank = np.empty_like(place)
            rank[place] = np.arange(len(place))
            first, inverse = first[place], rank[inverse]
        groups = len(first)
        counts = np.bincount(inverse, minlength=groups)
        padded = np.zeros((2, rows), np.int64)
        padded[:, :groups] = first, counts
        return padded[0], inverse.astype(np.int64), padded[1], np.array(groups, np.int64)


@dataclasses.dataclass(frozen=True)
class NonMaxSuppression(Operator):
    """The boxes of each image and class that remain when those that overlap a better one much are dropped.

    Operands: boxes f32[B, N, 4], scores f32[B, C, N], the threshold of the intersection over union and that
    of the scores (f32 scalars). Results: positions of boxes i64[B, C, min(limit, N)], best score first, and
    how many of them count i64[B, C].

    Boxes are taken in the order of their scores, of equal ones the lower position first, if the score is
    greater than its threshold (of -inf: whatever the score); one is kept unless its intersection over union
    with a kept one is greater than the threshold. A box is (y1, x1, y2, x2) of any two opposite corners, or
    (x center, y center, width, height) with `center_point_box`.
    """

    limit: Dim
    center_point_box: bool

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (boxes, scores, *thresholds), _ = take(inputs, 4)
        require_rank(scores, 3, "the scores")
        batch, classes, number = scores.shape
        require_shape(boxes, (batch, number, 4), "the boxes")
        for operand in (boxes, scores, *thresholds):
            require_dtype(operand, frozenset({DType.F32}), "an operand")
        for threshold in thresholds:
            if threshold.rank:
                raise InferenceError(f"a threshold must be a scalar, but is {threshold}")
        kept = TensorType(DType.I64, (batch, classes, minimum(self.limit, number)))
        return kept, TensorType(DType.I64, (batch, classes))

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        boxes, scores, overlap, least = map(given, inputs)
        batch, classes, number = scores.shape
        limit = max(min(dim(self.limit), number), 0)
        kept = np.zeros((batch, classes, limit), np.int64)
        counts = np.zeros((batch, classes), np.int64)
        for image in range(batch):
            corners = self._corners(boxes[image])
            for label in range(classes):
                row = scores[image, label]
                order = np.argsort(-row, kind="stable")
                order = order[(row[order] > least) | (least == -np.inf)]
                chosen: list[int] = []
                for box in order:
                    if len(chosen) == limit:
                        break
                    if not any(_overlaps(corners[box], corners[other], overlap) for other in chosen):
                        chosen.append(int(box))
                kept[image, label, : len(chosen)] = chosen
                counts[image, label] = len(chosen)
        return kept, counts

    def _corners(self, boxes: Array) -> Array:
        """Boxes as (x low, y low, x high, y high)."""
        if self.center_point_box:
            center, half = boxes[:, :2], boxes[:, 2:] / np.float32(2)
            return np.concatenate([center - half, center + half], axis=1)
        first, second = boxes[:, [1, 0]], boxes[:, [3, 2]]
        return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=1)


def _overlaps(box: Array, other: Array, threshold: Array) -> bool:
    """Whether the intersection over union of two boxes is greater than the threshold; in float32."""
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    if not (high > low).all():
        return False
    common = (high[0] - low[0]) * (high[1] - low[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    other_area = (other[2] - other[0]) * (other[3] - other[1])
    union = area + other_area - common
    if common <= 0 or area <= 0 or other_area <= 0 or union <= 0:
        return False
    return bool(common / union > threshold)
