"""Importers of the operators of vision that sample at regions or grids, and of Col2Im."""
from __future__ import annotations

import math

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require, require_equal, reshape, static_ints
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, floordiv, maximum, product
from dlc.ir.dtypes import DType, Kind
from dlc.ir.graph import Value
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.grid_sample import MODES, PADDINGS, GridSample
from dlc.ir.ops.indexing import ScatterElements
from dlc.ir.ops.movement import Concat, DimTensor, Expand, Range, Slice, Transpose
from dlc.ir.ops.pointwise import Binary, Cast
from dlc.ir.ops.roi import MaxRoiPool, RoiAlign


@importer("RoiAlign", since=10)
def roi_align_10(ctx: NodeContext) -> Value:
    """Coordinates are not shifted by half a pixel."""
    return _roi_align(ctx, half_pixel=False)


@importer("RoiAlign", since=16)
def roi_align_16(ctx: NodeContext) -> Value:
    """The attribute coordinate_transformation_mode decides, by default half_pixel."""
    mode = ctx.string("coordinate_transformation_mode", "half_pixel")
    if mode not in ("half_pixel", "output_half_pixel"):
        ctx.fail(f"coordinate_transformation_mode {mode!r} is neither half_pixel nor output_half_pixel")
    return _roi_align(ctx, half_pixel=mode == "half_pixel")


def _roi_align(ctx: NodeContext, half_pixel: bool) -> Value:
    operator = RoiAlign(ctx.string("mode", "avg"), ctx.int("output_height", 1), ctx.int("output_width", 1),
                        ctx.int("sampling_ratio", 0), ctx.float("spatial_scale", 1.0), half_pixel)
    return ctx.add(operator, ctx.required(0), ctx.required(1), ctx.required(2))


@importer("MaxRoiPool")
def max_roi_pool(ctx: NodeContext) -> Value:
    """Maxima of bins of regions at whole elements."""
    bins = ctx.ints("pooled_shape")
    if len(bins) != 2 or min(bins) < 1:
        ctx.fail(f"attribute 'pooled_shape' must hold two positive numbers, but is {list(bins)}")
    operator = MaxRoiPool(bins[0], bins[1], ctx.float("spatial_scale", 1.0))
    return ctx.add(operator, ctx.required(0), ctx.required(1))


@importer("GridSample", since=16)
def grid_sample_16(ctx: NodeContext) -> Value:
    """Images only; the modes are called bilinear, nearest and bicubic.

    Integers and bool are interpolated as floats, and converted back as by Cast.
    """
    if ctx.required(0).tensor.rank != 4:
        ctx.fail(f"the operand must be [N, C, H, W], but is {ctx.required(0).type}")
    return _grid_sample(ctx, {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}, "bilinear")


@importer("GridSample", since=20)
def grid_sample_20(ctx: NodeContext) -> Value:
    """Any number of spatial axes; the modes are called linear, nearest and cubic."""
    return _grid_sample(ctx, {mode: mode for mode in MODES}, "linear")


def _grid_sample(ctx: NodeContext, modes: dict[str, str], default: str) -> Value:
    mode, padding = ctx.string("mode", default), ctx.string("padding_mode", "zeros")
    if mode not in modes or padding not in PADDINGS:
        ctx.fail(f"mode {mode!r} or padding_mode {padding!r} does not exist at opset {ctx.opset}")
    operator = GridSample(modes[mode], padding, bool(ctx.int("align_corners", 0)))
    x, grid = ctx.required(0), ctx.required(1)
    dtype = x.tensor.dtype
    if operator.mode == "nearest" or dtype.is_float:
        return ctx.add(operator, x, grid)
    if dtype.kind in (Kind.COMPLEX, Kind.STRING):
        ctx.unsupported(f"elements of type {dtype.text} are not interpolated", "use the mode nearest")
    wide = DType.F32 if dtype.bits <= 16 else DType.F64
    return ctx.add(Cast(dtype), ctx.add(operator, ctx.add(Cast(wide), x), grid))


@importer("AffineGrid", since=20)
def affine_grid(ctx: NodeContext) -> Value:
    """Positions [N, (D,) H, W, r] = theta [N, r, r + 1] times the homogeneous positions of an even grid."""
    theta, size = ctx.required(0), ctx.dims(1)
    batch, rank = size[0], len(size) - 2
    if rank not in (2, 3) or theta.tensor.rank != 3:
        ctx.fail(f"theta {theta.type} and a size of {len(size)} entries do not make a grid of 2 or 3 axes")
    for extent, wanted in zip(theta.tensor.shape, (batch, rank, rank + 1)):
        require_equal(ctx, extent, wanted, "an extent of theta and that of the grid")
    dtype = theta.tensor.dtype
    if dtype not in (DType.F32, DType.F64):
        theta = ctx.add(Cast(DType.F32), theta)
    compute = theta.tensor.dtype
    extents = size[2:]
    columns = []
    for axis in reversed(range(rank)):
        shape: list[Dim] = [1] * (rank + 1)
        shape[axis] = extents[axis]
        line = _even_positions(ctx, extents[axis], bool(ctx.int("align_corners", 0)), compute)
        columns.append(ctx.add(Expand((*extents, 1)), reshape(ctx, line, shape)))
    columns.append(ctx.add(Expand((*extents, 1)), ctx.const(1, compute)))
    base = reshape(ctx, ctx.add(Concat(rank), *columns), (product(extents), rank + 1))
    grid = ctx.add(MatMul(), base, ctx.add(Transpose((0, 2, 1)), theta))
    grid = reshape(ctx, grid, (batch, *extents, rank))
    return grid if dtype is compute else ctx.add(Cast(dtype), grid)


