"""Rewriting a kernel's axes before its loops are planned: blocked axes split, contiguous axes merged."""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu import access
from dlc.ir.dims import Dim, Symbol, ceildiv, divides, free_symbols, linear, substitute as substitute_dim
from dlc.ir.types import FillKind
from dlc.lowering import expr as e
from dlc.lowering.fuse import mask_expression, zero
from dlc.lowering.inspect import loads, map_stage, stage_dims, stages
from dlc.lowering.kernel import Axis, AxisKind, Kernel, Recur, Reduce, Stage, Store


def normalize(kernel: Kernel) -> Kernel:
    """The kernel with blocked axes split and, if it is a single store, contiguous axes merged."""
    kernel = split_blocked_axes(kernel)
    if len(kernel.body) == 1 and isinstance(kernel.body[0], Store):
        kernel = coalesce(kernel)
    return kernel


def replace_axis(kernel: Kernel, name: str, value: Dim, new_axes: tuple[Axis, ...]) -> Kernel:
    """Let `value`, over `new_axes`, stand for axis `name` everywhere; the new axes take its place."""
    mapping = {name: value}
    names = tuple(axis.name for axis in new_axes)

    def axes(old: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n for axis in old for n in (names if axis == name else (axis,)))

    def dim(d: Dim) -> Dim:
        return substitute_dim(d, mapping)

    body = tuple(map_stage(stage, lambda x: e.substitute(x, mapping), dim, axes) for stage in kernel.body)
    all_axes = tuple(n for axis in kernel.axes for n in (new_axes if axis.name == name else (axis,)))
    return dataclasses.replace(kernel, axes=all_axes, body=body)


def split_blocked_axes(kernel: Kernel) -> Kernel:
    """Split each axis that indexes a blocked axis of a parameter into blocks and the lanes of one.

    The extent of the lanes is the block: where it does not divide the axis, the elements beyond the end are
    masked away in every store and load.
    """
    blocks: dict[str, int] = {}
    for param, index in _indices(kernel):
        layout = kernel.param(param).type.layout
        if layout is None:
            continue
        for axis, entry in enumerate(index):
            lanes = (
                None
                if layout.block(axis) == 1 or isinstance(entry, e.Expr)
                else _lane_axis(kernel, entry, layout.block(axis))
            )
            if lanes is not None:
                blocks.setdefault(lanes, layout.block(axis))
    for name, block in blocks.items():
        old = kernel.axis(name)
        outer = Axis(f"{name}o", ceildiv(old.extent, block), old.kind)
        inner = Axis(f"{name}i", block, old.kind)
        value = outer.symbol * block + inner.symbol
        kernel = replace_axis(kernel, name, value, (outer, inner))
        if not (isinstance(old.extent, int) and old.extent % block == 0):
            kernel = _mask_beyond(kernel, (outer.name, inner.name), e.InRange(value, 0, old.extent))
    return kernel


def _lane_axis(kernel: Kernel, entry: Dim, block: int) -> str | None:
    """The axis whose points are neighbours in the blocks that `entry` indexes.

    It is the entry itself or, where groups of channels precede it, what is added to a multiple of the block.
    """
    if isinstance(entry, Symbol):
        return entry.name
    for axis in kernel.axes:
        affine = linear(entry, axis.symbol)
        if (
            affine is not None
            and affine[0] == 1
            and divides(block, affine[1])
            and divides(block, axis.extent)
        ):
            return axis.name
    return None


