"""Importers of control flow."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.registry import importer
from dlc.ir.graph import Value


@importer("If")
def if_(ctx: NodeContext) -> Sequence[Value]:
    """The branch that a constant condition takes, in place of the node."""
    condition = ctx.constant(0)
    if condition is None:
        ctx.unsupported(
            "the condition of If is computed at run time",
            "fix the sizes that it depends on with shapes={...}, or export the branch that is needed",
        )
    if condition.size != 1:
        ctx.fail(f"the condition has {condition.size} elements")
    branch = ctx.graph("then_branch" if condition.item() else "else_branch")
    return ctx.importer.inline(branch, ctx)
