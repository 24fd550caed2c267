"""Importers of operators that only rename positions: Reshape and its kin, and those that ask for shapes."""
from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import (
    many_axes,
    only_since,
    require,
    reshape,
    static_ints,
)
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, exact_quotient, floordiv, is_nonnegative, maximum, product, to_text
from dlc.ir.graph import Value
from dlc.ir.ops.movement import DimTensor
from dlc.ir.ops.pointwise import Binary, Compare, Where
from dlc.ir.ops.reduction import Reduce


@importer("Reshape", since=5)
def reshape_(ctx: NodeContext) -> Value:
    """Entry 0 copies the operand's extent (unless allowzero), -1 stands for whatever is left.

    A symbolic entry is taken as the extent itself: where it turns out 0, so does the result's extent.
    """
    only_since(ctx, 14, "allowzero")
    allow_zero = bool(ctx.int("allowzero", 0))
    return _reshaped(ctx, _entries(ctx, allow_zero), allow_zero)


@importer("Reshape")
def reshape_attribute(ctx: NodeContext) -> Value:
    """The shape is an attribute."""
    return _reshaped(ctx, ctx.ints("shape"), allow_zero=False)


def _reshaped(ctx: NodeContext, entries: tuple[Dim, ...], allow_zero: bool) -> Value:
    x = ctx.required(0)
    if any(isinstance(entry, int) and entry < -1 for entry in entries) or entries.count(-1) > 1:
        ctx.fail(f"shape {_text(entries)} has more than one -1 or another negative entry")
    if allow_zero and -1 in entries and 0 in entries:
        ctx.fail(f"shape {_text(entries)} has both 0 and -1, which allowzero forbids")
    shape = [_copied(ctx, axis) if entry == 0 and not allow_zero else entry
             for axis, entry in enumerate(entries)]
    elements = x.tensor.elements
    if -1 in entries:
        hole = entries.index(-1)
        shape[hole] = 1
        shape[hole] = _remaining(ctx, elements, product(shape))
    else:
        require(ctx, Relation.EQ, elements, product(shape),
                f"{x.type} cannot be reshaped to {_text(shape)}: the number of elements differs")
    return reshape(ctx, x, shape)


def _entries(ctx: NodeContext, allow_zero: bool) -> tuple[Dim, ...]:
    """The entries of the shape, whose signs are known except for symbols that can only be extents.

    Where run-time data might be -1 or 0, the shape is resolved by operators of the graph, and its entries are
    the symbols of their result.
    """
    entries = ctx.dims(1)
    if all(isinstance(entry, int) or is_nonnegative(entry) for entry in entries):
        return entries
    extents = {dim for value in ctx.importer.graph.values() for dim in value.tensor.shape}
    if all(isinstance(entry, int) or _is_extent(entry, extents) for entry in entries):
        return entries
    dims, x = ctx.required(1), ctx.required(0).tensor
    dtype = dims.tensor.dtype
    zero, one = ctx.const(0, dtype), ctx.const(1, dtype)
    if not allow_zero:
        copied = ctx.add(DimTensor((*x.shape, *[0] * len(entries))[:len(entries)], (len(entries),)))
        dims = ctx.add(Where(), ctx.add(Compare("eq"), dims, zero), copied, dims)
    is_hole = ctx.add(Compare("lt"), dims, zero)
    others = ctx.add(Reduce("prod", (0,), True), ctx.add(Where(), is_hole, one, dims))
    elements = ctx.add(DimTensor((x.elements,), ()))
    hole = ctx.add(Binary("div"), elements, ctx.add(Binary("max"), others, one))
    resolved = ctx.importer.dims(ctx.add(Where(), is_hole, hole, dims), ctx)
    return tuple(maximum(entry, 0) for entry in resolved.reshape(-1))


def _is_extent(entry: Dim, extents: set[Dim]) -> bool:
    """Whether an entry is an extent of some tensor, or a multiple of one, so that it cannot be negative."""
    if is_nonnegative(entry) or entry in extents:
        return True
    return any(not isinstance(extent, int) and (rest := exact_quotient(entry, extent)) is not None
               and is_nonnegative(rest) for extent in extents)


def _copied(ctx: NodeContext, axis: int) -> Dim:
    shape = ctx.required(0).tensor.shape
    if axis >= len(shape):
        ctx.fail(f"entry {axis} of the shape is 0, but the operand {ctx.required(0).type} has no axis {axis}")
    return shape[axis]


