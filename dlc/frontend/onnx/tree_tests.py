"""The tests at the nodes of decision trees, all rewritten as x <= threshold.

x < t becomes x <= the number before t; x > t and x >= t exchange the children; membership in a set becomes a
binary search of tests x <= m, of which x == t is the least. NaN takes the way that it took before. Thresholds
of more precision than x are rounded such that every comparison keeps its outcome.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dlc.ir.operator import Array

#: The comparisons in the order of TreeEnsemble's enumeration; nodes of the last one have sets of numbers.
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
_LE, _LT, _GE, _GT, _EQ, _NE, _MEMBER = range(len(MODES))


@dataclasses.dataclass(frozen=True)
class Branches:
    """The inner nodes of all trees; arrays have an entry for each.

    `threshold` is f64, `mode` counts in MODES. `true` and `false` are positions of children: of an inner
    node, or ~position of a leaf; a node may have several parents. `missing`: NaN goes to the true child.
    `members` are the sets of the nodes of mode BRANCH_MEMBER, f64 in any order, by position.
    """

    feature: Array
    threshold: Array
    mode: Array
    true: Array
    false: Array
    missing: Array
    members: dict[int, Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PlainBranches:
    """Inner nodes with the test x <= threshold: `yes` where it holds (or NaN with `missing`), else `no`.

    The nodes of `Branches` keep their positions; others come after them.
    """

    feature: Array
    threshold: Array
    yes: Array
    no: Array
    missing: Array


def plain(branches: Branches, dtype: np.dtype[np.floating]) -> PlainBranches:
    """`branches` for numbers x of `dtype`."""
    branches, sets = _sets(branches)
    mode = branches.mode
    strict = (mode == _LT) | (mode == _GE)
    exchanged = (mode == _GT) | (mode == _GE) | (mode == _NE)
    yes = np.where(exchanged, branches.false, branches.true)
    no = np.where(exchanged, branches.true, branches.false)
    # Exchanged tests send NaN where the others do not; x != NaN holds whatever `missing` says.
    missing = np.where(exchanged, ~branches.missing & (mode != _NE), branches.missing)
    threshold = np.where(strict, _before(branches.threshold, dtype), _at_most(branches.threshold, dtype))
    # No number is > NaN: all are <= infinity instead.
    threshold[exchanged & np.isnan(branches.threshold)] = np.inf
    search = _Search(len(mode))
    for node, members in sets.items():
        numbers = np.unique(members[~np.isnan(members)])
        # Nothing is <= NaN: no number is a member of the empty set.
        threshold[node] = _at_most(numbers[-1:], dtype)[0] if len(numbers) else np.nan
        if len(numbers):
            yes[node] = search.add(int(branches.feature[node]), numbers, int(yes[node]), int(no[node]))
    added = np.array(search.nodes, np.float64).reshape(-1, 5)
    more = np.where(added[:, 4] > 0, _before(added[:, 1], dtype), _at_most(added[:, 1], dtype))
    return PlainBranches(
        np.concatenate([branches.feature, added[:, 0].astype(np.int64)]),
        np.concatenate([threshold, more]),
        np.concatenate([yes, added[:, 2].astype(np.int64)]),
        np.concatenate([no, added[:, 3].astype(np.int64)]),
        np.concatenate([missing, np.zeros(len(added), np.bool_)]),
    )


def _at_most(threshold: Array, dtype: np.dtype[np.floating]) -> Array:
    """The greatest number of `dtype` that is at most each f64 threshold."""
    with np.errstate(over="ignore"):
        rounded = threshold.astype(dtype)
        below = np.nextafter(rounded, dtype.type(-np.inf))
    return np.where(rounded > threshold, below, rounded)


def _before(threshold: Array, dtype: np.dtype[np.floating]) -> Array:
    """The greatest number of `dtype` less than each f64 threshold; NaN before -infinity."""
    rounded = _at_most(threshold, dtype)
    with np.errstate(over="ignore"):
        before = np.where(rounded < threshold, rounded, np.nextafter(rounded, dtype.type(-np.inf)))
    return np.where(np.isneginf(threshold), dtype.type(np.nan), before)


def _sets(branches: Branches) -> tuple[Branches, dict[int, Array]]:
    """The nodes that ask whether x is one of some numbers, with these.

    A chain of x == t with a common true child, as converters write a set, becomes one at its first node; the
    others are not led to any more.
    """
    mode, true, false = branches.mode, branches.true, branches.false.copy()
    sets = dict(branches.members)
    for node in np.flatnonzero((mode == _EQ) | (mode == _NE)).tolist():
        sets[node] = branches.threshold[node : node + 1]
    parents = np.bincount(np.concatenate([true[true >= 0], false[false >= 0]]), minlength=len(mode))
    chained = np.flatnonzero((mode == _EQ) & (false >= 0))
    following = false[chained]
    alike = (mode[following] == _EQ) & (parents[following] == 1)
    for array in (branches.feature, true, branches.missing):
        alike &= array[chained] == array[following]
    chains = dict(zip(chained[alike].tolist(), following[alike].tolist()))
    for head in chains.keys() - chains.values():
        chain = [head]
        while chain[-1] in chains:
            chain.append(chains[chain[-1]])
        sets[head] = branches.threshold[chain]
        false[head] = branches.false[chain[-1]]
        for node in chain[1:]:
            del sets[node]
    return dataclasses.replace(branches, false=false), sets


@dataclasses.dataclass
class _Search:
    """Nodes that search sets, from position `start` on: feature, number, yes, no, and 1 to test for less."""

    start: int
    nodes: list[tuple[int, float, int, int, int]] = dataclasses.field(default_factory=list)

    def add(self, feature: int, numbers: Array, yes: int, no: int) -> int:
        """Ask whether x, at most the last one of ascending `numbers`, is one; returns the first node.

        NaN, which is not <= anything, is taken for the last one.
        """
        place = len(self.nodes)
        if len(numbers) == 1:
            self.nodes.append((feature, float(numbers[0]), no, yes, 1))
            return self.start + place
        middle = len(numbers) // 2
        self.nodes.append((feature, float(numbers[middle - 1]), 0, 0, 0))
        below = self.add(feature, numbers[:middle], yes, no)
        above = self.add(feature, numbers[middle:], yes, no)
        self.nodes[place] = (feature, float(numbers[middle - 1]), below, above, 0)
        return self.start + place
