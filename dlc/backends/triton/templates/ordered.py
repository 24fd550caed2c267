"""Stores whose order counts: scatters that combine with what is there, or whose last one wins.

Axes that stand in the index themselves separate what they store, so they are spread over programs; along the
others, on which indices from data depend, each program goes one point after the other, in order: the result
does not depend on chance.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.expressions import Emitter, Points, loaded, stored
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.semantics import binary
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dims import Symbol, free_symbols
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import expr_dims
from dlc.lowering.kernel import Axis, Kernel, Map, Store, StoreMode
from dlc.target import GpuTarget

BLOCK = 256
#: How bools combine: as the numbers 0 and 1 of NumPy do.
_BOOLS = {StoreMode.ADD: "or", StoreMode.MAX: "or", StoreMode.MUL: "and", StoreMode.MIN: "and"}


@dataclasses.dataclass(frozen=True)
class Form:
    """The store, the axes that separate its points, those that are walked in order, and maps by name."""

    store: Store
    free: tuple[Axis, ...]
    walked: tuple[Axis, ...]
    maps: dict[str, Map]


def match(part: Kernel) -> Form | Declined:
    """Takes maps and one store."""
    maps: dict[str, Map] = {}
    stores: list[Store] = []
    for stage in part.body:
        match stage:
            case Map(out, _):
                maps[out.name] = stage
            case Store():
                stores.append(stage)
            case _:
                return Declined(f"a {type(stage).__name__} has no order of stores")
    if len(stores) != 1:
        return Declined(f"there are {len(stores)} stores")
    store = stores[0]
    free = _free(store)
    axes = [part.axis(name) for name in store.axes]
    return Form(
        store,
        tuple(axis for axis in axes if axis.name in free),
        tuple(axis for axis in axes if axis.name not in free),
        maps,
    )


def _free(store: Store) -> set[str]:
    """The axes that are an entry of the index, and in no other entry."""
    alone = {entry.name for entry in store.index if isinstance(entry, Symbol)}
    others: set[str] = set()
    for entry in store.index:
        if isinstance(entry, Symbol):
            continue
        dims = tuple(expr_dims(entry)) if isinstance(entry, e.Expr) else (entry,)
        others.update(symbol.name for dim in dims for symbol in free_symbols(dim))
    return {name for name in store.axes if name in alone - others}


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call:
    """One program a block of the points of the free axes."""
    builder = FunctionBuilder(part)
    store, dtype = form.store, form.store.value.dtype
    total = tiles.extent_of(form.free)
    block = tiles.fitting(total, 1, BLOCK)
    builder.line(f"point = {tiles.program_id(builder, 0)} * {block} + tl.arange(0, {block})")
    points = Points((tiles.tile(builder, "point", form.free, block),))
    with builder.block(f"for step in range(0, {builder.dim(tiles.extent_of(form.walked))}):"):
        tiles.take_apart(builder, "step", form.walked)
        emitter = Emitter(builder, points, maps=form.maps)
        value = emitter.value(store.value)
        mask = (*emitter.points.mask(store.axes), *emitter.conditions(store.mask))
        at, allowed = emitter.address(store.param, store.index, mask, emitter.points.tiles)
        at = builder.assign("at", at)
        where = f", mask={' & '.join(allowed)}" if allowed else ""
        if store.mode is not StoreMode.SET:
            old = builder.assign("old", loaded(dtype, f"tl.load({at}{where})"))
            function = _BOOLS[store.mode] if dtype is DType.BOOL else store.mode.value
            value = binary(function, dtype, old, value)
        builder.line(f"tl.store({at}, {stored(dtype, value)}{where})")
        # The next point may load what this one stored.
        builder.line("tl.debug_barrier()")
    warps = max(1, block // 64)
    return builder.finish("ordered", (tiles.blocks(total, block),), num_warps=min(4, warps))
