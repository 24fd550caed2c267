"""Importers of Resize and Upsample, whose meaning changed at opsets 10, 11, 13, 18 and 19."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import many_axes, only_since, require
from dlc.frontend.onnx.registry import importer
from dlc.ir.dims import Dim, Relation, floordiv, maximum, minimum, to_text
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.movement import Concat
from dlc.ir.ops.pointwise import Cast
from dlc.ir.ops.resize import COORDINATES, MODES, NEAREST, POLICIES, Resize

_LEGACY_MODES = {"nearest": "nearest", "linear": "linear"}

#: Scales are float32; one that equals a fraction with at most this denominator means that fraction.
_DENOMINATOR = 1000


@importer("Upsample")
def upsample_plane(ctx: NodeContext) -> Value:
    """The scales of the last two of four axes are two attributes; linear interpolation is called bilinear."""
    if ctx.required(0).tensor.rank != 4:
        ctx.fail(f"the operand must have four axes, but is {ctx.required(0).type}")
    scales = np.array([1, 1, ctx.float("height_scale"), ctx.float("width_scale")], dtype=np.float32)
    return _legacy(ctx, _checked_scales(ctx, scales), {"nearest": "nearest", "bilinear": "linear"})


@importer("Upsample", since=7)
def upsample_attribute(ctx: NodeContext) -> Value:
    """The scales are an attribute."""
    return _legacy(ctx, _checked_scales(ctx, np.array(ctx.floats("scales"), dtype=np.float32)))


@importer("Upsample", since=9)
def upsample_operand(ctx: NodeContext) -> Value:
    """The scales are an operand; opset 10 removed the operator."""
    if ctx.opset >= 10:
        ctx.fail("Upsample was removed in opset 10; Resize takes its place")
    return _legacy(ctx, _scales(ctx, 1))


@importer("Resize", since=10)
def resize_10(ctx: NodeContext) -> Value:
    """Like Upsample, but scales below 1 are allowed."""
    return _legacy(ctx, _scales(ctx, 1))


def _legacy(ctx: NodeContext, scales: Array, modes: Mapping[str, str] = _LEGACY_MODES) -> Value:
    """Upsample and Resize-10: coordinates x / scale; "nearest" rounds down to enlarge and up to reduce.

    The standard does not say how it rounds; this is what the standard's tests and onnxruntime do. `modes`
    maps the values of the attribute `mode` to those of Resize.
    """
    mode = modes[_choice(ctx, "mode", "nearest", list(modes))]
    x = ctx.required(0)
    if len(scales) != x.tensor.rank:
        ctx.fail(f"{len(scales)} scales are given for {x.type}")
    enlarge = [float(scale) if scale >= 1 else 1.0 for scale in scales]
    reduce = [float(scale) if scale < 1 else 1.0 for scale in scales]
    for factors, nearest in ((enlarge, "floor"), (reduce, "ceil")):
        if any(factor != 1 for factor in factors):
            sizes = tuple(_scaled(extent, factor) for extent, factor in zip(x.tensor.shape, factors))
            x = ctx.add(Resize(sizes, tuple(factors), mode, "asymmetric", nearest, cubic_coefficient=-0.75,
                               exclude_outside=False, extrapolation=0.0, antialias=False), x)
    return x


@importer("Resize", since=11)
def resize_11(ctx: NodeContext) -> Value:
    """Operands x, roi, and one of scales and sizes, which apply to `axes` (opset 18) or to all."""
    x = ctx.required(0)
    only_since(ctx, 18, "antialias", "axes", "keep_aspect_ratio_policy")
    rank = x.tensor.rank
    axes = many_axes(ctx, ctx.ints("axes", tuple(range(rank))), rank)
    target = _target(ctx, axes)
    options = Resize(
        target.sizes, target.scales,
        mode=_choice(ctx, "mode", "nearest", MODES),
        coordinates=_choice(ctx, "coordinate_transformation_mode", "half_pixel", _coordinates(ctx.opset)),
        nearest=_choice(ctx, "nearest_mode", "round_prefer_floor", NEAREST),
        cubic_coefficient=ctx.float("cubic_coeff_a", -0.75),
        exclude_outside=bool(ctx.int("exclude_outside", 0)),
        extrapolation=ctx.float("extrapolation_value", 0.0),
        antialias=bool(ctx.int("antialias", 0)),
        policy=target.policy, wanted=target.wanted)
    return ctx.add(options, x, _roi(ctx, axes)) if options.crops else ctx.add(options, x)


def _coordinates(opset: int) -> Sequence[str]:
    """The coordinate_transformation_modes of an opset from 11 on."""
    absent = {"half_pixel_symmetric"} if opset < 19 else set()
    if opset >= 13:
        absent.add("tf_half_pixel_for_nn")
    return [mode for mode in COORDINATES if mode not in absent]


def _choice(ctx: NodeContext, key: str, default: str, known: Sequence[str]) -> str:
    value = ctx.string(key, default)
    if value not in known:
        ctx.fail(f"{key} {value!r} is none of {', '.join(known)}")
    return value


@dataclasses.dataclass(frozen=True)
class _Target:
    """Sizes, scales and policy, as Resize has them."""

    sizes: tuple[Dim, ...]
    scales: tuple[float | None, ...]
    policy: str = "stretch"
    wanted: tuple[Dim | None, ...] = ()


def _target(ctx: NodeContext, axes: Sequence[int]) -> _Target:
    """What scales or sizes ask for."""
    shape = ctx.required(0).tensor.shape
    sizes: list[Dim] = list(shape)
    scales: list[float | None] = [1.0] * len(shape)
    by_scales, by_sizes = (_is_given(ctx, index) for index in (2, 3))
    if by_scales == by_sizes:
        ctx.fail("exactly one of scales and sizes must be given")
    if by_scales:
        factors = _scales(ctx, 2)
        _check_length(ctx, "scales", len(factors), axes)
        for axis, factor in zip(axes, factors.tolist()):
            scales[axis], sizes[axis] = factor, _scaled(shape[axis], factor)
        return _Target(tuple(sizes), tuple(scales))
    wanted = ctx.dims(3)
    _check_length(ctx, "sizes", len(wanted), axes)
    policy = _choice(ctx, "keep_aspect_ratio_policy", "stretch", POLICIES)
    if policy == "stretch" or len(axes) == 1:
        for axis, size in zip(axes, wanted):
            scales[axis], sizes[axis] = None, size
        return _Target(tuple(sizes), tuple(scales))
    chosen = [shape[axis] for axis in axes]
    for extent in chosen:
        require(ctx, Relation.LE, 1, extent, f"{policy} needs elements along all axes, not {to_text(extent)}")
    common = _common_scale(wanted, chosen, policy)
    given: list[Dim | None] = [None] * len(shape)
    for axis, size in zip(axes, wanted):
        given[axis], scales[axis] = size, common
        sizes[axis] = _rounded_size(axis, list(zip(axes, wanted, chosen, strict=True)), shape, policy)
    if common is not None:
        return _Target(tuple(sizes), tuple(scales))
    return _Target(tuple(sizes), tuple(scales), policy, tuple(given))


def _common_scale(wanted: Sequence[Dim], extents: Sequence[Dim], policy: str) -> float | None:
    """The one scale of all axes that fits their extents into (not_larger) or over (not_smaller) `wanted`;
    None where sizes are not known.
    """
    quotients = [
        np.float32(size) / np.float32(extent)
        for size, extent in zip(wanted, extents)
        if isinstance(size, int) and isinstance(extent, int)
    ]
    if len(quotients) < len(wanted):
        return None
    return float(min(quotients) if policy == "not_larger" else max(quotients))


def _rounded_size(
    axis: int, others: Sequence[tuple[int, Dim, Dim]], shape: Sequence[Dim], policy: str
) -> Dim:
    """round(scale * extent), halves up, of an axis whose scale is the least or greatest wanted / extent of
    the axes in `others` (axis, wanted extent, extent). Rounding commutes with minimum and maximum.
    """
    combine = minimum if policy == "not_larger" else maximum
    rounded = [
        wanted if other == axis else floordiv(2 * wanted * shape[axis] + extent, 2 * extent)
        for other, wanted, extent in others
    ]
    return functools.reduce(combine, rounded)


def _is_given(ctx: NodeContext, index: int) -> bool:
    """Whether an operand is present and not an empty tensor, which opset 11 used for absent ones."""
    value = ctx.optional(index)
    return value is not None and value.tensor.shape != (0,)


def _check_length(ctx: NodeContext, what: str, count: int, axes: Sequence[int]) -> None:
    if count != len(axes):
        ctx.fail(f"{count} {what} are given for {len(axes)} axes")


def _scales(ctx: NodeContext, index: int) -> Array:
    """The scales in operand `index`, positive float32 numbers known at compile time."""
    ctx.required(index)
    scales = ctx.constant(index)
    if scales is None:
        ctx.unsupported("scales are computed at run time",
                        "make them constants, or compute integer sizes from the shape instead")
    return _checked_scales(ctx, scales.reshape(-1).astype(np.float32))


def _checked_scales(ctx: NodeContext, scales: Array) -> Array:
    if not (np.isfinite(scales) & (scales > 0)).all():
        ctx.fail(f"scales {scales.tolist()} are not all positive")
    return scales


def _scaled(extent: Dim, scale: float) -> Dim:
    """floor(extent * scale), for the fraction that the float32 `scale` stands for: 10 * 0.7f is 7, not 6."""
    exact = Fraction(scale)
    simple = exact.limit_denominator(_DENOMINATOR)
    fraction = simple if np.float32(float(simple)) == np.float32(scale) else exact
    return floordiv(extent * fraction.numerator, fraction.denominator)


def _roi(ctx: NodeContext, axes: Sequence[int]) -> Value:
    """The region of interest for all axes (starts, then ends): all of an axis that is not in `axes`."""
    roi = ctx.required(1)
    if not roi.tensor.dtype.is_float:
        ctx.fail(f"roi must be floats, but is {roi.type}")
    rank, count = ctx.required(0).tensor.rank, len(axes)
    if roi.tensor.dtype is not DType.F32:
        roi = ctx.add(Cast(DType.F32), roi)
    if roi.tensor.shape != (2 * count,):
        ctx.fail(f"roi must have {2 * count} elements, but is {roi.type}")
    if tuple(axes) == tuple(range(rank)):
        return roi
    starts = [axes.index(axis) if axis in axes else 2 * count for axis in range(rank)]
    ends = [count + axes.index(axis) if axis in axes else 2 * count + 1 for axis in range(rank)]
    extended = ctx.add(Concat(0), roi, ctx.const(np.array([0, 1], dtype=np.float32)))
    return ctx.add(Gather(0), extended, ctx.const(np.array(starts + ends, dtype=np.int64)))
