"""Importers of operators that select by content: how much they give, only the run tells."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dlc.frontend.onnx.axes import front_axis
from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require, reshape, transposed
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, Symbol, known_le, maximum, minimum, product
from dlc.ir.dtypes import DType, Kind
from dlc.ir.graph import Value
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.movement import Concat, DimTensor, Expand, Range, Slice
from dlc.ir.ops.pointwise import Binary, Cast, Compare
from dlc.ir.ops.reduction import Reduce
from dlc.ir.ops.selection import Compact, Distinct, NonMaxSuppression


@importer("NonZero", since=9)
def non_zero(ctx: NodeContext) -> Value:
    """The positions of the elements other than 0, one column each: i64[rank, number].

    Of a scalar there is nothing to say about its position: i64[0, number].
    """
    x = ctx.required(0)
    shape = x.tensor.shape
    if x.tensor.dtype is not DType.BOOL:
        x = ctx.add(Cast(DType.BOOL), x)
    flat = positions(ctx, x)
    count = flat.tensor.shape[0]
    if not shape:
        return ctx.add(Expand((0, count)), ctx.const(0, DType.I64))
    return ctx.add(Concat(0), *(reshape(ctx, row, (1, count)) for row in coordinates(ctx, flat, shape)))


@importer("Compress", since=9)
def compress(ctx: NodeContext) -> Value:
    """The slices along `axis`, or the elements, where the condition holds; a short one counts as false."""
    x, condition = ctx.required(0), ctx.required(1)
    if condition.tensor.rank != 1 or condition.tensor.dtype is not DType.BOOL:
        ctx.fail(f"the condition must be a bool vector, but is {condition.type}")
    axis = front_axis(ctx, ctx.int("axis"), x.tensor.rank) if ctx.has("axis") else None
    if axis is None:
        x, axis = reshape(ctx, x, (x.tensor.elements,)), 0
    (length,), extent = condition.tensor.shape, x.tensor.shape[axis]
    if not known_le(length, extent):
        condition = ctx.add(Slice((0,), (minimum(length, extent),), (1,)), condition)
    return ctx.add(Gather(axis), x, positions(ctx, condition))


def positions(ctx: NodeContext, condition: Value) -> Value:
    """The flat positions of the true elements of a bool tensor: i64[number], a symbol of the graph."""
    flat = reshape(ctx, condition, (condition.tensor.elements,), "condition")
    ones = ctx.builder.add(Cast(DType.I64), flat, names=["ones"])
    total = ctx.builder.add(Reduce("sum", (0,), False), ones, names=["count"])
    return ctx.builder.add(Compact(_count(ctx, total, flat)), flat, names=["positions"])


def _count(ctx: NodeContext, number: Value, chosen: Value) -> Symbol:
    """The symbol of the number of elements that are chosen from a vector. It never exceeds the vector's
    extent; a guard of the graph says so to proofs about indices.
    """
    symbol = ctx.importer.symbolic.count(number)
    extent = chosen.tensor.shape[0]
    require(ctx, Relation.LE, symbol, extent, "more elements are chosen than there are")
    return symbol


def coordinates(ctx: NodeContext, flat: Value, shape: Sequence[Dim]) -> list[Value]:
    """The position along each axis of a tensor of `shape` for flat positions in it."""
    result = []
    for axis, extent in enumerate(shape):
        inner = product(shape[axis + 1 :])
        row = flat if inner == 1 else _with_dim(ctx, "div", flat, inner)
        result.append(row if axis == 0 else _with_dim(ctx, "mod", row, extent))
    return result


def _with_dim(ctx: NodeContext, fn: str, x: Value, dim: Dim) -> Value:
    other = ctx.const(dim, DType.I64) if isinstance(dim, int) else ctx.add(DimTensor((dim,), ()))
    return ctx.add(Binary(fn), x, other)


@importer("Unique", since=11)
def unique(ctx: NodeContext) -> Sequence[Value]:
    """The distinct slices along `axis`, or elements; the first position of each, the group of each slice, and
    the sizes of the groups.
    """
    x = ctx.required(0)
    if x.tensor.dtype.kind is Kind.COMPLEX:
        ctx.unsupported(f"distinct elements of {x.tensor.dtype.text} are not sought: they have no order")
    order = ctx.int("sorted", 1)
    if order not in (0, 1):
        ctx.fail(f"attribute 'sorted' is {order}, neither 0 nor 1")
    axis = front_axis(ctx, ctx.int("axis"), x.tensor.rank) if ctx.has("axis") else None
    if axis is None:
        x, axis = reshape(ctx, x, (x.tensor.elements,), "flat"), 0
    shape = x.tensor.shape
    others = [index for index in range(len(shape)) if index != axis]
    rows = transposed(ctx, x, [axis, *others])
    matrix = reshape(ctx, rows, (shape[axis], product([shape[index] for index in others])), "rows")
    first, inverse, sizes, groups = ctx.builder.add_all(Distinct(bool(order)), matrix)
    count = _count(ctx, groups, inverse)
    first, sizes = (ctx.add(Slice((0,), (count,), (1,)), value) for value in (first, sizes))
    return ctx.add(Gather(axis), x, first), first, inverse, sizes


@importer("NonMaxSuppression", since=10)
def non_max_suppression(ctx: NodeContext) -> Value:
    """Rows of (image, class, box): i64[number, 3]. Without a limit there are none."""
    boxes, scores = ctx.required(0), ctx.required(1)
    limit: Dim = 0 if ctx.optional(2) is None else ctx.dims_of(ctx.single(2))[0]
    thresholds = [
        ctx.const(default, DType.F32)
        if ctx.optional(index) is None
        else reshape(ctx, ctx.single(index), (), "threshold")
        for index, default in ((3, 0.0), (4, -math.inf))
    ]
    _check_overlap(ctx)
    center = ctx.int("center_point_box", 0)
    if center not in (0, 1):
        ctx.fail(f"attribute 'center_point_box' is {center}, neither 0 nor 1")
    operator = NonMaxSuppression(maximum(limit, 0), bool(center))
    kept, counts = ctx.builder.add_all(operator, boxes, scores, *thresholds)
    shape = kept.tensor.shape
    column = reshape(ctx, counts, (*counts.tensor.shape, 1), "counts")
    numbers = ctx.add(Range(shape[2]), ctx.const(0, DType.I64), ctx.const(1, DType.I64))
    flat = positions(ctx, ctx.add(Compare("lt"), numbers, column))
    image, label, _ = coordinates(ctx, flat, shape)
    box = ctx.add(Gather(0), reshape(ctx, kept, (product(shape),), "kept"), flat)
    count = flat.tensor.shape[0]
    return ctx.add(Concat(1), *(reshape(ctx, part, (count, 1)) for part in (image, label, box)))


def _check_overlap(ctx: NodeContext) -> None:
    """ModelError for a threshold of the intersection over union that is none."""
    known = ctx.constant(3)
    threshold = 0.0 if known is None else float(known.reshape(-1)[0])
    if not 0 <= threshold <= 1:
        ctx.fail(f"the threshold {threshold} of the intersection over union is outside [0, 1]")
