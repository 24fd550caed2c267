"""Importers of tree ensembles: one `TreeEnsemble` for the votes, then what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import ml
from dlc.frontend.onnx.forest import Canonical, Votes, canonical
from dlc.frontend.onnx.forest_attributes import Forest, lists, tuples
from dlc.frontend.onnx.geometry import require
from dlc.frontend.onnx.labels import class_labels, winner
from dlc.frontend.onnx.ml import TRANSFORMS, cast, features, matrix, numbers, post_transform, two_scores
from dlc.ir.dims import Relation, to_text
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.movement import Slice
from dlc.ir.ops.pointwise import Binary
from dlc.ir.ops.trees import TreeEnsemble

_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@ml("TreeEnsembleRegressor")
def tree_ensemble_regressor(ctx: NodeContext) -> Value:
    """The aggregate of the votes for each target, plus its base value, transformed: f32[N, n_targets]."""
    x, forest = features(ctx), tuples(ctx, "target")
    targets = ctx.int("n_targets")
    scores = _aggregate(ctx, x, forest, targets, ctx.string("aggregate_function", "SUM"))
    base = numbers(ctx, "base_values", tensor=True)
    if len(base) not in (0, targets):
        ctx.fail(f"there are {len(base)} base_values for {targets} targets", "model/attribute")
    scores = cast(ctx, _with_base(ctx, scores, base), DType.F32)
    return post_transform(ctx, scores, ctx.string("post_transform", "NONE"))


@ml("TreeEnsemble", since=5)
def tree_ensemble(ctx: NodeContext) -> Value:
    """The aggregate of the votes for each target, transformed, of the type of x: [N, n_targets]."""
    x = matrix(ctx, (DType.F32, DType.F64, DType.F16))
    names = []
    for key, default, known in (("aggregate_function", 1, _AGGREGATES), ("post_transform", 0, TRANSFORMS)):
        number = ctx.int(key, default)
        if not 0 <= number < len(known):
            ctx.fail(f"{key} must be 0 to {len(known) - 1}, but is {number}", "model/attribute")
        names.append(known[number])
    aggregate, transform = names
    wide = cast(ctx, x, DType.F32) if x.tensor.dtype is DType.F16 else x
    scores = _aggregate(ctx, wide, lists(ctx), ctx.int("n_targets"), aggregate)
    return cast(ctx, post_transform(ctx, scores, transform), x.tensor.dtype)


@ml("TreeEnsembleClassifier")
def tree_ensemble_classifier(ctx: NodeContext) -> Sequence[Value]:
    """The label of the class of the greatest score, and the scores, transformed: f32[N, classes].

    Votes for the first of two classes only are those for the second, as converters write binary classifiers:
    it wins with more than 0.5 if no vote is negative and with more than 0 otherwise, and the score of the
    other class is 1 minus or minus its own. A single class 1 stands for the classes 0 and 1, of which there
    is one score.
    """
    x, forest = features(ctx), tuples(ctx, "class")
    labels = class_labels(ctx, "classlabels_int64s")
    classes, transform = len(labels), ctx.string("post_transform", "NONE")
    base = numbers(ctx, "base_values", tensor=True)
    voted = np.unique(forest.votes.target)
    positive = bool((forest.votes.weight >= 0).all())
    scores = _aggregate(ctx, x, forest, classes, "SUM")
    if len(base) == classes:
        scores = _with_base(ctx, scores, base)
    elif len(base) == 1 and classes == 2 and voted.tolist() == [0]:
        scores = _with_base(ctx, scores, np.append(base, 0.0))
    elif len(base):
        ctx.fail(f"there are {len(base)} base_values for {classes} classes", "model/attribute")
    if classes == 1:
        label = labels.second(ctx, winner(ctx, scores, 0.0))
    elif classes == 2 and len(base) < 2 and len(voted) == 1:
        column = ctx.add(Slice((0, int(voted[0])), (scores.tensor.shape[0], 1), (1, 1)), scores)
        label = labels.second(ctx, winner(ctx, column, 0.5 if positive else 0.0))
        if voted[0] == 0:
            scores = cast(ctx, column, DType.F32)
            return label, two_scores(ctx, scores, complement=positive, transform=transform)
    else:
        label = labels.greatest(ctx, scores)
    return label, post_transform(ctx, cast(ctx, scores, DType.F32), transform)


def _aggregate(ctx: NodeContext, x: Value, forest: Forest, targets: int, aggregate: str) -> Value:
    """The votes of the leaves that rows of x reach, combined by target: [N, targets] of x's type."""
    if aggregate not in _AGGREGATES:
        ctx.fail(f"aggregate_function {aggregate!r} is none of {', '.join(_AGGREGATES)}", "model/attribute")
    target, weight = forest.votes.target, forest.votes.weight
    if targets < 1 or (len(target) and not (target.min() >= 0 and target.max() < targets)):
        ctx.fail(f"there are votes for other targets than the {targets} known", "model/attribute")
    if aggregate in ("MIN", "MAX") and not np.isfinite(weight).all():
        ctx.unsupported("a leaf votes for infinity or NaN", "compute the least or greatest of finite votes")
    votes = Votes(forest.votes.first, target, weight.astype(x.tensor.dtype.numpy))
    try:
        trees = canonical(forest.roots, forest.branches, votes)
    except ValueError as error:
        ctx.unsupported(str(error))
    _check_features(ctx, x, trees.feature)
    function = "sum" if aggregate == "AVERAGE" else aggregate.lower()
    operator = TreeEnsemble(targets, function, trees.depth, trees.uniform)
    scores = ctx.add(operator, x, *(_operand(ctx, array) for array in _operands(trees)))
    if aggregate == "AVERAGE" and len(trees.roots):
        scores = ctx.add(Binary("div"), scores, ctx.const(float(len(trees.roots)), scores.tensor.dtype))
    return scores


def _operands(trees: Canonical) -> tuple[Array | None, ...]:
    return (
        trees.roots,
        trees.feature,
        trees.threshold,
        trees.child,
        trees.missing,
        trees.first,
        trees.target,
        trees.weight,
    )


def _operand(ctx: NodeContext, array: Array | None) -> Value | None:
    return None if array is None else ctx.const(array)


def _check_features(ctx: NodeContext, x: Value, feature: Array) -> None:
    """Check that the trees look at features that x has."""
    if not len(feature):
        return
    if feature.min() < 0:
        ctx.fail(f"there is no feature {feature.min()}", "model/attribute")
    columns, last = x.tensor.shape[1], int(feature.max())
    message = f"the trees look at feature {last} of {to_text(columns)}"
    require(ctx, Relation.LT, last, columns, message)


def _with_base(ctx: NodeContext, scores: Value, base: Array) -> Value:
    """`scores` plus a number for each column."""
    if not base.any():
        return scores
    return ctx.add(Binary("add"), scores, ctx.const(base.astype(scores.tensor.dtype.numpy)))
