"""RoiAlign is a routine: the number of its samples may depend on the data."""

from __future__ import annotations

from dlc.ir.graph import Node
from dlc.ir.ops.roi import RoiAlign
from dlc.lowering.draft import Draft
from dlc.lowering.kernel import Access
from dlc.lowering.rules.registry import rule


@rule(RoiAlign)
def roi_align(draft: Draft, node: Node) -> None:
    """Bins of bilinear samples in regions of interest."""
    assert isinstance(node.op, RoiAlign)
    op = node.op
    params = [draft.param(draft.operand(i)) for i in range(3)]
    draft.routine(
        "roi_align",
        [*params, draft.param(node.outputs[0], Access.WRITE)],
        mode=op.mode,
        output_height=op.output_height,
        output_width=op.output_width,
        sampling_ratio=op.sampling_ratio,
        spatial_scale=float(op.spatial_scale),
        half_pixel=op.half_pixel,
    )
