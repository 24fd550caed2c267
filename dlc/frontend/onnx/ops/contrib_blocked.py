"""Convolutions and pools in the layout of blocked channels that onnxruntime writes at ORT_ENABLE_ALL.

Such tensors say that they are [N, C, H, W], C a multiple of the block, and lie as [N, C / b, H, W, b]. No
operator but these, sums, activations and joins of whole blocks sees them, so that they are imported as plain
[N, C, H, W]; only the weights, which were reordered when the model was saved, are put back in order.
The block is that of the machine that saved the model, and the file does not name it: see `_block`.
"""

from __future__ import annotations

import functools
import logging
import weakref

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import contrib, kept, standard
from dlc.frontend.onnx.ops.contrib_products import WINDOW, channels_first, channels_last, finished
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph, Value
from dlc.ir.operator import Array
from dlc.ir.ops.movement import Pad, Slice

NCHWC = "com.microsoft.nchwc"

#: The blocks of onnxruntime: of processors without AVX-512, and of those with it and of ARM.
_SMALL, _LARGE = 8, 16

_HINT = "save the model at ORT_ENABLE_EXTENDED, or import it on the machine that it was saved on"

_log = logging.getLogger("dlc")


@functools.cache
def _block_of_this_machine() -> int:
    """The block that onnxruntime uses here."""
    import llvmlite.binding as llvm

    x86 = llvm.get_process_triple().startswith(("x86_64", "i686"))
    return _SMALL if x86 and not llvm.get_host_cpu_features().get("avx512f") else _LARGE


#: The block of each graph under import that has met one.
_blocks: weakref.WeakKeyDictionary[Graph, int] = weakref.WeakKeyDictionary()


def _block(ctx: NodeContext, filters: Array | None = None) -> int:
    """The block of the node's graph, given the reordered weights if the node has any.

    Weights that do not fill blocks of 16, or that end in half a block of padding, tell it. Until some do, the
    graph is taken for one of this machine, as onnxruntime takes all; what then says otherwise is refused.
    """
    graph = ctx.importer.graph
    told = None if filters is None else _told(ctx, filters)
    known = _blocks.get(graph)
    if known is None:
        known = _blocks[graph] = told or _block_of_this_machine()
        if told is None:
            _log.warning(
                "the model was saved by onnxruntime for one kind of processor; taken for this one's: its "
                "channels lie in blocks of %d",
                known,
            )
    if told not in (None, known):
        reason = f"the weights lie in blocks of {told}, but those before were read as of {known}"
        ctx.unsupported(reason, _HINT)
    return known


