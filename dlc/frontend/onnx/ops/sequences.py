"""Importers of the operators on sequences: what is known of their elements goes past the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dlc.frontend.onnx.axes import axis_attribute, front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.elements import Listed, Parts, listed
from dlc.frontend.onnx.geometry import require_equal, reshape
from dlc.frontend.onnx.loops import Iteration, add_loop
from dlc.frontend.onnx.open_results import add_open
from dlc.frontend.onnx.ops.shape import dim_tensor
from dlc.frontend.onnx.regions import Region
from dlc.frontend.onnx.registry import importer
from dlc.frontend.onnx.tensors import element_type
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Concat
from dlc.ir.ops.sequences import (
    ConcatFromSequence,
    SequenceAt,
    SequenceConstruct,
    SequenceErase,
    SequenceInsert,
    SequenceLength,
    SplitToSequence,
    joined,
)
from dlc.ir.types import NoTensorType, OpenTensorType, SequenceType, TensorType, opened

if TYPE_CHECKING:
    from onnx import GraphProto

#: The most elements of a sequence for each of which the body of SequenceMap is imported once more.
_MOST_INLINED = 16


def element_of(ctx: NodeContext, sequence: Value) -> OpenTensorType | NoTensorType:
    """The type of the elements of a sequence of tensors; ModelError for anything else."""
    type_ = sequence.type
    if not isinstance(type_, SequenceType) or not isinstance(type_.element, OpenTensorType | NoTensorType):
        ctx.fail(f"an operand must be a sequence of tensors, but is {type_}", "model/type")
    return type_.element


def _taken(ctx: NodeContext, sequence: Value) -> OpenTensorType:
    """The type of an element that is taken out of a sequence."""
    element = element_of(ctx, sequence)
    return OpenTensorType(element.dtype, None) if isinstance(element, NoTensorType) else element


def construct(ctx: NodeContext, values: Sequence[Value]) -> Value:
    """The sequence of these values, at least one."""
    element = joined([opened(value.type) for value in values])
    sequence = ctx.add(SequenceConstruct(SequenceType(element)), *values)
    ctx.importer.known.set_elements(sequence, Listed(tuple(values)))
    return sequence


@importer("SequenceConstruct", since=11)
def sequence_construct(ctx: NodeContext) -> Value:
    """A sequence of all operands."""
    return construct(ctx, [ctx.required(index) for index in range(len(ctx.operands))])


@importer("SequenceEmpty", since=11)
def sequence_empty(ctx: NodeContext) -> Value:
    """A sequence without elements."""
    return empty(ctx, element_type(ctx.int("dtype", 1), "attribute 'dtype'"))


def empty(ctx: NodeContext, dtype: DType) -> Value:
    """A sequence of no tensors of `dtype`."""
    sequence = ctx.add(SequenceConstruct(SequenceType(NoTensorType(dtype))))
    ctx.importer.known.set_elements(sequence, Listed(()))
    return sequence


@importer("SplitToSequence", since=11)
def split_to_sequence(ctx: NodeContext) -> Value:
    """Parts of a tensor; `keepdims` counts only where their extents are not given, or the scalar 1."""
    x, split = ctx.required(0), ctx.optional(1)
    axis = axis_attribute(ctx, x, 0)
    keepdims = bool(ctx.int("keepdims", 1))
    if split is not None and not keepdims and not split.tensor.rank:
        # PyTorch writes so to unbind a tensor, and onnxruntime does it.
        number = ctx.constant(1)
        split = None if number is not None and number.item() == 1 else split
    keepdims |= split is not None
    sequence = ctx.add(SplitToSequence(axis, keepdims), x, split)
    ctx.importer.known.set_elements(sequence, Parts(x, axis, split, keepdims))
    return sequence


@importer("SequenceAt", since=11)
def sequence_at(ctx: NodeContext) -> Value:
    """One element."""
    sequence, position = ctx.required(0), ctx.single(1)
    element = _taken(ctx, sequence)
    elements, number = ctx.importer.known.elements(sequence), ctx.constant(1)
    found = None
    if elements is not None:
        at = None if number is None else int(number.item())
        found = elements.at_any(ctx, position) if at is None else elements.at(ctx, at)
    return add_open(ctx, element, SequenceAt, sequence, position) if found is None else found


@importer("SequenceInsert", since=11)
def sequence_insert(ctx: NodeContext) -> Value:
    """A sequence with one element more."""
    sequence, x, position = ctx.required(0), ctx.required(1), ctx.optional(2)
    element_of(ctx, sequence)
    result = ctx.add(SequenceInsert(), sequence, x, position)
    values, number = _list(ctx, sequence), ctx.constant(2)
    if values is not None and (position is None or number is not None):
        at = len(values) if number is None else int(number.item())
        if -len(values) <= at <= len(values):
            values.insert(at, x)
            ctx.importer.known.set_elements(result, Listed(tuple(values)))
    return result


@importer("SequenceErase", since=11)
def sequence_erase(ctx: NodeContext) -> Value:
    """A sequence with one element less."""
    sequence, position = ctx.required(0), ctx.optional(1)
    element_of(ctx, sequence)
    result = ctx.add(SequenceErase(), sequence, position)
    values, number = _list(ctx, sequence), ctx.constant(1)
    if values is not None and (position is None or number is not None):
        at = -1 if number is None else int(number.item())
        if -len(values) <= at < len(values):
            del values[at]
            ctx.importer.known.set_elements(result, Listed(tuple(values)))
    return result


def _list(ctx: NodeContext, sequence: Value) -> list[Value] | None:
    """The elements of a sequence that is known one by one already."""
    elements = ctx.importer.known.elements(sequence)
    if isinstance(elements, Listed):
        return list(elements.values)
    values = None if elements is None else listed(ctx, sequence)
    return None if values is None else list(values)


@importer("SequenceLength", since=11)
def sequence_length(ctx: NodeContext) -> Value:
    """The number of elements, a scalar."""
    element_of(ctx, ctx.required(0))
    return length_of(ctx, ctx.required(0))


def length_of(ctx: NodeContext, sequence: Value) -> Value:
    """The number of elements of a sequence, an i64 scalar."""
    elements = ctx.importer.known.elements(sequence)
    count = None if elements is None else elements.length(ctx)
    return ctx.add(SequenceLength(), sequence) if count is None else dim_tensor(ctx, (count,), ())


@importer("ConcatFromSequence", since=11)
def concat_from_sequence(ctx: NodeContext) -> Value:
    """All elements along one axis, which is new with `new_axis`."""
    sequence, element = ctx.required(0), _taken(ctx, ctx.required(0))
    new_axis = ctx.int("new_axis", 0)
    if new_axis not in (0, 1):
        ctx.fail(f"attribute 'new_axis' is {new_axis}, neither 0 nor 1", "model/attribute")
    elements = ctx.importer.known.elements(sequence)
    whole = elements.joined(ctx, ctx.int("axis"), bool(new_axis)) if isinstance(elements, Parts) else None
    if whole is not None:
        return whole
    values = listed(ctx, sequence)
    if values:
        return _concatenated(ctx, values, bool(new_axis))
    shape = element.shape
    if shape is None:
        rank = ctx.declared_rank(0)
        if rank is None:
            ctx.unsupported(
                f"the rank of the elements of {sequence.type} is not known",
                "declare the rank of the result in the model",
            )
        shape = (None,) * (rank - new_axis)
    axis = front_axis(ctx, ctx.int("axis"), len(shape) + new_axis)
    rest = shape[axis:] if new_axis else shape[axis + 1 :]

    def operator(type_: TensorType | OpenTensorType) -> ConcatFromSequence:
        assert isinstance(type_, TensorType)
        return ConcatFromSequence(axis, bool(new_axis), type_)

    return add_open(ctx, OpenTensorType(element.dtype, (*shape[:axis], None, *rest)), operator, sequence)


def _concatenated(ctx: NodeContext, values: Sequence[Value], new_axis: bool) -> Value:
    """Values that are known, in one tensor."""
    rank = values[0].tensor.rank
    if any(value.tensor.rank != rank for value in values):
        ctx.fail(f"tensors of types {', '.join(str(v.type) for v in values[:8])} cannot be concatenated")
    axis = front_axis(ctx, ctx.int("axis"), rank + new_axis)
    first = values[0].tensor.shape
    for value in values[1:]:
        for other, (left, right) in enumerate(zip(first, value.tensor.shape)):
            if new_axis or other != axis:
                require_equal(ctx, left, right, f"extents of axis {other}")
    if new_axis:
        values = [reshape(ctx, v, (*v.tensor.shape[:axis], 1, *v.tensor.shape[axis:])) for v in values]
    return values[0] if len(values) == 1 else ctx.add(Concat(axis), *values)


@importer("SequenceMap", since=17)
def sequence_map(ctx: NodeContext) -> Sequence[Value]:
    """The results of the body for the elements of the first operand; those of other sequences go along."""
    proto = ctx.graph("body")
    operands = [ctx.required(index) for index in range(len(ctx.operands))]
    if len(proto.input) != len(operands) or len(proto.output) != len(ctx.output_names):
        ctx.fail(
            f"the body has {len(proto.input)} inputs and {len(proto.output)} outputs, "
            f"the node {len(operands)} and {len(ctx.output_names)}"
        )
    element_of(ctx, operands[0])
    columns = [_list(ctx, x) if isinstance(x.type, SequenceType) else None for x in operands]
    count = len(columns[0] or ())
    known = all(
        column is not None and len(column) == count
        for column, x in zip(columns, operands)
        if isinstance(x.type, SequenceType)
    )
    if known and 0 < count <= _MOST_INLINED:
        rows = [
            ctx.importer.inline(proto, ctx, [x if c is None else c[row] for c, x in zip(columns, operands)])
            for row in range(count)
        ]
        return [construct(ctx, results) for results in zip(*rows)]
    return _mapped(ctx, proto, operands)


def _mapped(ctx: NodeContext, proto: GraphProto, operands: Sequence[Value]) -> Sequence[Value]:
    """A loop over the elements, whose states are the results so far."""
    dtypes = [element_type(info.type.tensor_type.elem_type, "an output of the body") for info in proto.output]
    starts = [empty(ctx, dtype) for dtype in dtypes]
    (trip,) = ctx.dims_of(length_of(ctx, operands[0]))

    def body(region: Region, iteration: Value, states: Sequence[Value]) -> Iteration:
        region.scope.declare(proto.input)
        for info, x in zip(proto.input, operands):
            inner, around = region.capture(x), region.context([info.name])
            if isinstance(x.type, SequenceType):
                elements = region.importer.known.elements(inner)
                found = None if elements is None else elements.at_any(around, iteration)
                inner = found or add_open(around, _taken(ctx, x), SequenceAt, inner, iteration)
            region.define(info.name, inner)
        results = region.run(proto)
        around = region.context()
        pairs = zip(states, results, strict=True)
        return Iteration(None, [around.add(SequenceInsert(), state, x) for state, x in pairs], ())

    return add_loop(ctx, trip, None, starts, body)
