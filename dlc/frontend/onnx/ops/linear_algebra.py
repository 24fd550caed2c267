"""Det."""
from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.registry import importer
from dlc.ir.graph import Value
from dlc.ir.ops.linear_algebra import Det


@importer("Det", since=11)
def det(ctx: NodeContext) -> Value:
    """Determinants of square matrices."""
    return ctx.add(Det(), ctx.required(0))
