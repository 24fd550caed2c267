"""Importers of the operators that trade pixels for channels."""
from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import only_since, require_equal, reshape, transposed
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim
from dlc.ir.graph import Value


@importer("SpaceToDepth")
def space_to_depth(ctx: NodeContext) -> Value:
    """[N, C, H, W] to [N, C * b * b, H / b, W / b]: the block is the outer part of C (DCR) or the inner.

    Opset 28 brought the mode CRD.
    """
    only_since(ctx, 28, "mode")
    x, block, mode = ctx.required(0), ctx.int("blocksize"), _mode(ctx)
    n, c, h, w = _image(ctx, x, block)
    for extent in (h, w):
        require_equal(ctx, extent, extent // block * block, f"the extent and a multiple of blocksize {block}")
    rows, columns = h // block, w // block
    split = reshape(ctx, x, (n, c, rows, block, columns, block))
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return reshape(ctx, transposed(ctx, split, perm), (n, c * block * block, rows, columns))


@importer("DepthToSpace")
def depth_to_space(ctx: NodeContext) -> Value:
    """[N, C, H, W] to [N, C / (b * b), H * b, W * b]: the block is the outer part of C (DCR) or the inner."""
    only_since(ctx, 11, "mode")
    x, block, mode = ctx.required(0), ctx.int("blocksize"), _mode(ctx)
    n, c, h, w = _image(ctx, x, block)
    depth = c // (block * block)
    require_equal(ctx, c, depth * block * block, f"the channels and a multiple of {block} * {block}")
    split: tuple[Dim, ...]
    if mode == "DCR":
        split, perm = (n, block, block, depth, h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (n, depth, block, block, h, w), (0, 1, 4, 2, 5, 3)
    return reshape(ctx, transposed(ctx, reshape(ctx, x, split), perm), (n, depth, h * block, w * block))


def _mode(ctx: NodeContext) -> str:
    mode = ctx.string("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        ctx.fail(f"mode {mode!r} is neither DCR nor CRD")
    return mode


def _image(ctx: NodeContext, x: Value, block: int) -> tuple[Dim, Dim, Dim, Dim]:
    if x.tensor.rank != 4 or block < 1:
        ctx.fail(f"an operand [N, C, H, W] and a positive blocksize are needed, not {x.type} and {block}")
    n, c, h, w = x.tensor.shape
    return n, c, h, w
