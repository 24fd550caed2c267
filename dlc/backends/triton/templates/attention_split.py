"""Attention with few queries: the keys divided among programs, whose results a second launch combines.

Where the number of queries is known at a launch only, there are both ways, of which a launch takes one: the
grids of the other are empty.

Each part of the keys gives, for each query, the maximum of its scores and both sums relative to that. The
second launch has a program a query and adds the parts in a fixed order, so that results do not depend on
chance.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.parts import Workspace, workspace_name
from dlc.backends.triton.templates.attention_config import FEW_AT_LAUNCH, MANY_KEYS, Config
from dlc.backends.triton.templates.attention_form import MAX_WIDTH, Form
from dlc.ir.dims import Dim, maximum, minimum
from dlc.ir.dtypes import DType
from dlc.ir.types import TensorType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Access, Axis, Kernel, Param, Store


class Split:
    """The memory between the two launches, and the second one."""

    def __init__(self, part: Kernel, form: Form, config: Config) -> None:
        self.part = part
        self.form = form
        names = {axis.name for axis in part.axes}
        name = next(f"split{i}" for i in range(len(names) + 1) if f"split{i}" not in names)
        self.splits = config.splits
        self.axis = Axis(name, config.splits)
        #: Keys of a part: whole blocks.
        self.length: Dim = tiles.blocks(tiles.extent_of(form.keys), config.splits * config.keys) * config.keys
        queries, keys = tiles.extent_of(form.rows), tiles.extent_of(form.keys)
        is_open = not isinstance(queries, int)
        #: 1 if a launch divides its keys, 0 if that has one part.
        self.is_taken: Dim = _at_most(queries, FEW_AT_LAUNCH) * _at_most(MANY_KEYS, keys) if is_open else 1
        rows = (self.axis, *form.batch, *form.rows)
        shapes = {form.top: rows, form.total: rows, form.mixed: (*rows, *form.features)}
        # There are few queries where this memory is used.
        most = {axis: minimum(axis.extent, FEW_AT_LAUNCH) for axis in form.rows} if is_open else {}
        self.workspaces = tuple(
            Workspace(
                workspace_name(local),
                TensorType(DType.F32, tuple(most.get(axis, axis.extent) for axis in axes)),
            )
            for local, axes in shapes.items()
        )
        self.top_store, self.total_store, self.mixed_store = (
            _store(local, axes) for local, axes in shapes.items()
        )

    def kernel(self, access: Access) -> Kernel:
        """The part with the memory between the launches and the axis of the division."""
        spaces = tuple(Param(space.name, space.type, access) for space in self.workspaces)
        return dataclasses.replace(
            self.part, params=(*self.part.params, *spaces), axes=(*self.part.axes, self.axis)
        )

    def combine(self) -> Call:
        """The second launch: one program a query."""
        builder, form = FunctionBuilder(self.kernel(Access.READ)), self.form
        rows = (*form.batch, *form.rows)
        builder.line(f"row_at = {tiles.program_id(builder, 0)}")
        tiles.take_apart(builder, "row_at", rows)
        builder.line(f"split_at = tl.arange(0, {self.splits})[:, None]")
        split = tiles.tile(builder, "split_at", (self.axis,), self.splits)
        width = tiles.extent_of(form.features)
        block = tiles.fitting(width, 1, MAX_WIDTH)
        builder.line(f"feature_at = tl.arange(0, {block})[None, :]")
        feature = tiles.tile(builder, "feature_at", form.features, block)
        emitter = Emitter(builder, Points((split, feature)))
        tops, totals, mixes = (
            emitter.value(_loaded(store)) for store in (self.top_store, self.total_store, self.mixed_store)
        )
        builder.line(f"top = tl.max(tl.max({tops}, 1), 0)")
        builder.line('shift = tl.where(top == float("-inf"), 0.0, top)')
        builder.line(f"share = tl.exp({tops} - shift)")
        shift = Emitter(builder, Points(()), {form.top: "top"}).value(form.shift)
        builder.line(f"factor = tl.exp(top - {shift})")
        builder.line(f"total = tl.sum(tl.sum({totals} * share, 1), 0) * factor")
        builder.line(f"mixed = tl.sum({mixes} * share, 0)[None, :] * factor")
        emitter = Emitter(builder, Points((feature,)), {form.total: "total", form.mixed: "mixed"}, form.maps)
        for store in form.stores:
            emitter.store(store)
        return builder.finish("attention_combine", (tiles.extent_of(rows) * self.is_taken,), num_warps=4)


def _at_most(less: Dim, more: Dim) -> Dim:
    """1 if less <= more, else 0."""
    return minimum(1, maximum(0, more - less + 1))


def _store(local: str, axes: tuple[Axis, ...]) -> Store:
    """The stage that writes a local to its memory."""
    index = tuple(axis.symbol for axis in axes)
    names = tuple(axis.name for axis in axes)
    return Store(workspace_name(local), names, index, e.Read(DType.F32, local, index))


def _loaded(store: Store) -> e.Load:
    return e.Load(DType.F32, store.param, store.index)
