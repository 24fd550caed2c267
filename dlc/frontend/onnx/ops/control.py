"""Importers of control flow."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.loops import Iteration, add_loop
from dlc.frontend.onnx.regions import OpenExtents, Region, share_captures
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim
from dlc.ir.graph import Value
from dlc.ir.ops.control import If

#: Trip counts from here on mean "until the condition fails".
_ENDLESS = 1 << 40


@importer("If")
def if_(ctx: NodeContext) -> Sequence[Value]:
    """The branch that a constant condition takes, in place of the node; otherwise both as regions."""
    condition = ctx.single(0)
    known = ctx.constant(0)
    if known is not None:
        return ctx.importer.inline(ctx.graph("then_branch" if known.item() else "else_branch"), ctx)
    ways = [Region(ctx, "then_branch"), Region(ctx, "else_branch")]
    outputs = []
    for way in ways:
        proto = ctx.graph(way.graph.name)
        if proto.input:
            ctx.fail(f"{way.graph.name} has inputs")
        if len(proto.output) != len(ctx.output_names):
            ctx.fail(f"{way.graph.name} has {len(proto.output)} outputs, not {len(ctx.output_names)}")
        outputs.append(way.run(proto))
    inner = {symbol for way in ways for symbol in way.symbols}
    extents = OpenExtents(ctx, inner.__contains__, [name or "unused" for name in ctx.output_names])
    types = tuple(
        extents.join(index, [value.type for value in column]) for index, column in enumerate(zip(*outputs))
    )
    captures = share_captures(ways)
    regions = [way.finish(values) for way, values in zip(ways, outputs, strict=True)]
    results = ctx.add_all(If(types), condition, *captures, regions=regions)
    extents.bind(results)
    return results


@importer("Loop")
def loop(ctx: NodeContext) -> Sequence[Value]:
    """Operands: trip count, condition, states. The body takes the iteration's number, the condition and the
    states, and gives the next condition and states, and the elements to stack.
    """
    proto = ctx.graph("body")
    starts = [ctx.required(index) for index in range(2, len(ctx.operands))]
    if len(proto.input) != 2 + len(starts) or len(proto.output) < 1 + len(starts):
        ctx.fail(
            f"the body has {len(proto.input)} inputs and {len(proto.output)} outputs, "
            f"which do not fit {len(starts)} states"
        )

    def body(region: Region, iteration: Value, states: Sequence[Value]) -> Iteration:
        # An iteration runs only where the condition holds.
        condition = region.context().const(True)
        for info, value in zip(proto.input, (iteration, condition, *states), strict=True):
            region.define(info.name, value)
        goes_on, *results = region.run(proto)
        return Iteration(goes_on, results[: len(states)], results[len(states) :])

    trip: Dim | None = None if ctx.optional(0) is None else ctx.dims_of(ctx.single(0))[0]
    condition = None if ctx.optional(1) is None else ctx.single(1)
    known = ctx.constant(1)
    if known is not None:
        condition, trip = None, trip if known.item() else 0
    if isinstance(trip, int) and trip >= _ENDLESS:
        trip = None
    return add_loop(ctx, trip, condition, starts, body)
