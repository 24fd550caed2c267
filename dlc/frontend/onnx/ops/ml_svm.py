"""Importers of support vector machines: kernels of x and the support vectors, then a product of matrices."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import ml
from dlc.frontend.onnx.geometry import require_equal, reshape
from dlc.frontend.onnx.labels import Labels, class_labels, winner
from dlc.frontend.onnx.ml import cast, features, integers, numbers, post_transform, two_scores
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.coupling import PairwiseCoupling
from dlc.ir.ops.pointwise import Binary, Cast, Clip, Compare, Unary, Where
from dlc.ir.ops.reduction import Reduce

_KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")
#: Probabilities of pairs stay away from 0 and 1, as in LIBSVM.
_LEAST = 1e-7


@ml("SVMRegressor")
def svm_regressor(ctx: NodeContext) -> Value:
    """The kernels of x and the support vectors, weighted, plus rho: f32[N, 1]; of `one_class` its sign.

    Without support vectors x itself is weighted.
    """
    x, count = features(ctx, vector=True), ctx.int("n_supports", 0)
    coefficients, rho = numbers(ctx, "coefficients"), _rho(ctx, 1)
    if count:
        x = _kernel(ctx, x, _support_vectors(ctx, count))
    scores = _product(ctx, x, coefficients.reshape(-1, 1), rho[:1])
    scores = cast(ctx, scores, DType.F32)
    if ctx.int("one_class", 0):
        positive = winner(ctx, scores, 0.0)
        return ctx.add(Where(), positive, ctx.const(1.0, DType.F32), ctx.const(-1.0, DType.F32))
    return post_transform(ctx, scores, ctx.string("post_transform", "NONE"))


@ml("SVMClassifier")
def svm_classifier(ctx: NodeContext) -> Sequence[Value]:
    """The label of the class, and scores, transformed.

    With support vectors, pairs of classes vote for one of the two; the class with the most votes is it, and
    the scores are those of the pairs (of a single pair minus the score and the score), or, with `prob_a` and
    `prob_b`, the probabilities of the classes. Without, each class has coefficients and a score, and the
    greatest one is it.
    """
    x, labels = features(ctx, vector=True), class_labels(ctx, "classlabels_ints")
    counts, transform = integers(ctx, "vectors_per_class"), ctx.string("post_transform", "NONE")
    coefficients, classes = numbers(ctx, "coefficients"), len(labels)
    if not counts.any():
        _divisible(ctx, len(coefficients), classes, "coefficients")
        weights = coefficients.reshape(classes, -1).T
        scores = _product(ctx, x, weights, np.repeat(_rho(ctx, 1)[:1], classes))
        return labels.greatest(ctx, scores), post_transform(ctx, cast(ctx, scores, DType.F32), transform)
    if len(counts) != classes or classes < 2 or counts.min() < 0:
        ctx.fail(f"vectors_per_class {counts.tolist()} are none of {classes} classes", "model/attribute")
    kernel = _kernel(ctx, x, _support_vectors(ctx, int(counts.sum())))
    pairs = classes * (classes - 1) // 2
    weights = _pair_weights(ctx, coefficients, counts)
    scores = cast(ctx, _product(ctx, kernel, weights, _rho(ctx, pairs)[:pairs]), DType.F32)
    label = _elected(ctx, scores, labels)
    slopes, shifts = (numbers(ctx, key) for key in ("prob_a", "prob_b"))
    if len(slopes) != len(shifts) or 0 < len(slopes) < pairs:
        ctx.fail(f"prob_a and prob_b must have a number for each of {pairs} pairs", "model/attribute")
    if len(slopes):
        scores = _probabilities(ctx, scores, slopes[:pairs], shifts[:pairs], classes)
    elif pairs == 1:
        return label, two_scores(ctx, scores, complement=transform != "NONE", transform=transform)
    return label, post_transform(ctx, scores, transform)


def _rho(ctx: NodeContext, least: int) -> Array:
    rho = numbers(ctx, "rho")
    if len(rho) < least:
        ctx.fail(f"rho has {len(rho)} numbers, but {least} are needed", "model/attribute")
    return rho


def _divisible(ctx: NodeContext, count: int, rows: int, what: str) -> None:
    if not count or count % rows:
        ctx.fail(f"{count} {what} do not make {rows} rows", "model/attribute")


def _product(ctx: NodeContext, x: Value, weights: Array, shift: Array) -> Value:
    """x [N, K] times weights [K, M], plus shift [M]."""
    require_equal(ctx, x.tensor.shape[1], len(weights), "the numbers of features and of coefficients")
    dtype = x.tensor.dtype.numpy
    product = ctx.add(MatMul(), x, ctx.const(np.ascontiguousarray(weights.astype(dtype))))
    return ctx.add(Binary("add"), product, ctx.const(shift.astype(dtype)))


# --- kernels


def _support_vectors(ctx: NodeContext, count: int) -> Array:
    """The support vectors, one a column: [F, count]."""
    vectors = numbers(ctx, "support_vectors")
    if count < 0:
        ctx.fail(f"there cannot be {count} support vectors", "model/attribute")
    _divisible(ctx, len(vectors), count, "numbers of support vectors")
    return np.ascontiguousarray(vectors.reshape(count, -1).T)


def _kernel(ctx: NodeContext, x: Value, vectors: Array) -> Value:
    """The kernel of each row of x and each column of `vectors`: [N, count]."""
    kind, params = ctx.string("kernel_type", "LINEAR"), numbers(ctx, "kernel_params")
    if kind not in _KERNELS:
        ctx.fail(f"kernel_type {kind!r} is none of {', '.join(_KERNELS)}", "model/attribute")
    if kind != "LINEAR" and len(params) < 3:
        ctx.fail("kernel_params must hold gamma, coef0 and degree", "model/attribute")
    require_equal(ctx, x.tensor.shape[1], len(vectors), "the numbers of features of x and support vectors")
    dtype = x.tensor.dtype
    columns = ctx.const(vectors.astype(dtype.numpy))
    if kind == "RBF":
        return _radial(ctx, x, columns, float(params[0]))
    product = ctx.add(MatMul(), x, columns)
    if kind == "LINEAR":
        return product
    gamma, shift, degree = (ctx.const(float(number), dtype) for number in params[:3])
    product = ctx.add(Binary("add"), ctx.add(Binary("mul"), product, gamma), shift)
    return ctx.add(Unary("tanh"), product) if kind == "SIGMOID" else ctx.add(Binary("pow"), product, degree)


def _radial(ctx: NodeContext, x: Value, columns: Value, gamma: float) -> Value:
    """exp(-gamma |x - v|^2), by differences: |x|^2 - 2 x v + |v|^2 cancels."""
    rows, features = x.tensor.shape
    difference = ctx.add(Binary("sub"), reshape(ctx, x, (rows, features, 1)), columns)
    distance = ctx.add(Reduce("sum_square", (1,), False), difference)
    return ctx.add(Unary("exp"), ctx.add(Binary("mul"), distance, ctx.const(-gamma, x.tensor.dtype)))


# --- pairs of classes


def _pair_weights(ctx: NodeContext, coefficients: Array, counts: Array) -> Array:
    """What the kernel of each support vector counts in the score of each pair: [count, pairs].

    For the pair i < j a vector of class i has its coefficient of row j - 1, one of class j that of row i.
    """
    classes, total = len(counts), int(counts.sum())
    if len(coefficients) < (classes - 1) * total:
        needed = f"{classes - 1} rows of {total}"
        ctx.fail(f"{len(coefficients)} coefficients are less than {needed}", "model/attribute")
    table = coefficients[: (classes - 1) * total].reshape(classes - 1, total)
    ends = np.cumsum(counts)
    places = [slice(int(end - count), int(end)) for end, count in zip(ends, counts)]
    weights = np.zeros((total, classes * (classes - 1) // 2))
    for pair, (i, j) in enumerate(itertools.combinations(range(classes), 2)):
        weights[places[i], pair] = table[j - 1, places[i]]
        weights[places[j], pair] = table[i, places[j]]
    return weights


def _elected(ctx: NodeContext, scores: Value, labels: Labels) -> Value:
    """The label with the most votes: a pair votes for its first class if its score is greater than 0."""
    classes = len(labels)
    pairs = list(itertools.combinations(range(classes), 2))
    if len(pairs) == 1:
        loses = ctx.add(Unary("not"), winner(ctx, scores, 0.0))
        return labels.second(ctx, loses)
    ballots = np.zeros((len(pairs), classes), np.float32)
    for pair, (i, j) in enumerate(pairs):
        ballots[pair, [i, j]] = 1, -1
    # The votes if all scores were negative, and what positive ones change.
    last = np.bincount([j for _, j in pairs], minlength=classes).astype(np.float32)
    wins = ctx.add(Cast(DType.F32), ctx.add(Compare("gt"), scores, ctx.const(0.0, DType.F32)))
    votes = ctx.add(Binary("add"), ctx.add(MatMul(), wins, ctx.const(ballots)), ctx.const(last))
    return labels.greatest(ctx, votes)


def _probabilities(ctx: NodeContext, scores: Value, slopes: Array, shifts: Array, classes: int) -> Value:
    """The probabilities of the classes from the scores of pairs, f32[N, classes], after J. Platt."""
    slope, shift = (ctx.const(array.astype(np.float32)) for array in (slopes, shifts))
    exponent = ctx.add(Binary("add"), ctx.add(Binary("mul"), scores, slope), shift)
    pair = ctx.add(Unary("sigmoid"), ctx.add(Unary("neg"), exponent))
    pair = ctx.add(Clip(float(np.float32(_LEAST)), float(np.float32(1) - np.float32(_LEAST))), pair)
    return ctx.add(PairwiseCoupling(classes), pair)
