"""Blocks of points: flat indices in the source, and the axes that they are taken apart into."""

from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.triton.function_builder import FunctionBuilder
from dlc.backends.triton.offsets import Tile
from dlc.ir.dims import Dim, ceildiv, linear, product, total
from dlc.lowering.kernel import Axis, Kernel, Param


def extent_of(axes: Sequence[Axis]) -> Dim:
    """The number of points of some axes."""
    return product(axis.extent for axis in axes)


def next_power(number: int) -> int:
    """The least power of two that is at least `number`."""
    return 1 << max(0, number - 1).bit_length()


def fitting(extent: Dim, least: int, most: int) -> int:
    """The block for an axis: the power of two that holds it, within bounds; the greatest if it is open."""
    return min(max(next_power(extent), least), most) if isinstance(extent, int) else most


def blocks(extent: Dim, block: int) -> Dim:
    """How many blocks cover an extent."""
    return ceildiv(extent, block)


def take_apart(builder: FunctionBuilder, flat: str, axes: Sequence[Axis]) -> None:
    """Write the variables of `axes`, the last of which is the fastest, from their flat index."""
    rest = flat
    inner = [axis for axis in axes if axis.extent != 1]
    for axis in axes:
        if axis.extent == 1:
            builder.line(f"{axis.name} = 0")
    for axis in reversed(inner):
        if axis is inner[0]:
            builder.line(f"{axis.name} = {rest}")
            break
        extent = builder.dim(axis.extent)
        extent = extent if extent.isalnum() else f"({extent})"
        builder.line(f"{axis.name} = {rest} % {extent}")
        rest = builder.assign("q", f"{rest} // {extent}")


def tile(builder: FunctionBuilder, flat: str, axes: Sequence[Axis], block: int) -> Tile:
    """Write what bounds the block of flat indices `flat`, and the variables of its axes."""
    extent = extent_of(axes)
    bound = None
    if not isinstance(extent, int) or extent == 0 or extent % block:
        bound = builder.assign("valid", f"{flat} < {builder.dim(extent)}")
    take_apart(builder, flat, axes)
    moving = tuple(axis.name for axis in axes if axis.extent != 1)
    return Tile(flat, tuple(axis.name for axis in axes), moving, bound)


def program_id(builder: FunctionBuilder, axis: int) -> str:
    """The source of the number of this program along a grid axis, in the type of indices."""
    text = f"tl.program_id({axis})"
    return f"{text}.to(tl.int64)" if builder.index == "i64" else text


def stride(param: Param, index: Sequence[object], axis: Axis) -> Dim | None:
    """By how many elements an access moves for a step along `axis`; None if that is not one number."""
    if any(not isinstance(entry, Dim) for entry in index):
        return None
    found = linear(offset_of(param, index), axis.symbol)  # type: ignore[arg-type]
    return None if found is None else found[0]


def offset_of(param: Param, index: Sequence[Dim]) -> Dim:
    """The offset in elements of a logical index."""
    layout = param.type.layout
    physical = layout.physical_index(index) if layout else tuple(index)
    return total(at * step for at, step in zip(physical, param.physical_strides(), strict=True))


def by_stride(kernel: Kernel, param: str, index: Sequence[object], names: Sequence[str]) -> list[Axis]:
    """The axes in the order of memory: those that an access moves farthest along first.

    Axes whose strides are not known keep their order, before the others.
    """

    def distance(axis: Axis) -> float:
        step = stride(kernel.param(param), index, axis)
        return float(abs(step)) if isinstance(step, int) else float("inf")

    return sorted((kernel.axis(name) for name in names), key=distance, reverse=True)




