"""Importers of the operators that read or write at positions given by data."""
from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.axes import axis_attribute, front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import only_since, require, require_equal, reshape
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, maximum
from dlc.ir.dtypes import DType, Kind
from dlc.ir.graph import Value
from dlc.ir.ops.indexing import (
    REDUCTIONS,
    Gather,
    GatherElements,
    GatherND,
    OneHot,
    ScatterElements,
    ScatterND,
)
from dlc.ir.ops.movement import DimTensor, Expand, Range
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Where


@importer("Gather")
def gather(ctx: NodeContext) -> Value:
    """Slices along `axis`."""
    x, indices = ctx.required(0), ctx.required(1)
    return ctx.add(Gather(axis_attribute(ctx, x, 0)), x, indices)


@importer("GatherElements", since=11)
def gather_elements(ctx: NodeContext) -> Value:
    """One element per index along `axis`."""
    x, indices = ctx.required(0), ctx.required(1)
    return ctx.add(GatherElements(axis_attribute(ctx, x, 0)), x, indices)


@importer("GatherND", since=11)
def gather_nd(ctx: NodeContext) -> Value:
    """Slices at index tuples; batch_dims came with opset 12."""
    only_since(ctx, 12, "batch_dims")
    x, indices, batch = ctx.required(0), ctx.required(1), ctx.int("batch_dims", 0)
    rank = ctx.declared_rank(0)
    depth = None if rank is None else x.tensor.rank + indices.tensor.rank - 1 - batch - rank
    return ctx.add(GatherND(batch), x, _of_depth(ctx, indices, depth))


def _of_depth(ctx: NodeContext, indices: Value, depth: int | None) -> Value:
    """The indices with a number as last extent, which decides ranks: their own, else `depth` if it is known.

    A call in which the extent is another one is refused.
    """
    shape = indices.tensor.shape
    if not shape or isinstance(shape[-1], int):
        return indices
    if depth is None:
        ctx.unsupported(
            f"the last extent of the indices, {shape[-1]}, is open", "fix it with the option shapes"
        )
    require_equal(ctx, shape[-1], depth, "the last extent of the indices and what the ranks imply")
    return reshape(ctx, indices, (*shape[:-1], depth))


def _reduction(ctx: NodeContext) -> str:
    """The attribute `reduction`: add and mul came with opset 16, min and max with 18."""
    reduction = ctx.string("reduction", "none")
    known = 5 if ctx.opset >= 18 else 3 if ctx.opset >= 16 else 1
    if reduction not in REDUCTIONS[:known]:
        ctx.fail(f"reduction {reduction!r} does not exist at opset {ctx.opset}")
    if reduction != "none" and ctx.required(0).tensor.dtype is DType.STRING:
        ctx.fail(f"reduction {reduction!r} does not combine strings")
    return reduction


@importer("Scatter", since=9)
def scatter(ctx: NodeContext) -> Value:
    """The old name of ScatterElements, which opset 11 removed."""
    if ctx.opset >= 11:
        ctx.fail("Scatter was removed in opset 11; ScatterElements takes its place")
    return _scatter_elements(ctx)


@importer("ScatterElements", since=11)
def scatter_elements(ctx: NodeContext) -> Value:
    """One element per index along `axis`."""
    return _scatter_elements(ctx)


def _scatter_elements(ctx: NodeContext) -> Value:
    x = ctx.required(0)
    axis = axis_attribute(ctx, x, 0)
    return ctx.add(ScatterElements(axis, _reduction(ctx)), x, ctx.required(1), ctx.required(2))


@importer("ScatterND", since=11)
def scatter_nd(ctx: NodeContext) -> Value:
    """Slices at index tuples."""
    x, indices, updates = (ctx.required(index) for index in range(3))
    depth = x.tensor.rank + indices.tensor.rank - 1 - updates.tensor.rank
    return ctx.add(ScatterND(_reduction(ctx)), x, _of_depth(ctx, indices, depth), updates)


@importer("TensorScatter", since=24)
def tensor_scatter(ctx: NodeContext) -> Value:
    """Write updates into a cache from each batch entry's write index on, modulo the extent if circular."""
    cache, updates = ctx.required(0), ctx.required(1)
    shape, rank = updates.tensor.shape, cache.tensor.rank
    axis = front_axis(ctx, ctx.int("axis", -2), rank)
    mode = ctx.string("mode", "linear")
    if mode not in ("linear", "circular"):
        ctx.fail(f"mode {mode!r} is neither linear nor circular")
    if axis == 0 or updates.tensor.rank != rank:
        ctx.fail(f"axis {axis} must not be the batch axis, and {updates.type} have the rank of {cache.type}")
    length = cache.tensor.shape[axis]
    for other, extent in enumerate(shape):
        if other != axis:
            require_equal(ctx, extent, cache.tensor.shape[other], f"extents of axis {other}")
    require(ctx, Relation.LE, shape[axis], length, "more elements would be written than the cache has")
    along: list[Dim] = [1] * rank
    along[axis] = shape[axis]
    steps = ctx.builder.add(Range(shape[axis]), ctx.const(0, DType.I64), ctx.const(1, DType.I64))
    at = reshape(ctx, steps, along, "positions")
    if (start := ctx.optional(2)) is not None:
        at = ctx.add(Binary("add"), at, reshape(ctx, start, [shape[0], *[1] * (rank - 1)], "starts"))
    if mode == "circular":
        at = ctx.add(Binary("mod"), at, ctx.add(DimTensor((length,), ())))
    return ctx.add(ScatterElements(axis, "none"), cache, ctx.add(Expand(shape), at), updates)


@importer("OneHot", since=9)
def one_hot(ctx: NodeContext) -> Value:
    """A new axis of extent depth, on at the index; before opset 11 a negative index is out of range."""
    indices, values = ctx.required(0), ctx.required(2)
    if not indices.tensor.dtype.is_integer:
        indices = ctx.add(Cast(DType.I64), indices)
    dtype = indices.tensor.dtype
    if ctx.opset < 11 and dtype.kind is Kind.SIGNED:
        negative = ctx.add(Compare("lt"), indices, ctx.const(0, dtype))
        indices = ctx.add(Where(), negative, ctx.const(np.iinfo(dtype.numpy).max, dtype), indices)
    axis = front_axis(ctx, ctx.int("axis", -1), indices.tensor.rank + 1)
    return ctx.add(OneHot(axis, _depth(ctx)), indices, values)


def _depth(ctx: NodeContext) -> Dim:
    """The depth of OneHot, a number of any type."""
    depth = ctx.single(1)
    constant = ctx.constant(1)
    if constant is not None:
        number = constant.reshape(-1)[0]
        if not np.isfinite(number) or number < 0:
            ctx.fail(f"the depth is {number}")
        return int(number)
    if not depth.tensor.dtype.is_integer:
        depth = ctx.add(Cast(DType.I64), depth)
    bound: Dim = ctx.importer.dims(depth, ctx).reshape(-1)[0]
    require(ctx, Relation.LE, 0, bound, "the depth must not be negative")
    return maximum(bound, 0)
