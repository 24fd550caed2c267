"""Kernels of the scatters: a copy of the operand, then stores at indices that come from data."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node, Value
from dlc.ir.ops.indexing import ScatterElements, ScatterND
from dlc.lowering.draft import Draft, arithmetic_dtype, cast
from dlc.lowering.expr import Index
from dlc.lowering.kernel import Duplicates, StoreMode
from dlc.lowering.rules.indexing import wrapped
from dlc.lowering.rules.registry import rule

_MODES = {
    "none": StoreMode.SET,
    "add": StoreMode.ADD,
    "mul": StoreMode.MUL,
    "min": StoreMode.MIN,
    "max": StoreMode.MAX,
}
#: "or" and "and" of bool as the maximum and minimum of 0 and 1.
_BOOL_MODES = {**_MODES, "add": StoreMode.MAX, "mul": StoreMode.MIN}


@rule(ScatterElements)
def scatter_elements(draft: Draft, node: Node) -> None:
    """y = x; then y[i with entry `axis` replaced by indices[i]] = updates[i], in row-major order of i."""
    assert isinstance(node.op, ScatterElements)
    x, indices = draft.operand(0), draft.operand(1)
    place = _copy(draft, node.op.reduction)
    # The indices' shape: updates may be known to have it only when symbols are bound.
    axes = draft.axes_of(indices.tensor.shape)
    index: list[Index] = list(axes)
    index[node.op.axis] = wrapped(draft.load(indices, axes), x.tensor.shape[node.op.axis])
    _scatter(draft, node.op.reduction, place, axes, index)
    _finish(draft, place)


@rule(ScatterND)
def scatter_nd(draft: Draft, node: Node) -> None:
    """y = x; then y[indices[i, :], inner] = updates[i, inner], in row-major order of i."""
    assert isinstance(node.op, ScatterND)
    x, indices = draft.operand(0), draft.operand(1)
    *outer, width = indices.tensor.shape
    assert isinstance(width, int)
    place = _copy(draft, node.op.reduction)
    points, inner = draft.axes_of(outer), draft.axes_of(x.tensor.shape[width:])
    data = [wrapped(draft.load(indices, [*points, k]), x.tensor.shape[k]) for k in range(width)]
    _scatter(draft, node.op.reduction, place, [*points, *inner], [*data, *inner])
    _finish(draft, place)


def _copy(draft: Draft, reduction: str) -> Value:
    """Copy x to where the updates go: the result or, for sums of narrow floats, a wider temporary."""
    x, target = draft.operand(0), draft.node.outputs[0]
    dtype = x.tensor.dtype
    wide = arithmetic_dtype(dtype)
    place = target
    if reduction != "none" and wide is not dtype:
        place = draft.temporary("wide", wide, target.tensor.shape)
    axes = draft.axes_of(x.tensor.shape)
    draft.store(place, axes, cast(draft.load(x, axes), place.tensor.dtype))
    return place


def _scatter(draft: Draft, reduction: str, place: Value, axes: Sequence[Symbol], index: list[Index]) -> None:
    updates = draft.load(draft.operand(2), axes)
    modes = _BOOL_MODES if updates.dtype is DType.BOOL else _MODES
    mode = modes[reduction]
    duplicates = Duplicates.LAST_WINS if mode is StoreMode.SET else Duplicates.FORBIDDEN
    value = cast(updates, place.tensor.dtype)
    draft.store(place, axes, value, index, mode, duplicates=duplicates)


def _finish(draft: Draft, place: Value) -> None:
    """Round a wider temporary to the result."""
    target = draft.node.outputs[0]
    if place is not target:
        axes = draft.axes_of(target.tensor.shape)
        draft.store(target, axes, draft.load(place, axes))
