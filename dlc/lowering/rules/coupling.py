"""The coupling of pairs of classes is a routine."""

from __future__ import annotations

from dlc.ir.graph import Node
from dlc.ir.ops.coupling import PairwiseCoupling
from dlc.lowering.draft import Draft
from dlc.lowering.kernel import Access
from dlc.lowering.rules.registry import rule


@rule(PairwiseCoupling)
def pairwise_coupling(draft: Draft, node: Node) -> None:
    """Row by row."""
    assert isinstance(node.op, PairwiseCoupling)
    params = [draft.param(draft.operand(0)), draft.param(node.outputs[0], Access.WRITE)]
    draft.routine("pairwise_coupling", params)
