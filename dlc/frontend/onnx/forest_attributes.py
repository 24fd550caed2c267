"""The attributes of ONNX's tree operators, in the form of versions 1 to 3 and in that of version 5."""

from __future__ import annotations

import dataclasses

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.forest import Votes
from dlc.frontend.onnx.ml import integers, numbers, texts
from dlc.frontend.onnx.tree_tests import MODES, Branches
from dlc.ir.operator import Array

_LEAF = -1


@dataclasses.dataclass(frozen=True)
class Forest:
    """Trees of a model: roots and nodes as in `Branches`, and the votes of the leaves in f64."""

    roots: Array
    branches: Branches
    votes: Votes


def tuples(ctx: NodeContext, prefix: str) -> Forest:
    """Nodes in tuples `nodes_*` and votes in tuples `<prefix>_*`, the form of versions 1 to 3.

    Trees begin with the first node of their number. Votes of inner nodes count for nothing.
    """
    trees, nodes = (integers(ctx, f"nodes_{name}") for name in ("treeids", "nodeids"))
    if not len(trees):
        ctx.fail("nodes_treeids is empty: there are no trees", "model/attribute")
    mode = _modes(ctx)
    feature, true, false, threshold = (
        _of_length(ctx, array, len(trees), name)
        for name, array in (
            ("nodes_featureids", integers(ctx, "nodes_featureids")),
            ("nodes_truenodeids", integers(ctx, "nodes_truenodeids")),
            ("nodes_falsenodeids", integers(ctx, "nodes_falsenodeids")),
            ("nodes_values", numbers(ctx, "nodes_values", tensor=True)),
        )
    )
    _of_length(ctx, nodes, len(trees), "nodes_nodeids")
    _of_length(ctx, mode, len(trees), "nodes_modes")
    leaf = mode == _LEAF
    position = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(~leaf) - 1)
    index = _Index(ctx, trees, nodes)
    _, roots = np.unique(trees, return_index=True)
    inner = np.flatnonzero(~leaf)
    true, false = (position[index.find(trees[inner], child[inner], "child")] for child in (true, false))
    missing = _missing_tracks_true(ctx, len(trees))
    branches = Branches(feature[inner], threshold[inner], mode[inner], true, false, missing[inner])
    return Forest(position[np.sort(roots)], branches, _votes(ctx, prefix, index, position, int(leaf.sum())))


def _votes(ctx: NodeContext, prefix: str, index: _Index, position: Array, leaves: int) -> Votes:
    target, trees, nodes = (integers(ctx, f"{prefix}_{name}") for name in ("ids", "treeids", "nodeids"))
    weight = numbers(ctx, f"{prefix}_weights", tensor=True)
    for name, array in (("treeids", trees), ("nodeids", nodes), ("weights", weight)):
        _of_length(ctx, array, len(target), f"{prefix}_{name}")
    place = position[index.find(trees, nodes, "vote")]
    voting = place < 0
    return Votes.sorted(~place[voting], leaves, target[voting], weight[voting])


def _modes(ctx: NodeContext) -> Array:
    names = texts(ctx, "nodes_modes")
    known = {name: number for number, name in enumerate(MODES[:-1])} | {"LEAF": _LEAF}
    unknown = set(names) - known.keys()
    if unknown:
        ctx.fail(f"there is no mode {min(unknown)!r} of nodes", "model/attribute")
    return np.array([known[name] for name in names], np.int64)


