"""Attributes that convolutions and pools share: kernel_shape, strides, dilations, pads and auto_pad."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import require, require_equal
from dlc.ir.dims import Dim, Relation, to_text
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Reshape
from dlc.ir.ops.windows import effective_extent, same_padding
from dlc.ir.types import TensorType

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def spatial_operand(ctx: NodeContext, index: int) -> TensorType:
    """The type of an operand with batch, channels and at least one spatial axis; ModelError otherwise."""
    type_ = ctx.required(index).tensor
    if type_.rank < 3:
        ctx.fail(f"operand {index} has rank {type_.rank}, but batch, channels and spatial axes are needed")
    return type_


def require_windows_fit(ctx: NodeContext, spatial: Sequence[Dim], kernel: Sequence[Dim],
                        dilations: Sequence[int], pads: Sequence[tuple[Dim, Dim]],
                        overhang: Sequence[int] | None = None) -> None:
    """Check that no window is larger than the padded input, beyond which it may hang by `overhang`."""
    geometry = zip(spatial, kernel, dilations, pads, overhang or [0] * len(spatial), strict=True)
    for extent, window, dilation, (before, after), more in geometry:
        covered, padded = effective_extent(window, dilation), extent + before + after
        message = f"a window of {to_text(covered)} elements is larger than the padded {to_text(padded)}"
        require(ctx, Relation.LE, covered, padded + more, message)


def per_axis(ctx: NodeContext, key: str, rank: int, default: int = 1, least: int = 1) -> tuple[int, ...]:
    """An attribute of one integer (at least `least`) a spatial axis."""
    values = ctx.ints(key, [default] * rank) or (default,) * rank
    if len(values) != rank:
        ctx.fail(f"attribute {key!r} has {len(values)} entries for {rank} spatial axes")
    if min(values, default=least) < least:
        ctx.fail(f"attribute {key!r} must be at least {least}, but is {list(values)}")
    return values


def kernel_shape(ctx: NodeContext, weights: Sequence[Dim]) -> tuple[Dim, ...]:
    """The kernel's extents as the weights have them, which must be those that kernel_shape declares."""
    declared = ctx.ints("kernel_shape", ())
    if declared and len(declared) != len(weights):
        ctx.fail(f"kernel_shape {list(declared)} has not as many axes as the weights have spatial ones")
    for extent, wanted in zip(weights, declared):
        require_equal(ctx, extent, wanted, "the extents of kernel_shape and of the weights")
    return tuple(declared or weights)


def explicit_pads(ctx: NodeContext, rank: int) -> tuple[tuple[int, int], ...]:
    """The attribute `pads` by axis: (before, after)."""
    flat = ctx.ints("pads", [0] * (2 * rank)) or (0,) * (2 * rank)
    if len(flat) != 2 * rank:
        ctx.fail(f"attribute 'pads' has {len(flat)} entries for {rank} spatial axes")
    if min(flat, default=0) < 0:
        ctx.fail(f"attribute 'pads' must not be negative, but is {list(flat)}")
    return tuple(zip(flat[:rank], flat[rank:], strict=True))


def auto_pad(ctx: NodeContext) -> str:
    """The attribute `auto_pad`; ModelError for an unknown one."""
    mode = ctx.string("auto_pad", "NOTSET") or "NOTSET"
    if mode not in AUTO_PADS:
        ctx.fail(f"auto_pad {mode!r} is none of {', '.join(AUTO_PADS)}")
    return mode


def window_pads(ctx: NodeContext, spatial: Sequence[Dim], kernel: Sequence[Dim], strides: Sequence[int],
                dilations: Sequence[int]) -> tuple[tuple[Dim, Dim], ...]:
    """Padding before and after each spatial axis; symbolic for SAME_* of a symbolic extent."""
    pads = explicit_pads(ctx, len(spatial))
    mode = auto_pad(ctx)
    if mode == "NOTSET":
        return pads
    if any(before or after for before, after in pads):
        ctx.fail(f"'pads' and auto_pad {mode} exclude each other")
    if mode == "VALID":
        return pads
    return tuple(same_padding(*axis, mode == "SAME_UPPER")
                 for axis in zip(spatial, kernel, strides, dilations, strict=True))


def channel_vector(ctx: NodeContext, value: Value, rank: int) -> Value:
    """A vector [C] as [C, 1, ...], to broadcast along the channels of a tensor of `rank`; scalars stay."""
    if value.tensor.rank == 0 or value.tensor.shape == (1,):
        return value
    if value.tensor.rank != 1:
        ctx.fail(f"%{value.name} must be a scalar or one number a channel, but is {value.type}")
    return ctx.add(Reshape((value.tensor.shape[0], *[1] * (rank - 2))), value)