def _remaining(ctx: NodeContext, elements: Dim, others: Dim) -> Dim:
    """The extent that -1 stands for, given the number of elements and the product of the other extents."""
    if others == 0:
        ctx.fail("-1 cannot be resolved: another extent of the result is 0")
    quotient = exact_quotient(elements, others)
    if quotient is not None:
        return quotient
    quotient = floordiv(elements, others)
    require(ctx, Relation.EQ, elements, quotient * others,
            f"-1 cannot be resolved: {to_text(elements)} elements are no multiple of {to_text(others)}")
    return quotient


def _text(shape: tuple[Dim, ...] | list[Dim]) -> str:
    return f"[{', '.join(to_text(dim) for dim in shape)}]"


@importer("Flatten")
def flatten(ctx: NodeContext) -> Value:
    """Two axes: the product of the extents before `axis`, and of those from it on."""
    x = ctx.required(0)
    shape, axis = x.tensor.shape, ctx.int("axis", 1)
    if not -len(shape) <= axis <= len(shape):
        ctx.fail(f"axis {axis} is outside [{-len(shape)}, {len(shape)}]")
    axis = axis + len(shape) if axis < 0 else axis
    return reshape(ctx, x, (product(shape[:axis]), product(shape[axis:])))


def _listed_axes(ctx: NodeContext) -> tuple[int, ...] | None:
    """The axes of Squeeze and Unsqueeze: an attribute before opset 13, an operand since; None when absent."""
    if ctx.opset < 13:
        return ctx.ints("axes") if ctx.has("axes") else None
    return None if ctx.optional(1) is None else static_ints(ctx, 1, "axes")


@importer("Squeeze")
def squeeze(ctx: NodeContext) -> Value:
    """Drop axes of extent 1: those listed, or all that are known to be; a symbolic extent must not be 1."""
    x = ctx.required(0)
    shape, listed = x.tensor.shape, _listed_axes(ctx)
    if listed is None:
        dropped = [axis for axis, extent in enumerate(shape) if extent == 1]
        for axis, extent in enumerate(shape):
            if axis not in dropped:
                require(ctx, Relation.NE, extent, 1, f"axis {axis} of extent {to_text(extent)} must not have "
                        "extent 1, since Squeeze would drop it and change the rank")
    else:
        dropped = list(many_axes(ctx, listed, len(shape)))
        for axis in dropped:
            require(ctx, Relation.EQ, shape[axis], 1,
                    f"axis {axis} has extent {to_text(shape[axis])} and cannot be squeezed")
    return reshape(ctx, x, [extent for axis, extent in enumerate(shape) if axis not in dropped])


@importer("Unsqueeze")
def unsqueeze(ctx: NodeContext) -> Value:
    """Insert axes of extent 1 so that they have the listed numbers in the result."""
    x = ctx.required(0)
    listed = _listed_axes(ctx)
    if listed is None:
        ctx.fail("axes are missing")
    rank = x.tensor.rank + len(listed)
    inserted = many_axes(ctx, listed, rank)
    old = iter(x.tensor.shape)
    return reshape(ctx, x, [1 if axis in inserted else next(old) for axis in range(rank)])


def dim_tensor(ctx: NodeContext, dims: tuple[Dim, ...], shape: tuple[int, ...]) -> Value:
    """An i64 tensor that holds `dims`, with its symbolic content recorded."""
    value = ctx.add(DimTensor(dims, shape))
    content = np.empty(len(dims), dtype=object)
    content[:] = dims
    ctx.set_dims(value, content.reshape(shape))
    return value


@importer("Shape")
def shape_(ctx: NodeContext) -> Value:
    """The extents of the operand, from axis `start` to before axis `end` (opset 15), both clamped."""
    only_since(ctx, 15, "start", "end")
    shape = ctx.required(0).tensor.shape
    wanted = shape[ctx.int("start", 0):ctx.int("end", len(shape))]
    return dim_tensor(ctx, wanted, (len(wanted),))


@importer("Size")
def size(ctx: NodeContext) -> Value:
    """The number of elements of the operand, a scalar."""
    return dim_tensor(ctx, (ctx.required(0).tensor.elements,), ())
