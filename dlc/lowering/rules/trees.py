"""Tree ensembles are routines over packed nodes."""

from __future__ import annotations

import numpy as np

from dlc.ir.dims import Dim
from dlc.ir.dtypes import from_numpy
from dlc.ir.graph import Node, Value
from dlc.ir.operator import Array
from dlc.ir.ops.trees import TreeEnsemble
from dlc.ir.types import TensorType
from dlc.lowering.draft import Draft
from dlc.lowering.kernel import Access
from dlc.lowering.packed_trees import Forest
from dlc.lowering.rules.registry import NotLowered, rule


@rule(TreeEnsemble)
def tree_ensemble(draft: Draft, node: Node) -> None:
    """`tree_values` for leaves of one vote, `tree_rows` for a vote each target, `tree_votes` for others."""
    assert isinstance(node.op, TreeEnsemble)
    op = node.op
    arrays = [value if value is None else value.data for value in node.inputs[1:]]
    if any(array is None and index != 4 for index, array in enumerate(arrays)):
        raise NotLowered("the trees are computed at run time")
    roots, feature, threshold, child, missing, first, target, weight = arrays
    assert roots is not None and feature is not None and threshold is not None and child is not None
    assert first is not None and target is not None and weight is not None
    columns = draft.operand(0).tensor.shape[1]
    if isinstance(columns, int) and feature.max(initial=-1) >= columns:
        raise NotLowered(f"the trees look at feature {feature.max()} of {columns}")
    try:
        forest = Forest.of(roots, feature, threshold, child, missing, op.depth)
    except ValueError as error:
        raise NotLowered(str(error)) from None
    options: dict[str, Dim | str | bool | float] = {
        "aggregate": op.aggregate,
        "targets": op.targets,
        "watched": forest.watched,
        "missing": missing is not None and bool(missing.any()),
    }
    params = [draft.param(draft.operand(0)), draft.param(_constant(draft, "nodes", forest.packed()))]
    result = draft.param(node.outputs[0], Access.WRITE)
    nothing = {"sum": 0.0, "min": np.inf, "max": -np.inf}[op.aggregate]
    if op.uniform and op.targets and len(weight):
        values = np.zeros(forest.nodes, weight.dtype)
        voting = np.flatnonzero(np.diff(first))
        values[voting] = weight[first[voting]]
        values[-1] = nothing
        trees = forest.trees(first, target)
        params += [
            draft.param(_constant(draft, what, array))
            for what, array in (("trees", trees), ("values", values))
        ]
        draft.routine("tree_values", [*params, result], **options)
        return
    first = np.append(first, first[-1]).astype(np.int32)
    constants = {"trees": forest.trees()}
    if _is_dense(first, target, op.targets):
        # A last row for the nodes that vote for nobody.
        neutral = np.full((1, op.targets), nothing, weight.dtype)
        table = np.append(weight.reshape(-1, op.targets), neutral, axis=0)
        rows = np.where(first[1:] > first[:-1], first[:-1] // op.targets, len(table) - 1)
        constants |= {"rows": rows.astype(np.int32), "weight": table}
    else:
        constants |= {"first": first, "target": target, "weight": weight}
    params += [draft.param(_constant(draft, what, array)) for what, array in constants.items()]
    draft.routine("tree_rows" if "rows" in constants else "tree_votes", [*params, result], **options)


def _constant(draft: Draft, what: str, array: Array) -> Value:
    """A constant of the kernel's own."""
    name = f"{draft.node.outputs[0].name}.{what}"
    return Value(name, TensorType(from_numpy(array.dtype), array.shape), array)


def _is_dense(first: Array, target: Array, targets: int) -> bool:
    """Whether each leaf votes once for every target, in order."""
    counts = np.diff(first)
    if not targets or not len(target) or not np.isin(counts, (0, targets)).all():
        return False
    return bool((target.reshape(-1, targets) == np.arange(targets)).all())
