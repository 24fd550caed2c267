"""Importers of control flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlc.frontend.onnx.conditions import question
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require
from dlc.frontend.onnx.loops import ENDLESS, Iteration, add_loop
from dlc.frontend.onnx.regions import OpenExtents, Region, share_captures
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Guard, Relation, to_text
from dlc.ir.graph import Value
from dlc.ir.ops.control import If
from dlc.ir.types import TensorType

if TYPE_CHECKING:
    from onnx import GraphProto

@importer("If")
def if_(ctx: NodeContext) -> Sequence[Value]:
    """The branch that a known condition takes, in place of the node; otherwise both as regions."""
    condition = ctx.single(0)
    known = ctx.constant(0)
    asked = question(ctx, condition)
    taken = bool(known.item()) if known is not None else None if asked is None else asked.known()
    if taken is not None:
        return ctx.importer.inline(_branch(ctx, taken), ctx)
    ways = [Region(ctx, "then_branch"), Region(ctx, "else_branch")]
    outputs = [way.run(_branch(ctx, taken)) for way, taken in zip(ways, (True, False))]
    compares = asked is not None and asked.relation in (Relation.EQ, Relation.NE)
    if asked is not None and compares and any(_ranks_differ(*column) for column in zip(*outputs)):
        _assume_equal(ctx, asked)
        return ctx.importer.inline(_branch(ctx, asked.relation is Relation.EQ), ctx)
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


def _branch(ctx: NodeContext, taken: bool) -> GraphProto:
    """The subgraph of one way, checked to fit the node."""
    key = "then_branch" if taken else "else_branch"
    proto = ctx.graph(key)
    if proto.input:
        ctx.fail(f"{key} has inputs")
    if len(proto.output) != len(ctx.output_names):
        ctx.fail(f"{key} has {len(proto.output)} outputs, not {len(ctx.output_names)}")
    return proto


def _ranks_differ(left: Value, right: Value) -> bool:
    tensors = isinstance(left.type, TensorType) and isinstance(right.type, TensorType)
    return tensors and left.tensor.rank != right.tensor.rank


def _assume_equal(ctx: NodeContext, asked: Guard) -> None:
    """Let the graph require that the two sizes are equal that a condition compares.

    Exporters write so for a squeeze of one axis, whose result has another rank where the extent is not 1.
    What follows is made for one rank, and a squeeze is there because the extent is to be 1.
    """
    left, right = asked.left, asked.right
    message = (
        f"an extent is {to_text(left)}, but must be {to_text(right)}: otherwise results have another rank, "
        "for which this model is not compiled"
    )
    require(ctx, Relation.EQ, left, right, message)


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
        holds = region.context().const(True)
        for info, value in zip(proto.input, (iteration, holds, *states), strict=True):
            region.define(info.name, value)
        goes_on, *results = region.run(proto)
        # Without a condition the loop counts, and what the body says does not matter.
        condition = None if ctx.optional(1) is None else goes_on
        return Iteration(condition, results[: len(states)], results[len(states) :])

    trip: Dim | Value | None = None if ctx.optional(0) is None else ctx.single(0)
    counted = None if trip is None else ctx.importer.known_dims(ctx.single(0))
    if counted is not None:
        trip = counted.item()
    condition = None if ctx.optional(1) is None else ctx.single(1)
    known = ctx.constant(1)
    if known is not None:
        condition, trip = None, trip if known.item() else 0
    if isinstance(trip, int) and trip >= ENDLESS:
        trip = None
    return add_loop(ctx, trip, condition, starts, body)
