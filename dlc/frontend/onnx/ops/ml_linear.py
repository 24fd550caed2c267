"""Importers of linear models: a product of matrices, and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import ml
from dlc.frontend.onnx.geometry import require_equal
from dlc.frontend.onnx.labels import class_labels, winner
from dlc.frontend.onnx.ml import cast, features, numbers, post_transform, two_scores
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.pointwise import Binary


@ml("LinearRegressor")
def linear_regressor(ctx: NodeContext) -> Value:
    """x coefficients^T + intercepts, transformed: f32[N, targets]."""
    x, targets = features(ctx, vector=True), ctx.int("targets", 1)
    scores = _scores(ctx, x, numbers(ctx, "coefficients"), numbers(ctx, "intercepts"), targets)
    return post_transform(ctx, cast(ctx, scores, DType.F32), ctx.string("post_transform", "NONE"))


@ml("LinearClassifier")
def linear_classifier(ctx: NodeContext) -> Sequence[Value]:
    """The label of the class of the greatest score, and the scores, transformed: f32[N, classes].

    A single score is that of the second of two classes, which wins with more than 0; the score of the other
    one is 1 minus it. Without labels there is one column. `multi_class` tells how the model was learnt.
    """
    x, transform = features(ctx, vector=True), ctx.string("post_transform", "NONE")
    coefficients, intercepts = numbers(ctx, "coefficients"), numbers(ctx, "intercepts")
    labels = class_labels(ctx, "classlabels_ints", required=False)
    columns = x.tensor.shape[1]
    rows = len(intercepts)
    if not rows and isinstance(columns, int) and columns:
        rows = len(coefficients) // columns
    if rows not in (1, len(labels)) or (rows == 1 and len(labels) > 2):
        ctx.fail(f"there are coefficients for {rows} scores, but {len(labels)} labels", "model/attribute")
    scores = _scores(ctx, x, coefficients, intercepts, rows)
    narrow = cast(ctx, scores, DType.F32)
    if rows > 1:
        return labels.greatest(ctx, scores), post_transform(ctx, narrow, transform)
    label = labels.second(ctx, winner(ctx, scores, 0.0))
    if len(labels) == 2:
        return label, two_scores(ctx, narrow, complement=True, transform=transform)
    return label, post_transform(ctx, narrow, transform)


def _scores(ctx: NodeContext, x: Value, coefficients: Array, intercepts: Array, rows: int) -> Value:
    """x [N, F] times coefficients [rows, F], plus intercepts unless there are none: [N, rows]."""
    if rows < 1 or not len(coefficients) or len(coefficients) % rows:
        ctx.fail(f"{len(coefficients)} coefficients do not make {rows} rows", "model/attribute")
    if len(intercepts) not in (0, rows):
        ctx.fail(f"there are {len(intercepts)} intercepts for {rows} scores", "model/attribute")
    dtype = x.tensor.dtype.numpy
    matrix = np.ascontiguousarray(coefficients.reshape(rows, -1).T.astype(dtype))
    require_equal(ctx, x.tensor.shape[1], len(matrix), "the numbers of features and of coefficients")
    scores = ctx.add(MatMul(), x, ctx.const(matrix))
    if not intercepts.any():
        return scores
    return ctx.add(Binary("add"), scores, ctx.const(intercepts.astype(dtype)))
