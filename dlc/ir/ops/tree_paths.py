"""Path lengths in graphs of tree nodes: what canonical trees and their lowering share."""

from __future__ import annotations

import numpy as np

from dlc.ir.operator import Array


def heights(first: Array, second: Array, limit: int) -> Array:
    """The longest path, in steps, from each node of a graph to a leaf; -1 where it has more than `limit`.

    Node n leads to first[n] and second[n]; a leaf leads to itself. Nodes on a cycle, or before one, have -1.
    """
    count = len(first)
    numbers = np.arange(count)
    leaf = first == numbers
    result = np.where(leaf, 0, -1)
    inner = numbers[~leaf]
    # The parents of each node, one after the other.
    child = np.concatenate([first[inner], second[inner]])
    parent = np.concatenate([inner, inner])[np.argsort(child, kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(child, minlength=count))])
    waiting = np.full(count, 2)
    frontier = numbers[leaf]
    for height in range(1, limit + 1):
        counts = starts[frontier + 1] - starts[frontier]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        parents = parent[np.repeat(starts[frontier], counts) + within]
        np.subtract.at(waiting, parents, 1)
        frontier = np.unique(parents[waiting[parents] == 0])
        if not len(frontier):
            break
        result[frontier] = height
    return result
