"""Decision trees as models write them, made canonical for `dlc.ir.ops.trees.TreeEnsemble`.

Comparisons other than x <= t become that one: x < t with the number before t; x > t and x >= t by exchanging
the children; x == t by two nodes, x <= t and not x <= (the number before t); membership by a chain of
equalities. NaN takes the way that it took before. The nodes are then laid out tree by tree and, within one,
level by level, with siblings side by side.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dlc.errors import ModelError, UnsupportedError
from dlc.ir.operator import Array

#: The comparisons in the order of TreeEnsemble's enumeration; nodes of the last one have sets of numbers.
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_LE, _LT, _GE, _GT, _EQ, _NE, _MEMBER = range(len(MODES))
#: Deeper trees are no trees that were learnt.
_DEEPEST = 4096


@dataclasses.dataclass(frozen=True)
class Branches:
    """The inner nodes of all trees; arrays have an entry for each.

    `mode` counts in MODES. `true` and `false` are positions of children: of an inner node, or ~position of a
    leaf. `missing`: NaN goes to the true child. `members` are the sets of nodes of mode BRANCH_MEMBER by
    position.
    """

    feature: Array
    threshold: Array
    mode: Array
    true: Array
    false: Array
    missing: Array
    members: dict[int, Array] = dataclasses.field(default_factory=dict)


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
    """The trees that start at `roots` (positions as in `Branches`).

    Raises ModelError for nodes with two parents and for cycles, UnsupportedError for trees that are too deep.
    """
    _check_parents(roots, branches)
    plain = _only_less_or_equal(branches)
    layout = _Layout(roots, plain)
    return layout.canonical(votes)


def _check_parents(roots: Array, branches: Branches) -> None:
    """Every inner node has at most one parent, and roots none: then no path can come back."""
    children = np.concatenate([roots, branches.true, branches.false])
    inner = children[children >= 0]
    if len(inner) and np.bincount(inner).max() > 1:
        raise ModelError(f"node {int(np.argmax(np.bincount(inner)))} of the trees has two parents")


@dataclasses.dataclass(frozen=True)
class _Plain:
    """Inner nodes with the test x <= threshold: `yes` where it holds (or NaN with `missing`), else `no`."""

    feature: Array
    threshold: Array
    yes: Array
    no: Array
    missing: Array


def _before(threshold: Array) -> Array:
    """The greatest number less than each; NaN, which nothing is less or equal to, before -infinity."""
    below: Array = np.nextafter(threshold, threshold.dtype.type(-np.inf))
    return np.where(np.isneginf(threshold), threshold.dtype.type(np.nan), below)


def _only_less_or_equal(branches: Branches) -> _Plain:
    branches = _without_sets(branches)
    mode, threshold = branches.mode, branches.threshold
    strict = (mode == _LT) | (mode == _GE)
    exchanged = (mode == _GT) | (mode == _GE) | (mode == _NE)
    yes = np.where(exchanged, branches.false, branches.true)
    no = np.where(exchanged, branches.true, branches.false)
    # Exchanged tests send NaN where the others do not; x != NaN holds whatever `missing` says.
    missing = np.where(exchanged, ~branches.missing & (mode != _NE), branches.missing)
    threshold = np.where(strict, _before(threshold), threshold)
    equal = np.flatnonzero((mode == _EQ) | (mode == _NE))
    if not len(equal):
        return _Plain(branches.feature, threshold, yes, no, missing)
    # The second node of an equality: x <= t is known, and less than t means no.
    second = len(mode) + np.arange(len(equal))
    more_yes, more_no = no[equal], yes[equal]
    yes[equal] = second
    return _Plain(
        np.concatenate([branches.feature, branches.feature[equal]]),
        np.concatenate([threshold, _before(threshold[equal])]),
        np.concatenate([yes, more_yes]),
        np.concatenate([no, more_no]),
        np.concatenate([missing, np.zeros(len(equal), np.bool_)]),
    )


def _without_sets(branches: Branches) -> Branches:
    """Sets of numbers as chains of equalities, each of which leads to the true child."""
    if not branches.members:
        return branches
    parts = {field.name: [getattr(branches, field.name).copy()] for field in dataclasses.fields(branches)[:6]}
    head = {name: arrays[0] for name, arrays in parts.items()}
    count = len(branches.mode)
    for node, members in branches.members.items():
        numbers = members.astype(head["threshold"].dtype)
        if not len(numbers):
            # Nothing equals NaN: no number is a member of the empty set.
            numbers = np.full(1, np.nan, numbers.dtype)
        head["mode"][node], head["threshold"][node] = _EQ, numbers[0]
        rest = len(numbers) - 1
        if not rest:
            continue
        chain = count + np.arange(rest)
        parts["feature"].append(np.full(rest, head["feature"][node]))
        parts["threshold"].append(numbers[1:])
        parts["mode"].append(np.full(rest, _EQ))
        parts["true"].append(np.full(rest, head["true"][node]))
        parts["false"].append(np.append(chain[1:], head["false"][node]))
        parts["missing"].append(np.zeros(rest, np.bool_))
        head["false"][node] = chain[0]
        count += rest
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Branches(
        joined["feature"],
        joined["threshold"],
        joined["mode"],
        joined["true"],
        joined["false"],
        joined["missing"],
    )


class _Layout:
    """Places for the nodes: tree by tree, level by level, siblings side by side.

    A node that several others lead to (the child of equalities) has one place; the others lead to a node of
    their own that leads there whatever x is.
    """

    def __init__(self, roots: Array, plain: _Plain) -> None:
        self.plain = plain
        #: For each place in order of discovery: the node (as in Branches) that it holds, its tree, its level,
        #: and the place whose node it leads to instead, or -1.
        self.node: list[Array] = []
        self.tree: list[Array] = []
        self.level: list[Array] = []
        self.stands_for: list[Array] = []
        self.first_child: list[Array] = []
        self._place = np.full(len(plain.feature), -1)
        self._count = 0
        node, tree = roots, np.arange(len(roots))
        for level in range(_DEEPEST + 1):
            if not len(node):
                break
            node, tree = self._add(node, tree, level)
        else:
            raise UnsupportedError(f"a tree is deeper than {_DEEPEST}")

    def _add(self, node: Array, tree: Array, level: int) -> tuple[Array, Array]:
        """Give the nodes of a level their places; returns the nodes of the next level and their trees."""
        places = self._count + np.arange(len(node))
        inner = np.flatnonzero(node >= 0)
        # The first to lead to a node gets it.
        unseen = inner[self._place[node[inner]] < 0]
        _, firsts = np.unique(node[unseen], return_index=True)
        owners = unseen[np.sort(firsts)]
        self._place[node[owners]] = places[owners]
        instead = np.full(len(node), -1)
        others = np.setdiff1d(inner, owners)
        instead[others] = self._place[node[others]]
        self._count += len(node)
        child = np.full(len(node), -1)
        child[owners] = self._count + 2 * np.arange(len(owners))
        for table, array in zip(
            (self.node, self.tree, self.level, self.stands_for, self.first_child),
            (node, tree, np.full(len(node), level), instead, child),
        ):
            table.append(array)
        below = np.stack([self.plain.no[node[owners]], self.plain.yes[node[owners]]], axis=1)
        return below.reshape(-1), np.repeat(tree[owners], 2)

    def canonical(self, votes: Votes) -> Canonical:
        node, tree, level, instead, child = (
            np.concatenate(table) if table else np.zeros(0, np.int64)
            for table in (self.node, self.tree, self.level, self.stands_for, self.first_child)
        )
        order = np.lexsort((np.arange(len(node)), level, tree))
        position = np.empty(len(node), np.int64)
        position[order] = np.arange(len(node))
        node, tree, instead, child = (array[order] for array in (node, tree, instead, child))
        leaf, jump = node < 0, instead >= 0
        plain, test = self.plain, np.where(leaf | jump, 0, node)
        nothing = np.zeros(len(node), np.int64)
        feature = np.where(leaf | jump, 0, plain.feature[test]) if len(plain.feature) else nothing
        dtype = votes.weight.dtype
        threshold = np.full(len(node), np.nan, dtype)
        missing = np.zeros(len(node), np.bool_)
        if len(plain.feature):
            threshold = np.where(leaf | jump, threshold, plain.threshold[test])
            missing = ~(leaf | jump) & plain.missing[test]
        target_place = np.where(jump, instead, child)
        following = np.where(leaf, np.arange(len(node)), position[np.where(leaf, 0, target_place)])
        counts = (
            np.where(leaf, np.diff(votes.first)[np.where(leaf, ~node, 0)], 0)
            if len(votes.first) > 1
            else nothing
        )
        first = np.concatenate([[0], np.cumsum(counts)])
        starts = np.where(leaf, votes.first[np.where(leaf, ~node, 0)], 0)
        vote = np.repeat(starts - first[:-1], counts) + np.arange(first[-1])
        roots = np.flatnonzero(np.append(True, tree[1:] != tree[:-1])) if len(tree) else nothing
        depth = self._depth(leaf, following, threshold, missing)
        target, weight = votes.target[vote], votes.weight[vote]
        return Canonical(
            roots.astype(np.int32),
            feature.astype(np.int32),
            threshold,
            following.astype(np.int32),
            missing if missing.any() else None,
            first.astype(np.int32),
            target.astype(np.int32),
            weight,
            depth,
            self._uniform(leaf, counts, tree, target),
        )

    def _depth(self, leaf: Array, child: Array, threshold: Array, missing: Array) -> int:
        """The longest path; nodes that stand for others make paths longer than there are levels."""
        level = int(max((table.max(initial=0) for table in self.level), default=0))
        jumps = any((table >= 0).any() for table in self.stands_for)
        if not jumps:
            return level
        second = np.where(np.isnan(threshold) & ~missing, child, np.minimum(child + 1, len(child) - 1))
        height = np.zeros(len(child), np.int64)
        for _ in range(2 * _DEEPEST):
            below = np.where(leaf, 0, np.maximum(height[child], height[second]) + 1)
            if np.array_equal(below, height):
                return int(height.max(initial=0))
            height = below
        raise UnsupportedError(f"a tree is deeper than {_DEEPEST}")

    @staticmethod
    def _uniform(leaf: Array, counts: Array, tree: Array, target: Array) -> bool:
        """Whether each leaf has one vote, and those of a tree are for one target."""
        if not len(target) or not (counts[leaf] == 1).all():
            return False
        whose = tree[leaf]
        return bool(((whose[1:] != whose[:-1]) | (target[1:] == target[:-1])).all())