def _mask_beyond(kernel: Kernel, names: tuple[str, str], condition: e.InRange) -> Kernel:
    """Add `condition` to every load and store along the split axes; what fails it contributes 0 to a
    Contract.
    """
    wanted = set(names)

    def load(node: e.Expr) -> e.Expr | None:
        if not isinstance(node, e.Load):
            return None
        used = {s.name for entry in node.index if not isinstance(entry, e.Expr) for s in free_symbols(entry)}
        if not used & wanted:
            return None
        other = node.other if node.other is not None else zero(node)
        return e.Load(node.dtype, node.param, node.index, (*node.mask, condition), other)

    body: list[Stage] = []
    for stage in kernel.body:
        new = map_stage(stage, lambda x: e.rewrite(x, load), lambda d: d)
        if isinstance(new, Store) and wanted & set(new.axes):
            new = _masked_store(kernel, new, condition)
        if (isinstance(new, Reduce) and wanted & set(new.axes)) or isinstance(new, Recur):
            raise NotImplementedError("a reduction along a blocked axis that its block does not divide")
        body.append(new)
    return dataclasses.replace(kernel, body=tuple(body))


def _masked_store(kernel: Kernel, store: Store, condition: e.InRange) -> Store:
    """A store that leaves out, or zeroes if the layout says so, the lanes beyond the end of a blocked axis.
    """
    layout = kernel.param(store.param).type.layout
    if layout is None or layout.pad.kind is not FillKind.ZERO:
        return dataclasses.replace(store, mask=(*store.mask, condition))
    return dataclasses.replace(
        store,
        value=e.Select(store.value.dtype, mask_expression((condition,)), store.value, zero(store.value)),
    )


def _indices(kernel: Kernel) -> list[tuple[str, tuple[e.Index, ...]]]:
    found = [(load.param, load.index) for load in loads(kernel.body)]
    return found + [(s.param, s.index) for s in stages(kernel.body) if isinstance(s, Store)]


def coalesce(kernel: Kernel) -> Kernel:
    """Merge neighbouring axes of a pointwise kernel wherever every access walks them as one."""
    position = 0
    while position + 1 < len(kernel.axes):
        merged = _merge(kernel, kernel.axes[position], kernel.axes[position + 1])
        if merged is None:
            position += 1
        else:
            kernel = merged
    return kernel


def _merge(kernel: Kernel, outer: Axis, inner: Axis) -> Kernel | None:
    """The kernel with `outer` and `inner` as one axis; None where an access does not allow it."""
    if AxisKind.PARALLEL is not outer.kind or outer.kind is not inner.kind or inner.extent == 0:
        return None
    (store,) = kernel.body
    assert isinstance(store, Store)
    if not {outer.name, inner.name} <= set(store.axes):
        return None
    pair = {outer.name, inner.name}
    allowed: set[Dim] = set()
    for param, index in _indices(kernel):
        dims: list[Dim] = []
        for entry in index:
            if isinstance(entry, e.Expr):
                if pair & {s.name for d in _dims_of(entry) for s in free_symbols(d)}:
                    continue
                dims.append(0)
            else:
                dims.append(entry)
        if len(dims) != len(index):
            continue
        place = access.offset(kernel.param(param), dims)
        first, second = linear(place, outer.symbol), linear(place, inner.symbol)
        if first is None or second is None or first[0] != second[0] * inner.extent:
            return None
        allowed.update(dims)
    for dim in stage_dims(store):
        if dim not in allowed and pair & {s.name for s in free_symbols(dim)}:
            return None
    if store.mask or any(load.mask for load in loads(kernel.body)):
        for mask in (store.mask, *(load.mask for load in loads(kernel.body))):
            for condition in mask:
                if pair & {
                    s.name for d in (condition.index, condition.low, condition.high) for s in free_symbols(d)
                }:
                    return None
    name = f"{outer.name}{inner.name}"
    axis = Axis(name, outer.extent * inner.extent)
    merged = replace_axis(kernel, outer.name, axis.symbol // inner.extent, (axis,))
    merged = replace_axis(merged, inner.name, axis.symbol % inner.extent, ())
    for param, index in _indices(merged):
        dims = [0 if isinstance(entry, e.Expr) else entry for entry in index]
        if linear(access.offset(merged.param(param), dims), axis.symbol) is None:
            return None
    return merged


def _dims_of(expr: e.Expr) -> list[Dim]:
    from dlc.lowering.inspect import expr_dims

    return list(expr_dims(expr))
