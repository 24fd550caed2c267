"""Element by element: broadcasts, movements, gathers, and whatever needs nothing of its neighbours.

The points of the stores are numbered in the order of memory of the first one; each program takes a block of
them. Maps are computed where they are read.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.templates.template import Declined
from dlc.lowering.kernel import Axis, Duplicates, Kernel, Map, Store, StoreMode
from dlc.target import GpuTarget

BLOCK = 1024
SMALLEST = 128


@dataclasses.dataclass(frozen=True)
class Form:
    """The stores, in order, over the same axes; the axes in the order of memory; maps by name."""

    stores: tuple[Store, ...]
    axes: tuple[Axis, ...]
    maps: dict[str, Map]


def match(part: Kernel) -> Form | Declined:
    """Takes maps, and plain stores that all walk the same axes."""
    stores: list[Store] = []
    maps: dict[str, Map] = {}
    for stage in part.body:
        match stage:
            case Map(out, _):
                maps[out.name] = stage
            case Store(mode=StoreMode.SET, duplicates=Duplicates.FORBIDDEN):
                stores.append(stage)
            case _:
                return Declined(f"a {type(stage).__name__} is not computed element by element")
    if not stores:
        return Declined("there is nothing to store")
    first = stores[0]
    if any(set(store.axes) != set(first.axes) for store in stores):
        return Declined("stores walk different axes")
    return Form(tuple(stores), tuple(tiles.by_stride(part, first.param, first.index, first.axes)), maps)


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call:
    """One program a block of points."""
    builder = FunctionBuilder(part)
    total = tiles.extent_of(form.axes)
    block = tiles.fitting(total, 32, BLOCK)
    # Smaller blocks of few points keep all of the GPU busy.
    while block > SMALLEST and isinstance(total, int) and total < block * target.multiprocessors:
        block //= 2
    builder.line(f"point = {tiles.program_id(builder, 0)} * {block} + tl.arange(0, {block})")
    emitter = Emitter(builder, Points((tiles.tile(builder, "point", form.axes, block),)), maps=form.maps)
    for store in form.stores:
        emitter.store(store)
    warps = min(4, max(1, block // 256))
    return builder.finish("pointwise", (tiles.blocks(total, block),), num_warps=warps)
