"""Stores that combine integers: in any order, as sums, least and greatest of integers do not depend on it.

Each point is an atomic operation of the memory. Other stores that combine are those of ordered.py.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.semantics import register_type
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import loads
from dlc.lowering.kernel import Axis, Kernel, Map, Store, StoreMode
from dlc.target import GpuTarget

BLOCK = 512
_OPERATIONS = {StoreMode.ADD: "add", StoreMode.MIN: "min", StoreMode.MAX: "max"}
_DTYPES = (DType.I32, DType.U32, DType.I64, DType.U64)


@dataclasses.dataclass(frozen=True)
class Form:
    """The store, its axes in the order of what is loaded, and maps by name."""

    store: Store
    axes: tuple[Axis, ...]
    maps: dict[str, Map]


def match(part: Kernel) -> Form | Declined:
    """Takes maps and one store that adds integers, or keeps the least or greatest."""
    maps = {stage.out.name: stage for stage in part.body if isinstance(stage, Map)}
    match [stage for stage in part.body if not isinstance(stage, Map)]:
        case [Store() as store]:
            pass
        case _:
            return Declined("there is more than one store")
    if store.mode not in _OPERATIONS or store.value.dtype not in _DTYPES:
        return Declined(f"{store.mode.value} of {store.value.dtype.text} depends on the order")
    if any(load.param == store.param for load in loads(part.body)):
        return Declined(f"{store.param} is loaded, too")
    names = store.axes
    axes = tuple(map(part.axis, names))
    for node in e.walk(store.value):
        if isinstance(node, e.Load):
            axes = tuple(tiles.by_stride(part, node.param, node.index, names))
            break
    return Form(store, axes, maps)


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call:
    """One program a block of points."""
    del target
    builder = FunctionBuilder(part)
    store = form.store
    total = tiles.extent_of(form.axes)
    block = tiles.fitting(total, 32, BLOCK)
    builder.line(f"point = {tiles.program_id(builder, 0)} * {block} + tl.arange(0, {block})")
    points = Points((tiles.tile(builder, "point", form.axes, block),))
    emitter = Emitter(builder, points, maps=form.maps)
    kind = register_type(store.value.dtype)
    value = builder.assign("v", f"tl.broadcast_to(tl.cast({emitter.value(store.value)}, {kind}), ({block},))")
    mask = (*points.mask(store.axes), *emitter.conditions(store.mask))
    at, allowed = emitter.address(store.param, store.index, mask, points.tiles)
    where = f", mask={' & '.join(allowed)}" if allowed else ""
    builder.line(f'tl.atomic_{_OPERATIONS[store.mode]}({at}, {value}{where}, sem="relaxed")')
    return builder.finish("atomic", (tiles.blocks(total, block),))
