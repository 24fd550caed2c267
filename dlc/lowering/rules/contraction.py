"""Kernels of matrix multiplication."""

from __future__ import annotations

from dlc.ir.graph import Node
from dlc.ir.ops.contraction import MatMul
from dlc.lowering.draft import Draft, arithmetic_dtype, broadcast_index, cast
from dlc.lowering.kernel import AxisKind, Contraction
from dlc.lowering.rules.registry import rule


@rule(MatMul)
def matmul(draft: Draft, node: Node) -> None:
    """numpy.matmul: y[b, m, n] = sum over k of x[b, m, k] * w[b, k, n]; a vector has no m (or n)."""
    left, right = draft.operand(0), draft.operand(1)
    a, b, target = left.tensor, right.tensor, node.outputs[0]
    shape = list(target.tensor.shape)
    rows = [draft.axis(a.shape[-2])] if a.rank > 1 else []
    columns = [draft.axis(b.shape[-1])] if b.rank > 1 else []
    batch_shape = shape[: len(shape) - len(rows) - len(columns)]
    batch = draft.axes_of(batch_shape)
    k = draft.axis(a.shape[-1], AxisKind.REDUCE)
    left_batch = broadcast_index(a.with_shape(a.shape[:-2]), batch, batch_shape)
    right_batch = broadcast_index(b.with_shape(b.shape[:-2]), batch, batch_shape)
    accumulator = arithmetic_dtype(target.tensor.dtype)
    x = cast(draft.load(left, [*left_batch, *rows, k]), accumulator)
    w = cast(draft.load(right, [*right_batch, k, *columns] if columns else [k]), accumulator)
    spec = Contraction(
        tuple(s.name for s in batch), tuple(s.name for s in rows), tuple(s.name for s in columns), (k.name,)
    )
    outer = [*batch, *rows, *columns]
    draft.store(target, outer, draft.contract(spec, x, w, outer))
