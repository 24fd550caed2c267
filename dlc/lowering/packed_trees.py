"""Nodes of tree ensembles packed into words, so that a step down reads one of them.

A node is two words: the threshold, and below it 15 bits of feature, the bit of `missing`, and 16 bits of how
far on the first child is. Where that does not fit, or for f64, it is four words: the threshold in the first
one or two, the feature with the bit of `missing` on top, and the distance of the child.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dlc.ir.dtypes import DType, from_numpy
from dlc.ir.operator import Array
from dlc.ir.ops.tree_paths import heights
from dlc.ir.ops.trees import combine_votes, reached_leaves

#: Trees that are walked at once for one row; their number is rounded up to a multiple of this.
GROUP = 16
#: Walks of at most so many steps do not look whether they have arrived.
_SHORT = 10
#: Words of a node.
COMPACT, WIDE = 2, 4


@dataclasses.dataclass(frozen=True)
class Forest:
    """The nodes of TreeEnsemble; one more, a leaf that votes for nobody, is put after them.

    `heights` gives the longest path from each node to a leaf.
    """

    roots: Array
    feature: Array
    threshold: Array
    child: Array
    missing: Array | None
    heights: Array

    @classmethod
    def of(
        cls, roots: Array, feature: Array, threshold: Array, child: Array, missing: Array | None, depth: int
    ) -> Forest:
        """The forest; ValueError when a path has more than `depth` steps."""
        first = child.astype(np.int64)
        second = np.minimum(first + 1, len(first) - 1)
        # A threshold of NaN lets nothing pass to the second child, which may be a stranger.
        never = np.isnan(threshold) if missing is None else np.isnan(threshold) & ~missing
        paths = heights(first, np.where(never, first, second), depth)
        if (paths < 0).any():
            raise ValueError(f"a tree is deeper than {depth}")
        return cls(roots, feature, threshold, child, missing, paths)

    @property
    def nodes(self) -> int:
        """The number of nodes, the additional leaf among them."""
        return len(self.child) + 1

    @property
    def watched(self) -> bool:
        """Whether paths are so unequal that it pays to look when all walkers have arrived."""
        longest = int(self.heights[self.roots].max(initial=0))
        leaves = self._depths()[self.child == np.arange(len(self.child))]
        return longest > _SHORT and bool(leaves.mean() < 0.75 * longest)

    def _depths(self) -> Array:
        """The distance of each node from its root, 0 for nodes that no root reaches."""
        depth = np.zeros(len(self.child), np.int32)
        level = self.roots.astype(np.int64)
        for steps in range(int(self.heights.max(initial=0)) + 1):
            depth[level] = steps
            level = self.child[level[self.child[level] != level]].astype(np.int64)
            level = np.unique(np.concatenate([level, level + 1]))
            level = level[level < len(depth)]
        return depth

    def _flags(self) -> Array:
        return np.zeros(len(self.child), np.bool_) if self.missing is None else self.missing

    def packed(self) -> Array:
        """The nodes as words, [M + 1, 2 or 4] u32."""
        count = len(self.child)
        distance = np.append(self.child - np.arange(count), 0).astype(np.int64)
        feature = np.append(self.feature, 0).astype(np.int64)
        flags = np.append(self._flags(), False).astype(np.int64)
        threshold = np.append(self.threshold, self.threshold.dtype.type(np.nan))
        fits = distance.min() >= 0 and distance.max() < 1 << 16 and feature.max() < 1 << 15
        if threshold.dtype == np.float32 and fits:
            word = feature | flags << 15 | distance << 16
            return np.stack([threshold.view(np.uint32), word.astype(np.uint32)], axis=1)
        words = np.zeros((count + 1, WIDE), np.uint32)
        words[:, : threshold.itemsize // 4] = threshold.view(np.uint32).reshape(count + 1, -1)
        words[:, 2] = (feature | flags << 31).astype(np.uint32)
        words[:, 3] = (distance & 0xFFFFFFFF).astype(np.uint32)
        return words

    def trees(self, first: Array | None = None, target: Array | None = None) -> Array:
        """Root, longest path, target and longest path among its group of each tree, [T, 4] i32.

        The target is 0 unless votes are given, one a leaf. Trees of one leaf fill the last group.
        """
        padded = -(-len(self.roots) // GROUP) * GROUP
        table = np.zeros((padded, 4), np.int32)
        table[:, 0] = self.nodes - 1
        table[: len(self.roots), 0] = self.roots
        table[: len(self.roots), 1] = self.heights[self.roots]
        if first is not None and target is not None:
            leaf = self.roots.astype(np.int64)
            while not np.array_equal(self.child[leaf], leaf):
                leaf = self.child[leaf].astype(np.int64)
            table[: len(self.roots), 2] = target[first[leaf]]
        table[:, 3] = np.repeat(table[:, 1].reshape(-1, GROUP).max(axis=1), GROUP) if padded else 0
        return table


def unpacked(words: Array, dtype: DType) -> tuple[Array, Array, Array, Array]:
    """feature, threshold, child and missing of packed nodes whose thresholds are of `dtype`."""
    numbers = np.arange(len(words))
    if words.shape[1] == COMPACT:
        threshold = np.ascontiguousarray(words[:, 0]).view(np.float32)
        word = words[:, 1].astype(np.int64)
        return word & 0x7FFF, threshold, numbers + (word >> 16), (word >> 15 & 1).astype(np.bool_)
    count = dtype.itemsize // 4
    threshold = np.ascontiguousarray(words[:, :count]).view(dtype.numpy).reshape(-1)
    feature = words[:, 2].astype(np.int64)
    distance = words[:, 3].astype(np.int32).astype(np.int64)
    return feature & 0x7FFFFFFF, threshold, numbers + distance, (feature >> 31).astype(np.bool_)


def tree_values(arrays: Sequence[Array], options: Mapping[str, int | str | bool | float]) -> Sequence[Array]:
    """The meaning of the routine of that name: x, packed nodes, trees, and the value of each node's vote."""
    x, nodes, trees, values = arrays
    leaves = _leaves(x, nodes, trees)
    first = np.arange(len(values) + 1)
    # A vote of each node, for the target of its tree.
    targets = np.zeros(len(values), np.int64)
    targets[leaves] = trees[:, 2]
    aggregate, count = str(options["aggregate"]), int(options["targets"])
    return (combine_votes(leaves, first, targets, values, count, aggregate),)


