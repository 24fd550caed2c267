"""MaxPool, AveragePool, LpPool and MaxUnpool."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import only_since
from dlc.frontend.onnx.operands import require_shape
from dlc.frontend.onnx.registry import importer
from dlc.frontend.onnx.windows import (
    auto_pad,
    explicit_pads,
    per_axis,
    require_windows_fit,
    spatial_operand,
    window_pads,
)
from dlc.ir.dims import Dim, product
from dlc.ir.graph import Value
from dlc.ir.ops.convolution import Pool
from dlc.ir.ops.indexing import ScatterElements
from dlc.ir.ops.movement import Expand, Pad, Reshape


def _pool(ctx: NodeContext, fn: str, *, p: int = 2, include_pad: bool = False,
          indices: bool = False) -> Pool:
    """The pool that the node's attributes describe.

    With auto_pad the standard's extents do not depend on ceil_mode (its two formulas for VALID and for SAME_*
    agree), so ceil_mode matters for explicit padding only.
    """
    spatial = spatial_operand(ctx, 0).shape[2:]
    kernel = ctx.ints("kernel_shape")
    if len(kernel) != len(spatial) or min(kernel) < 1:
        ctx.fail(f"kernel_shape {list(kernel)} does not fit {len(spatial)} spatial axes")
    strides, dilations = per_axis(ctx, "strides", len(spatial)), per_axis(ctx, "dilations", len(spatial))
    only_since(ctx, 10, "ceil_mode")
    ceil_mode = bool(ctx.int("ceil_mode", 0)) and auto_pad(ctx) == "NOTSET"
    pads = window_pads(ctx, spatial, kernel, strides, dilations)
    overhang = [stride - 1 if ceil_mode else 0 for stride in strides]
    require_windows_fit(ctx, spatial, kernel, dilations, pads, overhang)
    column_major = indices and bool(ctx.int("storage_order", 0))
    return Pool(fn, kernel, strides, dilations, pads, ceil_mode, include_pad, p, indices, column_major)


@importer("MaxPool")
def max_pool(ctx: NodeContext) -> Sequence[Value]:
    """Maxima of windows and, on request, their positions; dilations came in opset 10."""
    only_since(ctx, 10, "dilations")
    return ctx.add_all(_pool(ctx, "max", indices=ctx.wants(1)), ctx.required(0))


@importer("AveragePool")
def average_pool(ctx: NodeContext) -> Value:
    """Averages of windows; dilations came in opset 19."""
    only_since(ctx, 19, "dilations")
    op = _pool(ctx, "average", include_pad=bool(ctx.int("count_include_pad", 0)))
    return ctx.add(op, ctx.required(0))


@importer("LpPool")
def lp_pool_1(ctx: NodeContext) -> Value:
    """Lp norms of windows; p is a float, of which dlc takes whole ones."""
    p = ctx.float("p", 2.0)
    if p < 1:
        ctx.fail(f"attribute 'p' must be at least 1, but is {p:g}")
    if not p.is_integer():
        ctx.unsupported(f"p is {p:g}, no whole number", "convert the model to opset 2 or later")
    return ctx.add(_pool(ctx, "lp", p=int(p)), ctx.required(0))


@importer("LpPool", since=2)
def lp_pool(ctx: NodeContext) -> Value:
    """Lp norms of windows; dilations came in opset 18."""
    only_since(ctx, 18, "dilations", "ceil_mode")
    p = ctx.int("p", 2)
    if p < 1:
        ctx.fail(f"attribute 'p' must be positive, but is {p}")
    return ctx.add(_pool(ctx, "lp", p=p), ctx.required(0))


@importer("MaxUnpool", since=9)
def max_unpool(ctx: NodeContext) -> Value:
    """Put each element at its position in the pool's input (opset 9), zeros elsewhere.

    The positions count in a tensor whose extents the window's attributes imply; a larger `output_shape` pads
    it at the ends.
    """
    x, positions = ctx.required(0), ctx.required(1)
    spatial = spatial_operand(ctx, 0).shape[2:]
    kernel = ctx.ints("kernel_shape")
    if len(kernel) != len(spatial):
        ctx.fail(f"kernel_shape {list(kernel)} does not fit {len(spatial)} spatial axes")
    strides = per_axis(ctx, "strides", len(spatial))
    require_shape(ctx, positions, x.tensor.shape, "the positions")
    geometry = zip(spatial, kernel, strides, explicit_pads(ctx, len(spatial)), strict=True)
    implied: list[Dim] = [*x.tensor.shape[:2]]
    implied += [(extent - 1) * stride + window - before - after
                for extent, window, stride, (before, after) in geometry]
    zeros = ctx.add(Expand((product(implied),)), ctx.const(np.zeros(1), dtype=x.tensor.dtype))
    flat = (product(x.tensor.shape),)
    spread = ctx.add(ScatterElements(0, "none"), zeros, ctx.add(Reshape(flat), positions),
                     ctx.add(Reshape(flat), x))
    result = ctx.add(Reshape(tuple(implied)), spread)
    if ctx.optional(2) is None:
        return result
    wanted = ctx.dims(2)
    if len(wanted) != len(implied):
        ctx.fail(f"output_shape has {len(wanted)} entries for a tensor of rank {len(implied)}")
    after = tuple(extent - have for extent, have in zip(wanted, implied, strict=True))
    if any(isinstance(extra, int) and extra < 0 for extra in after):
        ctx.fail(f"output_shape {list(wanted)} is smaller than the unpooled tensor {implied}")
    return ctx.add(Pad((0,) * len(after), after, "constant"), result, None)
