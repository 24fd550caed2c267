"""Kernels of gathers and their kin: loads at indices that come from data."""

from __future__ import annotations

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.indexing import Gather, GatherElements, GatherND, OneHot
from dlc.ir.ops.movement import ReverseSequence
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, cast, const
from dlc.lowering.expr import Index
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.registry import rule


def wrapped(index: e.Expr, extent: Dim) -> e.Expr:
    """`index` counted from the front: negative ones have the extent added."""
    wide = cast(index, DType.I64, e.CastMode.WRAP)
    return select(compare("lt", wide, 0), binary("add", wide, e.Iota(DType.I64, extent)), wide)


@rule(Gather)
def gather(draft: Draft, node: Node) -> None:
    """y[outer, i, inner] = x[outer, indices[i], inner]."""
    assert isinstance(node.op, Gather)
    source, indices = draft.operand(0), draft.operand(1)
    axis, rank = node.op.axis, indices.tensor.rank
    axes = draft.axes_of(node.outputs[0].tensor.shape)
    at = wrapped(draft.load(indices, axes[axis : axis + rank]), source.tensor.shape[axis])
    index: list[Index] = [*axes[:axis], at, *axes[axis + rank :]]
    draft.store(node.outputs[0], axes, draft.load(source, index))


@rule(GatherElements)
def gather_elements(draft: Draft, node: Node) -> None:
    """y[i] = x[i with entry `axis` replaced by indices[i]]."""
    assert isinstance(node.op, GatherElements)
    source, indices = draft.operand(0), draft.operand(1)
    axes = draft.axes_of(node.outputs[0].tensor.shape)
    index: list[Index] = list(axes)
    index[node.op.axis] = wrapped(draft.load(indices, axes), source.tensor.shape[node.op.axis])
    draft.store(node.outputs[0], axes, draft.load(source, index))


@rule(GatherND)
def gather_nd(draft: Draft, node: Node) -> None:
    """y[batch, i, inner] = x[batch, indices[batch, i, :], inner]."""
    assert isinstance(node.op, GatherND)
    source, indices = draft.operand(0), draft.operand(1)
    batch = node.op.batch_dims
    depth = indices.tensor.shape[-1]
    assert isinstance(depth, int)
    axes = draft.axes_of(node.outputs[0].tensor.shape)
    outer = axes[: indices.tensor.rank - 1]
    data: list[Index] = [
        wrapped(draft.load(indices, [*outer, k]), source.tensor.shape[batch + k]) for k in range(depth)
    ]
    index = [*axes[:batch], *data, *axes[indices.tensor.rank - 1 :]]
    draft.store(node.outputs[0], axes, draft.load(source, index))


@rule(OneHot)
def one_hot(draft: Draft, node: Node) -> None:
    """y[outer, j, inner] = on where j is indices[outer, inner] (negative: from `depth`), else off."""
    assert isinstance(node.op, OneHot)
    axis, indices, values = node.op.axis, draft.operand(0), draft.operand(1)
    axes = draft.axes_of(node.outputs[0].tensor.shape)
    at = wrapped(draft.load(indices, [*axes[:axis], *axes[axis + 1 :]]), node.op.depth)
    hot = compare("eq", at, e.Iota(DType.I64, axes[axis]))
    draft.store(node.outputs[0], axes, select(hot, draft.load(values, [1]), draft.load(values, [0])))


@rule(ReverseSequence)
def reverse_sequence(draft: Draft, node: Node) -> None:
    """y[t, b] = x[lengths[b] - 1 - t, b] for t below lengths[b], else x[t, b]."""
    assert isinstance(node.op, ReverseSequence)
    x, lengths = draft.operand(0), draft.operand(1)
    axes = draft.axes_of(x.tensor.shape)
    length = cast(draft.load(lengths, [axes[node.op.batch_axis]]), DType.I64, e.CastMode.WRAP)
    time = e.Iota(DType.I64, axes[node.op.time_axis])
    mirrored = binary("sub", binary("sub", length, 1), time)
    source = select(compare("lt", time, length), mirrored, time)
    # A length above the extent makes the first index too large; one below 0 has to be told.
    source = select(compare("lt", length, 0), const(-1, DType.I64), source)
    index: list[Index] = list(axes)
    index[node.op.time_axis] = source
    draft.store(node.outputs[0], axes, draft.load(x, index))