def _told(ctx: NodeContext, filters: Array) -> int | None:
    """The only block that weights can have been reordered with; None if they fit both."""
    count = filters.shape[0]
    if count % _SMALL:
        ctx.fail(f"{count} filters do not fill blocks of channels")
    if count % _LARGE:
        return _SMALL
    last = filters.reshape(count // _LARGE, -1, _LARGE)[-1]
    return None if np.any(last[:, _SMALL:]) else _LARGE


@contrib("ReorderInput", (1, 1), "channels_last", domain=NCHWC)
def reorder_input(ctx: NodeContext) -> Value:
    """[N, C, H, W] or [N, H, W, C] with zeros for the channels that a whole block lacks."""
    x = ctx.required(0)
    if ctx.int("channels_last", 0):
        x = channels_first(ctx, x)
    rank, channels = x.tensor.rank, _channels(ctx, x)
    # What fills blocks of either kind does not ask which it is.
    missing = -channels % _block(ctx) if channels % _LARGE else 0
    if not missing:
        return x
    rest = (0,) * (rank - 2)
    return ctx.add(Pad((0,) * rank, (0, missing, *rest), "constant"), x, None)


@contrib("ReorderOutput", (1, 1), "channels channels_last", domain=NCHWC)
def reorder_output(ctx: NodeContext) -> Value:
    """The first `channels` channels, as [N, C, H, W] or [N, H, W, C]."""
    x, wanted = ctx.required(0), ctx.int("channels")
    have = _channels(ctx, x)
    if not 0 < wanted <= have:
        ctx.fail(f"{wanted} channels are wanted of {x.type}")
    if wanted < have:
        shape: tuple[Dim, ...] = (x.tensor.shape[0], wanted, *x.tensor.shape[2:])
        x = ctx.add(Slice((0,) * len(shape), shape, (1,) * len(shape)), x)
    return channels_last(ctx, x) if ctx.int("channels_last", 0) else x


def _channels(ctx: NodeContext, x: Value) -> int:
    count = x.tensor.shape[1] if x.tensor.rank > 2 else None
    if not isinstance(count, int):
        ctx.unsupported(f"{x.type} has no second axis of known extent for blocks of channels")
    return count


@contrib("Conv", (2, 4), " ".join(("activation", "activation_params", *WINDOW)), domain=NCHWC)
def conv(ctx: NodeContext) -> Value:
    """FusedConv with reordered weights."""
    weights = ctx.const(_ordered(ctx))
    operands = ctx.required(0), weights, ctx.optional(2)
    return finished(ctx, standard(ctx, "Conv", *operands, attributes=kept(ctx, *WINDOW)))


def _ordered(ctx: NodeContext) -> Array:
    """The weights [O, I, h, w], which lie as [O / b, I / b, h, w, b of I, b of O].

    With one channel a group, or fewer than a block, the channels are not blocked: [O / b, I, h, w, b of O].
    """
    stored = ctx.constant(1)
    if stored is None:
        ctx.unsupported("the weights are computed at run time", "make them constants of the model")
    if stored.ndim < 3 or not stored.size:
        ctx.fail(f"the weights must be [O, I, spatial...], but are {ctx.required(1).type}")
    block = _block(ctx, stored)
    filters, channels, *kernel = stored.shape
    spatial = len(kernel)
    if channels < block:
        parts = stored.reshape(filters // block, channels, *kernel, block)
        return np.moveaxis(parts, -1, 1).reshape(stored.shape)
    if channels % block:
        ctx.fail(f"{channels} channels do not fill blocks of {block}", "model/type")
    parts = stored.reshape(filters // block, channels // block, *kernel, block, block)
    window = range(2, 2 + spatial)
    return parts.transpose(0, 3 + spatial, 1, 2 + spatial, *window).reshape(stored.shape)


@contrib(
    "MaxPool", (1, 1), "auto_pad ceil_mode dilations kernel_shape pads storage_order strides", domain=NCHWC
)
def max_pool(ctx: NodeContext) -> Value:
    """The standard's."""
    return _same(ctx)


@contrib(
    "AveragePool",
    (1, 1),
    "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides",
    domain=NCHWC,
)
def average_pool(ctx: NodeContext) -> Value:
    """The standard's."""
    return _same(ctx)


@contrib("GlobalMaxPool", (1, 1), domain=NCHWC)
def global_max_pool(ctx: NodeContext) -> Value:
    """The standard's."""
    return _same(ctx)


@contrib("GlobalAveragePool", (1, 1), domain=NCHWC)
def global_average_pool(ctx: NodeContext) -> Value:
    """The standard's."""
    return _same(ctx)


def _same(ctx: NodeContext) -> Value:
    """What the standard's operator of the same name does."""
    return standard(ctx, ctx.op_type, ctx.required(0), attributes=ctx.attributes)


@contrib("Upsample", (1, 1), "coordinate_transformation_mode mode scales", domain=NCHWC)
def upsample(ctx: NodeContext) -> Value:
    """Resize by whole factors: mode nearest repeats elements, linear has `coordinate_transformation_mode`."""
    mode = ctx.string("mode", "nearest")
    if mode not in ("nearest", "linear"):
        ctx.fail(f"mode {mode!r} is neither nearest nor linear")
    coordinates = ctx.string("coordinate_transformation_mode", "asymmetric")
    attributes = {
        "mode": mode,
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric" if mode == "nearest" else coordinates,
    }
    scales = ctx.const(ctx.ints("scales"), DType.F32)
    return standard(ctx, "Resize", ctx.required(0), None, scales, attributes=attributes)
