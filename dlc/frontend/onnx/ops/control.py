"""Importers of control flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlc.frontend.onnx.conditions import opposite, question
from dlc.frontend.onnx.context import NodeContext, finding
from dlc.frontend.onnx.geometry import require, reshape
from dlc.frontend.onnx.loops import ENDLESS, Iteration, add_loop
from dlc.frontend.onnx.open_scalars import are_one_element
from dlc.frontend.onnx.regions import SAME_RANK, OpenExtents, Region, share_captures
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Guard, Relation, to_text
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.control import If
from dlc.ir.ops.pointwise import Cast
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
    learned = ctx.importer.learned.ways.get(ctx.place)
    if learned is not None:
        return _assumed(ctx, condition, asked, learned)
    ways = [Region(ctx, "then_branch"), Region(ctx, "else_branch")]
    outputs = [way.run(_branch(ctx, taken), open_scalars=True) for way, taken in zip(ways, (True, False))]
    differing = [index for index, column in enumerate(zip(*outputs)) if _ranks_differ(*column)]
    if differing:
        taken = _settled(ctx, asked, [(outputs[0][index], outputs[1][index], index) for index in differing])
        if taken is not None:
            ctx.importer.learned.ways[ctx.place] = taken
            return _assumed(ctx, condition, asked, taken)
    scalars = _open_scalars(ways, outputs)
    inner = {symbol for way in ways for symbol in way.symbols}
    extents = OpenExtents(ctx, inner.__contains__, [name or "unused" for name in ctx.output_names])
    types = tuple(
        extents.join(index, [value.type for value in column]) for index, column in enumerate(zip(*outputs))
    )
    captures = share_captures(ways)
    regions = [way.finish(values) for way, values in zip(ways, outputs, strict=True)]
    results = ctx.add_all(If(types), condition, *captures, regions=regions)
    extents.bind(results)
    for index, reason in scalars.items():
        origin = finding("If", "", ctx.opset, ctx.name, ctx.operands, reason, SAME_RANK)
        ctx.importer.open_scalars.origins[results[index]] = origin
    return results


def _open_scalars(ways: Sequence[Region], outputs: Sequence[list[Value]]) -> dict[int, str]:
    """Let results that are a scalar in one way and a vector of one element in the other be vectors in both;
    their positions, each with what is to be said where the difference shows.
    """
    found = {}
    for index, column in enumerate(zip(*outputs)):
        inside = [way.importer.open_scalars.origin([value]) for way, value in zip(ways, column)]
        if not are_one_element(column):
            for way, value in zip(ways, column):
                way.importer.open_scalars.refuse([value])
            continue
        if not _ranks_differ(*column) and not any(inside):
            continue
        types = " or ".join(dict.fromkeys(str(value.type) for value in column))
        found[index] = f"the rank of output {index} depends on data: it is {types}"
        for way, results, value in zip(ways, outputs, column):
            results[index] = reshape(way.context(), value, (1,), "vector")
    return found


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


def _settled(
    ctx: NodeContext, asked: Guard | None, results: Sequence[tuple[Value, Value, int]]
) -> bool | None:
    """The way for which the rest of the model is made, where the two ways' results (with their positions) are
    of different ranks; None where nothing tells.

    That is the way whose results have the ranks that the model declares. Without those, it is the way where
    sizes are equal: exporters write so for a squeeze, which is there because the extent is to be 1.
    """
    for left, right, index in results:
        match ctx.declared_rank(index):
            case left.tensor.rank:
                return True
            case right.tensor.rank:
                return False
    if asked is not None and asked.relation in (Relation.EQ, Relation.NE):
        return asked.relation is Relation.EQ
    return None


def _assumed(ctx: NodeContext, condition: Value, asked: Guard | None, taken: bool) -> Sequence[Value]:
    """This way in place of the node; the graph requires that the condition takes it."""
    if asked is None:
        # What the condition is, only the run tells.
        number = ctx.builder.add(Cast(DType.I64), condition, names=["way"])
        (symbol,) = ctx.importer.dims(number, ctx).reshape(-1)
        asked = Guard(Relation.EQ, symbol, 1, "", ctx.name)
    holds = asked if taken else opposite(asked)
    message = (
        f"{to_text(holds.left)} {holds.relation.value} {to_text(holds.right)} is needed: otherwise results "
        "have another rank, for which this model is not compiled"
    )
    require(ctx, holds.relation, holds.left, holds.right, message)
    return ctx.importer.inline(_branch(ctx, taken), ctx)


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
