"""Kernels that change or complete the physical layout of a tensor."""

from __future__ import annotations

from dlc.ir.dims import Dim, Symbol
from dlc.ir.graph import Node, Value
from dlc.ir.ops.layout import Relayout
from dlc.ir.types import FillKind
from dlc.lowering.draft import Draft, LoweredKernel, Names, const
from dlc.lowering.rules.registry import rule


@rule(Relayout)
def relayout(draft: Draft, node: Node) -> None:
    """y[i] = x[i]: indices are logical, the parameters' types hold the layouts."""
    source, target = draft.operand(0), node.outputs[0]
    axes = draft.axes_of(target.tensor.shape)
    draft.store(target, axes, draft.load(source, axes))


def fill_halo(value: Value, names: Names) -> LoweredKernel | None:
    """The kernel that writes the halo of `value`, two stores an axis; None when no halo has a meaning.

    A store over the halo of one axis covers the whole physical extent of the axes before it, and the logical
    one of those after it, so that corners are written once.
    """
    type_ = value.tensor
    halos = [
        h
        for h in (type_.layout.halos if type_.layout else ())
        if h.fill.kind is not FillKind.UNDEFINED and (h.before or h.after)
    ]
    if not halos or value.producer is None:
        return None
    draft = Draft(names, value.producer)
    done: set[int] = set()
    for halo in halos:
        for first, count in ((-halo.before, halo.before), (type_.shape[halo.axis], halo.after)):
            if count:
                _fill_side(draft, value, halo.axis, first, count, done)
        done.add(halo.axis)
    lowered = draft.finish()
    return lowered


def _fill_side(draft: Draft, value: Value, axis: int, first: Dim, count: int, done: set[int]) -> None:
    """Store the fill of `axis` at indices first .. first + count - 1."""
    type_ = value.tensor
    assert type_.layout is not None
    axes: list[Symbol] = []
    index: list[Dim] = []
    for position, extent in enumerate(type_.shape):
        halo = type_.layout.halo(position)
        if position == axis:
            symbol = draft.axis(count)
            index.append(symbol + first)
        elif position in done:
            symbol = draft.axis(extent + halo.before + halo.after)
            index.append(symbol - halo.before)
        else:
            symbol = draft.axis(extent)
            index.append(symbol)
        axes.append(symbol)
    fill = type_.layout.halo(axis).fill
    draft.store(value, axes, const(fill.number, type_.dtype), index)
