"""What a report says of the nodes that run on the host: which, why, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlc.api.report import HostReport
from dlc.ir.dims import Dim, to_text

if TYPE_CHECKING:
    from dlc.lowering.program import Host, Program


def host_reports(program: Program) -> tuple[HostReport, ...]:
    """The nodes of a program that run on the host, in the order of the steps."""
    from dlc.lowering.program import Host, walk

    return tuple(
        HostReport(", ".join(step.node.origin), step.node.op.name, step.reason, cost(step))
        for step in walk(program.steps)
        if isinstance(step, Host)
    )


def cost(step: Host) -> str:
    """What one evaluation in Python handles: operations, bytes of tensors of numbers, objects."""
    from dlc.lowering.program import ObjectSlot, buffers

    types = [None if value is None else value.type for value in step.node.inputs]
    operations = step.node.op.flops(types, [value.type for value in step.node.outputs])
    places = [place for place in (*step.inputs, *step.outputs) if place is not None]
    size: Dim = sum((b.type.elements * b.type.dtype.itemsize for b in buffers(places)), start=0)
    objects = sum(isinstance(place, ObjectSlot) for place in places)
    parts = [f"{_number(operations)} operations"] if operations != 0 else []
    parts += [f"{_number(size)} byte{'s' * (size != 1)}"] if size != 0 else []
    parts += [f"{objects} object{'s' * (objects > 1)}"] if objects else []
    return ", ".join(parts) or "nothing"


def _number(dim: Dim) -> str:
    return f"{dim:,}" if isinstance(dim, int) else to_text(dim)
