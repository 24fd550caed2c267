"""Decision trees as models write them, laid out for `dlc.ir.ops.trees.TreeEnsemble`.

All tests become x <= t (`tree_tests`); the nodes are then laid out tree by tree and, within one, level by
level, with siblings side by side.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from dlc.frontend.onnx.tree_tests import Branches, PlainBranches, plain
from dlc.ir.operator import Array
from dlc.ir.ops.tree_paths import heights

#: Paths of more steps belong to no trees that were learnt.
LONGEST = 1 << 14


@dataclasses.dataclass(frozen=True)
class Votes:
    """The votes of all leaves: leaf l has those from first[l] to first[l + 1] - 1."""

    first: Array
    target: Array
    weight: Array

    @classmethod
    def sorted(cls, leaf: Array, leaves: int, target: Array, weight: Array) -> Votes:
        """Votes in any order, `leaf` saying whose each is."""
        order = np.argsort(leaf, kind="stable")
        counts = np.bincount(leaf, minlength=leaves)
        return cls(np.concatenate([[0], np.cumsum(counts)]), target[order], weight[order])


@dataclasses.dataclass(frozen=True)
class Canonical:
    """The operands of TreeEnsemble after x, and what it has to know about them."""

    roots: Array
    feature: Array
    threshold: Array
    child: Array
    missing: Array | None
    first: Array
    target: Array
    weight: Array
    depth: int
    uniform: bool


def canonical(roots: Array, branches: Branches, votes: Votes) -> Canonical:
    """The trees that start at `roots` (positions as in `Branches`), for x of the type of the votes' weights.

    Raises ValueError for a cycle and for a path of more than LONGEST steps.
    """
    tests = plain(branches, votes.weight.dtype)
    places = _lay_out(roots, tests)
    leaf, jump = places.node < 0, places.instead >= 0
    inner = ~leaf & ~jump
    test = places.node[inner]
    feature = np.zeros(len(leaf), np.int32)
    feature[inner] = tests.feature[test]
    # Nothing is <= NaN: a node that stands for another always leads to its first "child", which is that one.
    threshold = np.full(len(leaf), np.nan, votes.weight.dtype)
    threshold[inner] = tests.threshold[test]
    missing = np.zeros(len(leaf), np.bool_)
    missing[inner] = tests.missing[test]
    child = np.where(leaf, np.arange(len(leaf)), np.where(jump, places.instead, places.child))
    steps = heights(child, np.where(inner, child + 1, child), LONGEST)
    starts = np.searchsorted(places.tree, np.arange(len(roots)))
    if (steps < 0).any():
        raise ValueError(f"the trees have a cycle, or a path of more than {LONGEST} nodes")
    counts = np.zeros(len(leaf), np.int64)
    counts[leaf] = np.diff(votes.first)[~places.node[leaf]]
    first = np.concatenate([[0], np.cumsum(counts)])
    vote = np.repeat(votes.first[~places.node[leaf]], counts[leaf]) + _within(counts[leaf])
    target = votes.target[vote]
    return Canonical(
        starts.astype(np.int32),
        feature,
        threshold,
        child.astype(np.int32),
        missing if missing.any() else None,
        first.astype(np.int32),
        target.astype(np.int32),
        votes.weight[vote],
        int(steps[starts].max(initial=0)),
        _is_uniform(counts[leaf], places.tree[leaf], target),
    )


def _within(counts: Array) -> Array:
    """0 .. n - 1 for each n of `counts`, one after the other."""
    within: Array = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return within


def _is_uniform(counts: Array, tree: Array, target: Array) -> bool:
    """Whether each leaf has one vote, and those of a tree are for one target."""
    if not len(target) or not (counts == 1).all():
        return False
    return bool(((tree[1:] != tree[:-1]) | (target[1:] == target[:-1])).all())


class _Places(NamedTuple):
    """What is at each place: a node (or ~leaf), its tree, the place of the first of its children.

    A node that several others lead to has one place; the others lead to a place of their own that leads
    there whatever x is: `instead` is the place of the node, and otherwise -1.
    """

    node: Array
    tree: Array
    child: Array
    instead: Array


def _lay_out(roots: Array, tests: PlainBranches) -> _Places:
    """Places for the nodes that the roots lead to; ValueError where that takes more than LONGEST steps."""
    levels: list[_Places] = []
    owned = np.full(len(tests.feature), -1)
    count = 0
    node, tree = roots, np.arange(len(roots))
    while len(node):
        if len(levels) > LONGEST:
            raise ValueError(f"the trees have a path of more than {LONGEST} nodes")
        places = count + np.arange(len(node))
        count += len(node)
        inner = np.flatnonzero(node >= 0)
        # The first to lead to a node gets it.
        unseen = inner[owned[node[inner]] < 0]
        owners = np.sort(unseen[np.unique(node[unseen], return_index=True)[1]])
        owned[node[owners]] = places[owners]
        instead = np.full(len(node), -1)
        instead[inner] = owned[node[inner]]
        instead[owners] = -1
        child = np.full(len(node), -1)
        child[owners] = count + 2 * np.arange(len(owners))
        levels.append(_Places(node, tree, child, instead))
        node = np.stack([tests.no[node[owners]], tests.yes[node[owners]]], axis=1).reshape(-1)
        tree = np.repeat(tree[owners], 2)
    if not levels:
        return _Places(*[np.zeros(0, np.int64)] * 4)
    found = _Places(*map(np.concatenate, zip(*levels)))
    # From levels of all trees to trees of all levels.
    order = np.argsort(found.tree, kind="stable")
    moved = np.empty(count, np.int64)
    moved[order] = np.arange(count)
    child = np.where(found.child < 0, -1, moved[found.child])
    instead = np.where(found.instead < 0, -1, moved[found.instead])
    return _Places(found.node[order], found.tree[order], child[order], instead[order])