def _even_positions(ctx: NodeContext, extent: Dim, align_corners: bool, dtype: DType) -> Value:
    """`extent` positions from -1 to 1: centres of elements, or with align_corners both ends included.

    Position i is (2i + 1 - n) / n, or / (n - 1) with align_corners; a single one is 0.
    """
    start = ctx.add(DimTensor((1 - extent,), ()))
    numerators = ctx.add(Cast(dtype), ctx.add(Range(extent), start, ctx.const(2, DType.I64)))
    divisor = ctx.add(DimTensor((maximum(extent - 1, 1) if align_corners else extent,), ()))
    return ctx.add(Binary("div"), numerators, ctx.add(Cast(dtype), divisor))


@importer("Col2Im", since=18)
def col2im(ctx: NodeContext) -> Value:
    """Columns [N, C * block, L] summed into images [N, C, *image] where their blocks lie.

    The block elements are added to a padded image by ScatterElements, and the padding is cut off again.
    """
    x, image, block = ctx.required(0), ctx.dims(1), static_ints(ctx, 2, "the extents of the block")
    rank = len(image)
    if x.tensor.dtype is DType.STRING:
        ctx.fail("the sums of strings mean nothing")
    if x.tensor.rank != 3 or len(block) != rank or not rank:
        ctx.fail(f"columns {x.type} do not fit an image of {rank} axes and a block of {len(block)}")
    dilations, strides = (ctx.ints(key, (1,) * rank) for key in ("dilations", "strides"))
    pads = ctx.ints("pads", (0,) * (2 * rank))
    if not len(dilations) == len(strides) == rank or len(pads) != 2 * rank or min(pads) < 0:
        ctx.fail("dilations, strides and pads do not fit the axes of the image")
    batch, rows, columns = x.tensor.shape
    elements = math.prod(block)
    channels = floordiv(rows, elements)
    require_equal(ctx, rows, channels * elements, f"the rows and a multiple of the {elements} block elements")
    padded = [extent + pads[axis] + pads[rank + axis] for axis, extent in enumerate(image)]
    counts = []
    for axis in range(rank):
        reach = dilations[axis] * (block[axis] - 1) + 1
        require(ctx, Relation.LE, reach, padded[axis], f"the block is larger than the image on axis {axis}")
        counts.append(floordiv(padded[axis] - reach, strides[axis]) + 1)
    require_equal(ctx, columns, product(counts), "the columns and the number of blocks")
    at = _block_positions(ctx, padded, list(zip(block, dilations)), list(zip(counts, strides)))
    updates = reshape(ctx, x, (batch, channels, elements * columns))
    at = ctx.add(Expand(updates.tensor.shape), reshape(ctx, at, (elements * columns,)))
    zero = ctx.const(np.zeros((), dtype=x.tensor.dtype.numpy))
    empty = ctx.add(Expand((batch, channels, product(padded))), zero)
    summed = reshape(ctx, ctx.add(ScatterElements(2, "add"), empty, at, updates), (batch, channels, *padded))
    if not any(pads):
        return summed
    return ctx.add(Slice((0, 0, *pads[:rank]), (batch, channels, *image), (1,) * (rank + 2)), summed)


def _block_positions(ctx: NodeContext, padded: list[Dim], block: list[tuple[int, int]],
                     blocks: list[tuple[Dim, int]]) -> Value:
    """Flat positions in an image of extents `padded`, of shape [*block, *blocks].

    `block` and `blocks` hold (extent, step along the axis) of the elements of a block and of the blocks.
    """
    rank = len(padded)
    positions: Value | None = None
    for index, (extent, step) in enumerate((*block, *blocks)):
        axis = index % rank
        stride = ctx.add(DimTensor((step * product(padded[axis + 1:]),), ()))
        line = ctx.add(Range(extent), ctx.const(0, DType.I64), stride)
        shape: list[Dim] = [1] * (2 * rank)
        shape[index] = extent
        line = reshape(ctx, line, shape)
        positions = line if positions is None else ctx.add(Binary("add"), positions, line)
    assert positions is not None
    return positions