class _Index:
    """Finds nodes by their number and that of their tree."""

    def __init__(self, ctx: NodeContext, trees: Array, nodes: Array) -> None:
        self.ctx = ctx
        self.trees, self.nodes = np.unique(trees), np.unique(nodes)
        keys = self._keys(trees, nodes)
        self.order = np.argsort(keys, kind="stable")
        self.keys = keys[self.order]
        twice = np.flatnonzero(self.keys[1:] == self.keys[:-1])
        if len(twice):
            at = self.order[twice[0]]
            ctx.fail(f"tree {trees[at]} has two nodes {nodes[at]}", "model/attribute")

    def find(self, trees: Array, nodes: Array, what: str) -> Array:
        """The positions of nodes in the tuples; ModelError where there is none, naming `what` it was for."""
        keys = self._keys(trees, nodes)
        at = np.searchsorted(self.keys, keys)
        absent = (at == len(self.keys)) | (self.keys[np.minimum(at, len(self.keys) - 1)] != keys)
        if absent.any():
            first = int(np.argmax(absent))
            self.ctx.fail(f"tree {trees[first]} has no node {nodes[first]} for a {what}", "model/attribute")
        return self.order[at]

    def _keys(self, trees: Array, nodes: Array) -> Array:
        """A number for each pair, -1 where one of the two is unknown."""
        parts = []
        for known, wanted in ((self.trees, trees), (self.nodes, nodes)):
            at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            parts.append(np.where(known[at] == wanted, at, -1))
        tree, node = parts
        return np.where((tree < 0) | (node < 0), -1, tree * len(self.nodes) + node)


def lists(ctx: NodeContext) -> Forest:
    """Inner nodes in `nodes_*` and leaves of one vote in `leaf_*`, the form of version 5."""
    roots, feature = integers(ctx, "tree_roots"), integers(ctx, "nodes_featureids")
    target = integers(ctx, "leaf_targetids")
    weight = _of_length(ctx, numbers(ctx, "leaf_weights"), len(target), "leaf_weights")
    threshold = _of_length(ctx, numbers(ctx, "nodes_splits"), len(feature), "nodes_splits")
    mode = _of_length(ctx, integers(ctx, "nodes_modes"), len(feature), "nodes_modes")
    if len(mode) and not (mode.min() >= 0 and mode.max() < len(MODES)):
        ctx.fail(f"modes of nodes are 0 to {len(MODES) - 1}", "model/attribute")
    child = {}
    for way in ("true", "false"):
        number, leaf = (integers(ctx, f"nodes_{way}{name}") for name in ("nodeids", "leafs"))
        for name, array in ((f"nodes_{way}nodeids", number), (f"nodes_{way}leafs", leaf)):
            _of_length(ctx, array, len(feature), name)
        within = np.where(leaf != 0, len(target), len(feature))
        if not ((number >= 0) & (number < within)).all():
            ctx.fail(f"nodes_{way}nodeids names a node or leaf that is not there", "model/attribute")
        child[way] = np.where(leaf != 0, ~number, number)
    if len(roots) and not (roots.min() >= 0 and roots.max() < len(feature)):
        ctx.fail("tree_roots names a node that is not there", "model/attribute")
    missing, members = _missing_tracks_true(ctx, len(feature)), _members(ctx, mode)
    branches = Branches(feature, threshold, mode, child["true"], child["false"], missing, members)
    return Forest(roots, branches, Votes(np.arange(len(target) + 1), target, weight))


def _members(ctx: NodeContext, mode: Array) -> dict[int, Array]:
    """The sets of the nodes that have one: each is ended by NaN."""
    nodes = np.flatnonzero(mode == MODES.index("BRANCH_MEMBER")).tolist()
    values = numbers(ctx, "membership_values")
    ends = np.flatnonzero(np.isnan(values))
    if len(values) and (not len(ends) or ends[-1] != len(values) - 1):
        ends = np.append(ends, len(values))
    if len(ends) != len(nodes):
        ctx.fail(f"there are {len(nodes)} nodes for {len(ends)} sets of membership_values", "model/attribute")
    starts = [0, *(ends[:-1] + 1).tolist()]
    return {node: values[start:end] for node, start, end in zip(nodes, starts, ends.tolist())}


def _missing_tracks_true(ctx: NodeContext, nodes: int) -> Array:
    """Which nodes send NaN to their true child."""
    flags = integers(ctx, "nodes_missing_value_tracks_true")
    if not len(flags):
        return np.zeros(nodes, np.bool_)
    tracks: Array = _of_length(ctx, flags, nodes, "nodes_missing_value_tracks_true") != 0
    return tracks


def _of_length(ctx: NodeContext, array: Array, length: int, name: str) -> Array:
    """`array`; ModelError unless it has `length` elements."""
    if len(array) != length:
        ctx.fail(f"{name} has {len(array)} elements, not {length}", "model/attribute")
    return array
