"""Importers of Scan: a loop over slices of the scanned operands."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlc.frontend.onnx.axes import front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require, require_equal, reshape, transposed
from dlc.frontend.onnx.loops import Iteration, add_loop
from dlc.frontend.onnx.regions import Region
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Pad, Slice

if TYPE_CHECKING:
    from onnx import GraphProto


@dataclasses.dataclass(frozen=True)
class _Scan:
    """A Scan: its body, states, and what it scans; axes and directions (backwards?) a scanned operand, and a
    stacked output. A batch of scans is run one scan at a time.

    Of operands longer than `length`, where that is given, the rest is not looked at, and that of the outputs
    is 0.
    """

    proto: GraphProto
    starts: Sequence[Value]
    operands: Sequence[Value]
    input_axes: Sequence[int]
    input_backwards: Sequence[bool]
    output_axes: Sequence[int]
    output_backwards: Sequence[bool]
    length: Dim | None = None


@importer("Scan", since=9)
def scan(ctx: NodeContext) -> Sequence[Value]:
    """Operands: states, then what is scanned, each along an axis and in a direction of its own."""
    proto = ctx.graph("body")
    operands = [ctx.required(index) for index in range(len(ctx.operands))]
    starts, scanned = _split(ctx, operands)
    outputs = len(proto.output) - len(starts)
    axes = _listed(ctx, "scan_input_axes", len(scanned))
    return _add_scan(
        ctx,
        _Scan(
            proto,
            starts,
            scanned,
            [front_axis(ctx, axis, value.tensor.rank) for axis, value in zip(axes, scanned, strict=True)],
            _backwards(ctx, "scan_input_directions", len(scanned)),
            _listed(ctx, "scan_output_axes", outputs),
            _backwards(ctx, "scan_output_directions", outputs),
        ),
    )


@importer("Scan", since=8)
def scan_batch(ctx: NodeContext) -> Sequence[Value]:
    """Operands: lengths (or absent), states and what is scanned, all with a batch axis before their others,
    and scanned along their second axis. Of a sequence shorter than the longest, the rest of the outputs is 0.
    """
    proto = ctx.graph("body")
    operands = [ctx.required(index) for index in range(1, len(ctx.operands))]
    starts, scanned = _split(ctx, operands)
    backwards = _backwards(ctx, "directions", len(scanned))
    lengths = ctx.optional(0)
    batch = operands[0].tensor.shape[0]
    for value in operands if lengths is None else (*operands, lengths):
        require_equal(ctx, value.tensor.shape[0], batch, "the batch of all operands of a Scan")
    outputs = len(proto.output) - len(starts)

    def one(region: Region, index: Value, _: Sequence[Value]) -> Iteration:
        inner = region.context()
        (number,) = inner.dims_of(index)
        rows = [_element(inner, region.capture(value), 0, number) for value in operands]
        length = None
        if lengths is not None:
            (length,) = inner.dims_of(_element(inner, region.capture(lengths), 0, number))
        each = _Scan(
            proto,
            rows[: len(starts)],
            rows[len(starts) :],
            [0] * len(scanned),
            backwards,
            [0] * outputs,
            [False] * outputs,
            length,
        )
        return Iteration(None, (), _add_scan(inner, each))

    return add_loop(ctx, batch, None, (), one)


def _split(ctx: NodeContext, operands: Sequence[Value]) -> tuple[Sequence[Value], Sequence[Value]]:
    """The states and the scanned operands, after a check of the body."""
    proto = ctx.graph("body")
    scanned = ctx.int("num_scan_inputs")
    states = len(operands) - scanned
    if scanned < 1 or states < 0:
        ctx.fail(f"{scanned} of {len(operands)} operands cannot be scanned")
    if len(proto.input) != len(operands) or len(proto.output) < states:
        ctx.fail(
            f"the body has {len(proto.input)} inputs and {len(proto.output)} outputs, "
            f"which do not fit {states} states and {scanned} scanned operands"
        )
    return operands[:states], operands[states:]


def _listed(ctx: NodeContext, key: str, count: int) -> tuple[int, ...]:
    """An attribute with one integer for each of `count` operands or outputs; zeros when absent."""
    values = ctx.ints(key, (0,) * count)
    if len(values) != count:
        ctx.fail(f"attribute {key!r} has {len(values)} entries, not {count}")
    return values


def _backwards(ctx: NodeContext, key: str, count: int) -> list[bool]:
    values = _listed(ctx, key, count)
    if not set(values) <= {0, 1}:
        ctx.fail(f"attribute {key!r} holds {list(values)}, but directions are 0 or 1")
    return [value == 1 for value in values]


def _add_scan(ctx: NodeContext, scan: _Scan) -> list[Value]:
    lengths = [value.tensor.shape[axis] for value, axis in zip(scan.operands, scan.input_axes, strict=True)]
    for length in lengths[1:]:
        require_equal(ctx, length, lengths[0], "the lengths of what a Scan scans")
    trip = lengths[0]
    if scan.length is not None:
        for least, most in ((0, scan.length), (scan.length, lengths[0])):
            require(ctx, Relation.LE, least, most, "the length of a sequence of a Scan is out of range")
        trip = scan.length

    def body(region: Region, iteration: Value, states: Sequence[Value]) -> Iteration:
        inner = region.context()
        (number,) = inner.dims_of(iteration)
        elements = [
            _element(inner, region.capture(value), axis, trip - 1 - number if reverse else number)
            for value, axis, reverse in zip(scan.operands, scan.input_axes, scan.input_backwards, strict=True)
        ]
        for info, value in zip(scan.proto.input, (*states, *elements), strict=True):
            region.define(info.name, value)
        results = region.run(scan.proto)
        return Iteration(None, results[: len(states)], results[len(states) :])

    results = add_loop(ctx, trip, None, scan.starts, body)
    stacks = []
    for stack, axis, reverse in zip(
        results[len(scan.starts) :], scan.output_axes, scan.output_backwards, strict=True
    ):
        stack = _arranged(ctx, stack, axis, reverse)
        if scan.length is not None:
            rest = (0,) * (stack.tensor.rank - 1)
            after = (lengths[0] - stack.tensor.shape[0], *rest)
            stack = ctx.builder.add(Pad((0, *rest), after, "constant"), stack, None, names=["padded"])
        stacks.append(stack)
    return [*results[: len(scan.starts)], *stacks]


def _element(ctx: NodeContext, x: Value, axis: int, position: Dim) -> Value:
    """The slice of `x` at a position along `axis`, without that axis."""
    shape = x.tensor.shape
    starts: list[Dim] = [0] * len(shape)
    starts[axis] = position
    extents = [1 if index == axis else extent for index, extent in enumerate(shape)]
    window = ctx.builder.add(Slice(tuple(starts), tuple(extents), (1,) * len(shape)), x, names=["element"])
    return reshape(ctx, window, [*shape[:axis], *shape[axis + 1 :]], "element")


def _arranged(ctx: NodeContext, stack: Value, axis: int, reverse: bool) -> Value:
    """A stack along axis 0 with that axis where it belongs, backwards if wanted."""
    shape = stack.tensor.shape
    rank = len(shape)
    if reverse:
        starts: tuple[Dim, ...] = (shape[0] - 1, *[0] * (rank - 1))
        stack = ctx.add(Slice(starts, shape, (-1, *[1] * (rank - 1))), stack)
    target = front_axis(ctx, axis, rank)
    order = [*range(1, target + 1), 0, *range(target + 1, rank)]
    return transposed(ctx, stack, order)
