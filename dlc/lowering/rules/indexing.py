"""Kernels of gathers: loads at indices that come from data."""

from __future__ import annotations

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.indexing import Gather, GatherElements, GatherND
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, binary, cast
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