def tree_votes(arrays: Sequence[Array], options: Mapping[str, int | str | bool | float]) -> Sequence[Array]:
    """The meaning of the routine of that name: x, packed nodes, trees, and votes as in TreeEnsemble."""
    x, nodes, trees, first, target, weight = arrays
    leaves = _leaves(x, nodes, trees)
    aggregate, count = str(options["aggregate"]), int(options["targets"])
    return (combine_votes(leaves, first, target, weight, count, aggregate),)


def tree_rows(arrays: Sequence[Array], options: Mapping[str, int | str | bool | float]) -> Sequence[Array]:
    """The meaning of the routine of that name: x, packed nodes, trees, and the row of `weight` of each node.

    A node votes for all targets; the last row is that of nodes that vote for none.
    """
    x, nodes, trees, rows, weight = arrays
    leaves = _leaves(x, nodes, trees)
    aggregate, count = str(options["aggregate"]), int(options["targets"])
    votes = np.where(rows == len(weight) - 1, 0, count)
    first = np.concatenate([[0], np.cumsum(votes)])
    voting = weight[rows[votes > 0]].reshape(-1)
    target = np.tile(np.arange(count), len(voting) // max(count, 1))
    return (combine_votes(leaves, first, target, voting, count, aggregate),)


def _leaves(x: Array, nodes: Array, trees: Array) -> Array:
    feature, threshold, child, missing = unpacked(nodes, from_numpy(x.dtype))
    depth = int(trees[:, 1].max(initial=0))
    return reached_leaves(x, trees[:, 0], feature, threshold, child, missing, depth)
