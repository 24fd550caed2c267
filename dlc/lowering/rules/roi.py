"""Kernels of pooling in regions of interest.

RoiAlign is a routine: the number of its samples may depend on the data. MaxRoiPool takes the maximum over the
rows of a bin for whole rows of the image, and then over its columns; what lies outside of a bin counts as the
least number.
"""

from __future__ import annotations

from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.ops.roi import MaxRoiPool, RoiAlign
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, arithmetic_dtype, binary, cast, const, unary
from dlc.lowering.kernel import Access, AxisKind, Monoid
from dlc.lowering.rules.formulas import compare, select
from dlc.lowering.rules.registry import rule


@rule(RoiAlign)
def roi_align(draft: Draft, node: Node) -> None:
    """Bins of bilinear samples in regions of interest."""
    assert isinstance(node.op, RoiAlign)
    op = node.op
    params = [draft.param(draft.operand(i)) for i in range(3)]
    draft.routine(
        "roi_align",
        [*params, draft.param(node.outputs[0], Access.WRITE)],
        mode=op.mode,
        output_height=op.output_height,
        output_width=op.output_width,
        sampling_ratio=op.sampling_ratio,
        spatial_scale=float(op.spatial_scale),
        half_pixel=op.half_pixel,
    )


@rule(MaxRoiPool)
def max_roi_pool(draft: Draft, node: Node) -> None:
    """y[r, c, i, j] = max over the rows of bin i and the columns of bin j."""
    assert isinstance(node.op, MaxRoiPool)
    op, x, target = node.op, draft.operand(0), node.outputs[0]
    region, channel, i, j = draft.axes_of(target.tensor.shape)
    height, width = x.tensor.shape[2:]
    row, column = draft.axis(height, AxisKind.REDUCE), draft.axis(width, AxisKind.REDUCE)
    place = draft.axis(width)
    dtype = arithmetic_dtype(x.tensor.dtype)
    image = cast(_entry(draft, region, 0), DType.I64, e.CastMode.WRAP)
    top, bottom = _bin(draft, op, region, i, 2, op.height)
    left, right = _bin(draft, op, region, j, 1, op.width)
    least = const(float("-inf"), dtype)
    element = cast(draft.load(x, [image, channel, row, place]), dtype)
    inside = _between(row, top, bottom)
    rows = draft.reduce(Monoid.MAX, [row], select(inside, element, least), [region, channel, i, place])
    element = e.Read(dtype, rows.local, (region, channel, i, column))
    inside = _between(column, left, right)
    largest = draft.reduce(Monoid.MAX, [column], select(inside, element, least), [region, channel, i, j])
    rows_there = compare("lt", binary("max", top, 0), binary("min", bottom, e.Iota(DType.I64, height)))
    columns_there = compare("lt", binary("max", left, 0), binary("min", right, e.Iota(DType.I64, width)))
    some = e.Binary(DType.BOOL, "and", rows_there, columns_there)
    draft.store(target, [region, channel, i, j], select(some, largest, const(0, dtype)))


def _entry(draft: Draft, region: Symbol, number: int) -> e.Expr:
    return draft.load_arithmetic(draft.operand(1), [region, number])


def _bin(
    draft: Draft, op: MaxRoiPool, region: Symbol, number: Symbol, entry: int, bins: int
) -> tuple[e.Expr, e.Expr]:
    """The first row (or column) of a bin and the one after its last, i64, not cut off at the image."""
    first, last = (_corner(draft, op, region, entry + 2 * side) for side in range(2))
    extent = binary("add", binary("sub", last, first), 1.0)
    dtype = arithmetic_dtype(draft.operand(0).tensor.dtype)
    size = binary("div", cast(binary("max", extent, 1.0), dtype), float(bins))
    at = cast(e.Iota(DType.I64, number), dtype)
    start = unary("floor", binary("mul", at, size))
    stop = unary("ceil", binary("mul", binary("add", at, 1.0), size))
    low, high = (
        cast(binary("add", cast(bound, DType.F64), first), DType.I64, e.CastMode.SATURATE)
        for bound in (start, stop)
    )
    return draft.map(low, [region, number]), draft.map(high, [region, number])


def _corner(draft: Draft, op: MaxRoiPool, region: Symbol, entry: int) -> e.Expr:
    """A bound of the region in elements of the image, rounded half away from zero; f64."""
    scaled = cast(binary("mul", _entry(draft, region, entry), float(op.spatial_scale)), DType.F64)
    rounded = unary("floor", binary("add", unary("abs", scaled), 0.5))
    return select(compare("lt", scaled, 0.0), unary("neg", rounded), rounded)


def _between(at: Symbol, low: e.Expr, high: e.Expr) -> e.Expr:
    number = e.Iota(DType.I64, at)
    return e.Binary(DType.BOOL, "and", compare("le", low, number), compare("lt", number, high))
