"""Selections of unknown number are routines."""

from __future__ import annotations

from dlc.ir.graph import Node
from dlc.ir.ops.selection import Compact, Distinct, NonMaxSuppression
from dlc.lowering.draft import Draft
from dlc.lowering.kernel import Access
from dlc.lowering.rules.registry import rule


@rule(Compact)
def compact(draft: Draft, node: Node) -> None:
    """The positions of the true elements of a vector."""
    assert isinstance(node.op, Compact)
    params = [draft.param(draft.operand(0)), draft.param(node.outputs[0], Access.WRITE)]
    draft.routine("compact", params, count=node.op.count)


@rule(Distinct)
def distinct(draft: Draft, node: Node) -> None:
    """The groups of equal rows of a matrix."""
    assert isinstance(node.op, Distinct)
    params = [draft.param(draft.operand(0)), *(draft.param(value, Access.WRITE) for value in node.outputs)]
    draft.routine("distinct", params, sorted=node.op.sorted)


@rule(NonMaxSuppression)
def non_max_suppression(draft: Draft, node: Node) -> None:
    """The boxes that remain, image by image and class by class."""
    assert isinstance(node.op, NonMaxSuppression)
    params = [draft.param(value) for value in node.operands]
    params += [draft.param(value, Access.WRITE) for value in node.outputs]
    draft.routine(
        "non_max_suppression",
        params,
        limit=node.op.limit,
        center_point_box=node.op.center_point_box,
    )
