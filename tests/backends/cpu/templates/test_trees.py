"""Native tree ensembles against the evaluator: packings, walks and votes of all kinds, blocks of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.frontend.onnx.forest import Canonical, Votes, canonical
from dlc.frontend.onnx.tree_tests import MODES, Branches
from dlc.ir.ops.trees import TreeEnsemble
from dlc.target import CpuTarget
from dlc.verify.tolerances import Work
from tests.backends.cpu.templates.node_runner import CompiledNode, assert_same_bits, each_target
from tests.helpers.onnx_cases import Array


def forest(
    trees: int,
    depth: int,
    features: int,
    dtype: Any,
    *,
    targets: int = 1,
    votes: str = "one",
    lopsided: bool = False,
    missing: bool = False,
    mode: str = "BRANCH_LEQ",
) -> Canonical:
    """Random trees; lopsided ones have a leaf at each inner node, others are complete."""
    rng = np.random.default_rng(trees)
    inner = depth if lopsided else 2**depth - 1
    leaves = inner + 1
    if lopsided:
        yes, no = ~np.arange(depth), np.append(np.arange(1, depth), ~depth)
    else:
        children = np.arange(1, 2 * inner + 1).reshape(-1, 2)
        children = np.where(children < inner, children, ~(children - inner))
        no, yes = children[:, 0], children[:, 1]
    shift = np.repeat(np.arange(trees), inner)

    def shifted(child: Array) -> Array:
        every = np.tile(child, trees)
        return np.where(every >= 0, every + shift * inner, every - shift * leaves)

    count = trees * inner
    branches = Branches(
        rng.integers(0, features, count),
        np.round(rng.standard_normal(count), 1),
        np.full(count, MODES.index(mode)),
        shifted(yes),
        shifted(no),
        rng.random(count) < (0.5 if missing else 0),
    )
    each = {"one": 1, "all": targets, "some": 1, "tree": 1}[votes]
    leaf = np.repeat(np.arange(trees * leaves), each)
    target = (
        np.tile(np.arange(targets), trees * leaves) if votes == "all" else rng.integers(0, targets, len(leaf))
    )
    if votes == "tree":
        target = np.repeat(np.arange(trees) % targets, leaves)
    voting = rng.random(len(leaf)) < (0.5 if votes == "some" else 2)
    weight = rng.standard_normal(len(leaf)).astype(dtype)
    cast = Votes.sorted(leaf[voting], trees * leaves, target[voting], weight[voting])
    return canonical(np.arange(trees) * inner, branches, cast)


def check(trees: Canonical, targets: int, features: int, target: CpuTarget, aggregate: str = "sum") -> None:
    """Compare native code with the evaluator on numbers of rows around the blocks."""
    operands = [
        trees.roots,
        trees.feature,
        trees.threshold,
        trees.child,
        trees.missing,
        trees.first,
        trees.target,
        trees.weight,
    ]
    operator = TreeEnsemble(targets, aggregate, trees.depth, trees.uniform)
    rng = np.random.default_rng(1)
    x = np.round(rng.standard_normal((131, features)), 1).astype(trees.weight.dtype)
    x[rng.random(x.shape) < 0.1] = np.nan
    node = CompiledNode(operator, [x, *operands], target, {(0, 0): "rows"}, constants=range(1, 9))
    assert node.templates == ["trees"]
    for rows in (0, 1, 15, 16, 63, 64, 65, 131):
        results = node.check([x[:rows], *operands], Work.REDUCTION)
        assert_same_bits(results, node.run([x[:rows], *operands], backwards=True))
    # A row gets the same bits in any batch: alone it is walked down sixteen trees at once.
    (every,) = node.run([x, *operands])
    for row in (0, 63, 130):
        assert_same_bits([every[row : row + 1]], node.run([x[row : row + 1], *operands]))


@each_target
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("votes", ["tree", "one", "all", "some"])
@pytest.mark.parametrize("aggregate", ["sum", "min", "max"])
def test_votes(dtype: Any, votes: str, aggregate: str, target: CpuTarget) -> None:
    targets = 17 if votes == "all" else 3
    check(forest(19, 3, 5, dtype, targets=targets, votes=votes), targets, 5, target, aggregate)


@each_target
@pytest.mark.parametrize("trees", [0, 1, 16, 33])
def test_numbers_of_trees(trees: int, target: CpuTarget) -> None:
    if trees:
        check(forest(trees, 2, 4, np.float32), 1, 4, target)
        return
    nothing = forest(1, 2, 4, np.float32)
    empty = canonical(
        np.zeros(0, np.int64),
        Branches(*[np.zeros(0, np.int64)] * 5, np.zeros(0, np.bool_)),
        Votes(np.zeros(1, np.int64), np.zeros(0, np.int64), nothing.weight[:0]),
    )
    check(empty, 2, 4, target)


@each_target
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_missing_numbers(dtype: Any, target: CpuTarget) -> None:
    check(forest(7, 4, 5, dtype, missing=True), 1, 5, target)


@each_target
def test_lopsided_trees_end_their_walks_early(target: CpuTarget) -> None:
    trees = forest(18, 40, 6, np.float32, lopsided=True)
    check(trees, 1, 6, target)


@each_target
def test_many_features_take_wide_nodes(target: CpuTarget) -> None:
    check(forest(3, 3, 40_000, np.float32, missing=True), 1, 40_000, target)


@each_target
def test_far_children_take_wide_nodes(target: CpuTarget) -> None:
    """The last level of a tree of 2^17 leaves is farther than 16 bits tell."""
    trees = forest(1, 17, 8, np.float32)
    assert (trees.child - np.arange(len(trees.child))).max() >= 1 << 16
    check(trees, 1, 8, target)


@each_target
def test_nodes_of_several_parents(target: CpuTarget) -> None:
    """Equality takes two nodes, which share a child."""
    trees = forest(6, 4, 3, np.float32, mode="BRANCH_EQ", missing=True)
    assert (trees.child < np.arange(len(trees.child))).any()
    check(trees, 1, 3, target)
