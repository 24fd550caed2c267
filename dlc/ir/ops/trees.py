"""Ensembles of decision trees in a canonical form: all tests are x <= threshold, siblings are neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass, tensor
from dlc.ir.ops.checks import require_rank, require_shape
from dlc.ir.ops.common import given
from dlc.ir.types import TensorType, Type

AGGREGATES = ("sum", "min", "max")


@dataclasses.dataclass(frozen=True)
class TreeEnsemble(Operator):
    """Votes of the leaves that each row of x reaches, combined by target: x [N, F] -> y [N, targets].

    Operands after x, about nodes 0 .. M - 1 of all T trees and V votes:

    - roots [T] i32: the root of each tree.
    - feature [M] i32, threshold [M] of x's type, child [M] i32: a node that is no leaf sends a row on to
      node child + 1 if x[feature] <= threshold, and to node child otherwise; NaN there is not <=. Of a leaf,
      child is the node itself, threshold NaN and feature any.
    - missing [M] bool or absent: nodes that send NaN to child + 1 after all.
    - first [M + 1] i32: node n casts the votes first[n] .. first[n + 1] - 1; only leaves have any.
    - target [V] i32, weight [V] of x's type: for whom a vote is and how much.

    A target of y is the sum, minimum or maximum (`aggregate`) of its votes, 0 if it got none; weights are
    finite. No path has more than `depth` steps. With `uniform`, each leaf has one vote, and the leaves of a
    tree vote for the same target.
    """

    targets: int
    aggregate: str
    depth: int
    uniform: bool = False

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def __post_init__(self) -> None:
        if self.aggregate not in AGGREGATES:
            raise ValueError(f"{self.aggregate!r} is none of {', '.join(AGGREGATES)}")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x, roots = require_rank(inputs[0], 2, "x"), require_rank(inputs[1], 1, "roots")
        if x.dtype not in (DType.F32, DType.F64):
            raise InferenceError(f"x must be of type f32 or f64, but is {x.dtype.text}")
        nodes = require_rank(inputs[2], 1, "feature").shape[0]
        votes = require_rank(inputs[7], 1, "target").shape[0]
        integers = {
            "roots": roots,
            "feature": inputs[2],
            "child": inputs[4],
            "first": inputs[6],
            "target": inputs[7],
        }
        for what, operand in integers.items():
            if tensor(operand, what).dtype is not DType.I32:
                raise InferenceError(f"{what} must be of type i32, but is {operand}")
        require_shape(inputs[4], (nodes,), "child")
        require_shape(inputs[6], (nodes + 1,), "first")
        for index, what, extent in ((3, "threshold", nodes), (8, "weight", votes)):
            if require_shape(inputs[index], (extent,), what).dtype is not x.dtype:
                raise InferenceError(f"{what} must be of type {x.dtype.text}, but is {inputs[index]}")
        if inputs[5] is not None and require_shape(inputs[5], (nodes,), "missing").dtype is not DType.BOOL:
            raise InferenceError(f"missing must be of type bool, but is {inputs[5]}")
        return (TensorType(x.dtype, (x.shape[0], self.targets)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, roots, feature, threshold, child = (given(operand) for operand in inputs[:5])
        first, target, weight = (given(operand) for operand in inputs[6:])
        leaves = reached_leaves(x, roots, feature, threshold, child, inputs[5], self.depth)
        return (combine_votes(leaves, first, target, weight, self.targets, self.aggregate),)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        rows, trees = tensor(inputs[0], "x").shape[0], tensor(inputs[1], "roots").shape[0]
        return rows * trees * (self.depth + 1)


def reached_leaves(
    x: Array,
    roots: Array,
    feature: Array,
    threshold: Array,
    child: Array,
    missing: Array | None,
    depth: int,
) -> Array:
    """The leaf of each tree that each row of `x` reaches in `depth` steps, [N, T]."""
    node = np.broadcast_to(roots.astype(np.int64), (len(x), len(roots))).copy()
    rows = np.arange(len(x))[:, None]
    for _ in range(depth):
        value = x[rows, feature[node]]
        second = value <= threshold[node]
        if missing is not None:
            second |= np.isnan(value) & missing[node]
        node = child[node] + np.where(child[node] == node, 0, second)
    return node


def combine_votes(
    leaves: Array, first: Array, target: Array, weight: Array, targets: int, aggregate: str
) -> Array:
    """The votes of `leaves` [N, T] combined by target, [N, targets]; sums are taken in float64."""
    counts = (first[1:] - first[:-1])[leaves]
    rows = np.repeat(np.arange(len(leaves)), counts.sum(axis=1))
    # The votes of all leaves one after the other: the first of each leaf, and how far on from there.
    starts = np.repeat(first[leaves].reshape(-1), counts.reshape(-1))
    ends = np.cumsum(counts.reshape(-1))
    within = np.arange(len(starts)) - np.repeat(ends - counts.reshape(-1), counts.reshape(-1))
    vote = starts + within
    start = {"sum": 0.0, "min": np.inf, "max": -np.inf}[aggregate]
    total = np.full((len(leaves), targets), start)
    combine = {"sum": np.add, "min": np.minimum, "max": np.maximum}[aggregate]
    combine.at(total, (rows, target[vote]), weight[vote].astype(np.float64))
    return np.where(total == start, 0.0, total).astype(weight.dtype)
