"""Random decision trees as attributes of ONNX's operators."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.helpers.onnx_cases import Array

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
#: Thresholds and features lie on this grid, so that there are ties.
GRID = np.arange(-4, 5) / 2


@dataclasses.dataclass(frozen=True)
class Growth:
    """How trees are grown: `split` is the chance of a node above `depth` to have children.

    Each leaf votes for all targets (`votes` "all"), one that depends on the tree ("tree"), one at random
    ("one"), or some, maybe none ("some").
    """

    trees: int = 5
    depth: int = 4
    features: int = 6
    targets: int = 1
    split: float = 0.8
    modes: Sequence[str] = ("BRANCH_LEQ",)
    votes: str = "tree"
    missing: bool = False
    positive: bool = False


def grow(growth: Growth, seed: int, prefix: str = "target") -> dict[str, Any]:
    """The attributes of TreeEnsembleRegressor (or, with `prefix` "class", Classifier) about trees."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    votes: list[tuple[int, int, int, float]] = []
    for tree in range(growth.trees):
        waiting, count = [(0, 0)], 1
        while waiting:
            node, level = waiting.pop(0)
            if level < growth.depth and (not level or rng.random() < growth.split):
                mode = str(rng.choice(list(growth.modes)))
                missing = int(growth.missing and rng.random() < 0.5)
                feature, threshold = int(rng.integers(growth.features)), float(rng.choice(GRID))
                rows.append((tree, node, feature, mode, threshold, count, count + 1, missing))
                waiting += [(count, level + 1), (count + 1, level + 1)]
                count += 2
                continue
            rows.append((tree, node, 0, "LEAF", 0.0, 0, 0, 0))
            votes += [(target, tree, node, _weight(growth, rng)) for target in _voted(growth, rng, tree)]
    names = (
        "treeids nodeids featureids modes values truenodeids falsenodeids missing_value_tracks_true".split()
    )
    attributes: dict[str, Any] = {
        f"nodes_{name}": list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    if not growth.missing:
        del attributes["nodes_missing_value_tracks_true"]
    for name, column in zip(("ids", "treeids", "nodeids", "weights"), zip(*votes, strict=True), strict=True):
        attributes[f"{prefix}_{name}"] = list(column)
    return attributes


def _weight(growth: Growth, rng: np.random.Generator) -> float:
    weight = float(np.float32(rng.standard_normal()))
    return abs(weight) if growth.positive else weight


def _voted(growth: Growth, rng: np.random.Generator, tree: int) -> list[int]:
    match growth.votes:
        case "all":
            return list(range(growth.targets))
        case "tree":
            return [tree % growth.targets]
        case "one":
            return [int(rng.integers(growth.targets))]
    return [target for target in range(growth.targets) if rng.random() < 0.6]


def features(growth: Growth, rows: int, dtype: Any, seed: int, nan: bool = False) -> Array:
    """Rows of features on the grid and off it."""
    rng = np.random.default_rng(seed)
    x = rng.choice(GRID, (rows, growth.features))
    x = np.where(rng.random(x.shape) < 0.5, x, rng.standard_normal(x.shape))
    if nan:
        x[rng.random(x.shape) < 0.2] = np.nan
    return x.astype(dtype)


def as_version_5(attributes: dict[str, Any], dtype: Any, members: dict[int, list[float]]) -> dict[str, Any]:
    """The attributes of TreeEnsemble for those of a regressor whose leaves have one vote each.

    `members` makes the inner nodes of these numbers ones that test for membership.
    """
    leaf = [mode == "LEAF" for mode in attributes["nodes_modes"]]
    number: list[int] = []
    for index, is_leaf in enumerate(leaf):
        number.append(sum(other is is_leaf for other in leaf[:index]))
    trees, nodes = attributes["nodes_treeids"], attributes["nodes_nodeids"]
    places = {pair: index for index, pair in enumerate(zip(trees, nodes, strict=True))}
    inner = [index for index, is_leaf in enumerate(leaf) if not is_leaf]
    result: dict[str, Any] = {
        "tree_roots": [number[index] for index in inner if nodes[index] == 0],
        "nodes_featureids": [attributes["nodes_featureids"][index] for index in inner],
    }
    modes = [(*MODES, "BRANCH_MEMBER").index(attributes["nodes_modes"][index]) for index in inner]
    for node in members:
        modes[node] = len(MODES)
    for way in ("true", "false"):
        children = [places[trees[index], attributes[f"nodes_{way}nodeids"][index]] for index in inner]
        result[f"nodes_{way}nodeids"] = [number[child] for child in children]
        result[f"nodes_{way}leafs"] = [int(leaf[child]) for child in children]
    if "nodes_missing_value_tracks_true" in attributes:
        flags = attributes["nodes_missing_value_tracks_true"]
        result["nodes_missing_value_tracks_true"] = [flags[index] for index in inner]
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    voters = [places[pair] for pair in zip(attributes["target_treeids"], attributes["target_nodeids"])]
    order = np.argsort([number[voter] for voter in voters])
    result["leaf_targetids"] = [attributes["target_ids"][index] for index in order]
    tensors = {
        "leaf_weights": (element, [attributes["target_weights"][index] for index in order]),
        "nodes_splits": (element, [attributes["nodes_values"][index] for index in inner]),
        "nodes_modes": (TensorProto.UINT8, modes),
    }
    if members:
        ordered = [[*members[node], np.nan] for node in sorted(members)]
        tensors["membership_values"] = (element, [value for values in ordered for value in values])
    for name, (type_, content) in tensors.items():
        result[name] = helper.make_tensor(name, type_, [len(content)], content)
    return result
