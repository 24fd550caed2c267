"""The meaning of routines: what the hand-written algorithms behind `Routine` stages compute, in NumPy.

A backend that has no code of its own for a routine cannot take its kernel; the evaluator and the verifier
know exactly those of this table.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from dlc.ir.dims import Dim
from dlc.ir.operator import Array
from dlc.ir.ops.coupling import PairwiseCoupling
from dlc.ir.ops.reduction import TopK
from dlc.ir.ops.roi import RoiAlign
from dlc.ir.ops.selection import Compact, Distinct, NonMaxSuppression
from dlc.lowering.packed_trees import tree_rows, tree_values, tree_votes

#: A routine's options with dims replaced by their numbers.
Options: TypeAlias = Mapping[str, int | str | bool | float]


@dataclasses.dataclass(frozen=True)
class RoutineMeaning:
    """Parameters by role in the order of the stage, the names of the options, and the function.

    `evaluate` takes the arrays of `reads` and the options, and returns those of `writes`.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    options: frozenset[str]
    evaluate: Callable[[Sequence[Array], Options], Sequence[Array]]


def _top_k(arrays: Sequence[Array], options: Options) -> Sequence[Array]:
    operator = TopK(
        axis=int(options["axis"]),
        k=int(options["k"]),
        largest=bool(options["largest"]),
        sorted=bool(options["sorted"]),
    )
    return operator.evaluate(arrays, _number)


def _roi_align(arrays: Sequence[Array], options: Options) -> Sequence[Array]:
    operator = RoiAlign(
        mode=str(options["mode"]),
        output_height=int(options["output_height"]),
        output_width=int(options["output_width"]),
        sampling_ratio=int(options["sampling_ratio"]),
        spatial_scale=float(options["spatial_scale"]),
        half_pixel=bool(options["half_pixel"]),
    )
    return operator.evaluate(arrays, _number)


def _compact(arrays: Sequence[Array], options: Options) -> Sequence[Array]:
    return Compact(int(options["count"])).evaluate(arrays, _number)


def _distinct(arrays: Sequence[Array], options: Options) -> Sequence[Array]:
    return Distinct(bool(options["sorted"])).evaluate(arrays, _number)


def _non_max_suppression(arrays: Sequence[Array], options: Options) -> Sequence[Array]:
    operator = NonMaxSuppression(int(options["limit"]), bool(options["center_point_box"]))
    return operator.evaluate(arrays, _number)


def _pairwise_coupling(arrays: Sequence[Array], options: Options) -> Sequence[Array]:
    (pairs,) = arrays
    # n classes make n (n - 1) / 2 pairs.
    classes = (1 + math.isqrt(1 + 8 * pairs.shape[1])) // 2
    return PairwiseCoupling(classes).evaluate(arrays, _number)


def _number(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise TypeError(f"{dim} is no number")
    return dim


_TREES = frozenset({"aggregate", "targets", "watched", "missing"})

#: The routines by name. top_k: the k largest (or smallest) elements along an axis and their positions (i64);
#: of equal elements the one of lower position comes first, and NaN counts as larger than every number.
#: roi_align: bins of bilinear samples in regions of x. compact, distinct, non_max_suppression,
#: pairwise_coupling: the operators of these names.
ROUTINES: Mapping[str, RoutineMeaning] = {
    "top_k": RoutineMeaning(
        ("x",), ("values", "indices"), frozenset({"axis", "k", "largest", "sorted"}), _top_k
    ),
    "roi_align": RoutineMeaning(
        ("x", "rois", "images"),
        ("y",),
        frozenset({"mode", "output_height", "output_width", "sampling_ratio", "spatial_scale", "half_pixel"}),
        _roi_align,
    ),
    "compact": RoutineMeaning(("condition",), ("positions",), frozenset({"count"}), _compact),
    "distinct": RoutineMeaning(
        ("rows",), ("first", "inverse", "counts", "groups"), frozenset({"sorted"}), _distinct
    ),
    "non_max_suppression": RoutineMeaning(
        ("boxes", "scores", "overlap", "least"),
        ("kept", "counts"),
        frozenset({"limit", "center_point_box"}),
        _non_max_suppression,
    ),
    "pairwise_coupling": RoutineMeaning(("pairs",), ("probabilities",), frozenset(), _pairwise_coupling),
    "tree_values": RoutineMeaning(("x", "nodes", "trees", "values"), ("y",), _TREES, tree_values),
    "tree_rows": RoutineMeaning(("x", "nodes", "trees", "rows", "weight"), ("y",), _TREES, tree_rows),
    "tree_votes": RoutineMeaning(
        ("x", "nodes", "trees", "first", "target", "weight"), ("y",), _TREES, tree_votes
    ),
}
