"""Attention in one launch: scores, their softmax and the weighted sum of values, block by block of keys.

Each program has a block of the queries of one head (with grouped heads, of all that share its keys), and
walks the keys in blocks. It keeps the maximum of the scores so far, the sum of their exponentials and the
weighted sum of values, the latter two relative to that maximum (online softmax, arXiv:1805.02867;
FlashAttention-2, arXiv:2307.08691). Blocks of keys that no query may see are left out; those that every query
sees in full are walked first, without the conditions. Where there are few queries the keys are divided among
programs, whose results a second launch combines (`attention_split`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dlc.backends.triton import tiles
from dlc.backends.triton.elements import register_type
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.offsets import Tile
from dlc.backends.triton.templates import attention_split
from dlc.backends.triton.templates.attention_bounds import KeyBound, symbols_of
from dlc.backends.triton.templates.attention_config import FEW_AT_LAUNCH, Config, candidates, for_rows
from dlc.backends.triton.templates.attention_form import Form, attention_form
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Access, Axis, Kernel
from dlc.target import GpuTarget

__all__ = ["candidates", "emit", "match"]

LOG2_E = 1 / math.log(2)


def match(part: Kernel) -> Form | Declined:
    """Takes two products with a softmax over the keys between them, and stores of its results."""
    return attention_form(part)


def emit(part: Kernel, form: Form, target: GpuTarget, config: Config | None = None) -> Call | Launches:
    """One program a block of queries and point of the batch; or two launches, with the keys divided; or both,
    of which each launch takes one.
    """
    config = config or candidates(form, target)[0]
    if config.splits == 1:
        return Attention(FunctionBuilder(part), form, config).whole()
    split = attention_split.Split(part, form, config)
    few = config
    calls: tuple[Call, ...] = ()
    if split.is_taken != 1:
        calls = (Attention(FunctionBuilder(part), form, config).whole(1 - split.is_taken),)
        few = for_rows(config, min(config.rows, FEW_AT_LAUNCH))
    partial = Attention(FunctionBuilder(split.kernel(Access.WRITE)), form, few).part(split)
    return Launches((*calls, partial, split.combine()), split.workspaces)


class Attention:
    """Writes the function of one launch."""

    def __init__(self, builder: FunctionBuilder, form: Form, config: Config) -> None:
        self.builder = builder
        self.form = form
        self.config = config
        self.width = max(16, tiles.next_power(_number(form.width)))
        self.features = max(16, tiles.next_power(_number(form.features)))
        self.keys = tiles.extent_of(form.keys)
        self.blocks = tiles.blocks(tiles.extent_of(form.rows), config.rows)
        #: Scores count in units of log 2, as the hardware's exponential does.
        self.scale = repr(form.slope * LOG2_E)

    def whole(self, is_taken: Dim = 1) -> Call:
        """All keys, and the stores; no programs where `is_taken` is 0."""
        self._begin(self.form.batch)
        outer = self._accumulate("0", self.builder.dim(self.keys))
        top, total, mixed = self._results()
        form, builder = self.form, self.builder
        row = Emitter(builder, outer.points, {form.top: top})
        factor = builder.assign("factor", f"tl.exp({top} - {row.value(form.shift)})")
        # Nothing was added under a maximum of -inf: what the weights would be is 0 or, unguarded, NaN.
        total = builder.assign("total", f"{total} * {factor}")
        mixed = builder.assign("mixed", f"{mixed} * {factor}")
        feature = self._features()
        points = Points((*outer.points.tiles, feature))
        emitter = Emitter(builder, points, {form.total: total, form.mixed: mixed}, form.maps)
        for store in form.stores:
            emitter.store(store)
        count = self.blocks * tiles.extent_of(form.batch) * is_taken
        return builder.finish(
            "attention", (count,), num_warps=self.config.warps, num_stages=self.config.stages
        )

    def part(self, split: attention_split.Split) -> Call:
        """The keys of one division, and the stores of what is known of them."""
        builder, form = self.builder, self.form
        self._begin((*form.batch, split.axis))
        length = builder.assign("length", builder.dim(split.length))
        first = builder.assign("first", f"{split.axis.name} * {length}")
        last = builder.assign("last", f"tl.minimum({first} + {length}, {builder.dim(self.keys)})")
        outer = self._accumulate(first, last)
        top, total, mixed = self._results()
        row = Emitter(builder, outer.points, {form.top: top, form.total: total})
        row.store(split.top_store)
        row.store(split.total_store)
        points = Points((*outer.points.tiles, self._features()))
        Emitter(builder, points, {form.mixed: mixed}).store(split.mixed_store)
        count = self.blocks * tiles.extent_of(form.batch) * split.splits * split.is_taken
        return builder.finish(
            "attention_part", (count,), num_warps=self.config.warps, num_stages=self.config.stages
        )

    # --- the program and its queries

    def _begin(self, batch: Sequence[Axis]) -> None:
        """Write which block of queries this program has, at which point of the batch."""
        builder = self.builder
        builder.line(f"program = {tiles.program_id(builder, 0)}")
        many = builder.dim(self.blocks)
        block = "program"
        if batch:
            block = builder.assign("block", "0" if self.blocks == 1 else f"program % ({many})")
            flat = "program" if self.blocks == 1 else f"program // ({many})"
            builder.line(f"batch_at = {flat}")
            tiles.take_apart(builder, "batch_at", batch)
        if self.blocks != 1 and any(not bound.lower for bound in self.form.bounds):
            # The last queries see the most keys: they are begun with.
            block = builder.assign("block", f"({many}) - 1 - {block}")
        height = self.config.rows
        builder.line(f"row_at = ({block} * {height} + tl.arange(0, {height}))[:, None]")
        self.rows = tiles.tile(builder, "row_at", self.form.rows, height)

    def _features(self) -> Tile:
        builder = self.builder
        builder.line(f"feature_at = tl.arange(0, {self.features})[None, :]")
        return tiles.tile(builder, "feature_at", self.form.features, self.features)

    # --- keys

    def _accumulate(self, first: str, last: str) -> Emitter:
        """Write the walk over the keys from `first` to before `last`; gives the emitter of a value a row."""
        builder, form, height = self.builder, self.form, self.config.rows
        builder.line(f"width_at = tl.arange(0, {self.width})[None, :]")
        width = tiles.tile(builder, "width_at", form.width, self.width)
        self.left = self._operand(form.left, form.operand, (self.rows, width), width, (height, self.width))
        # From here on for keys: [width, key].
        builder.line(f"width_at = tl.arange(0, {self.width})[:, None]")
        self.depth = tiles.tile(builder, "width_at", form.width, self.width)
        outer = Emitter(builder, Points((self.rows,)))
        builder.line(f'top = tl.full(({height},), float("-inf"), tl.float32)')
        builder.line(f"total = tl.full(({height},), 0.0, tl.float32)")
        builder.line(f"mixed = tl.full(({height}, {self.features}), 0.0, tl.float32)")
        block = self.config.keys
        stop = self._stop(outer, first, last)
        lower = [bound for bound in form.bounds if bound.lower]
        if lower:
            start = self._start(outer, lower, first)
            self._walk(outer, form.masked, start, stop, is_full=False)
            return outer
        if not form.bounds and first == "0" and isinstance(self.keys, int) and self.keys % block == 0:
            self._walk(outer, form.score, first, last, is_full=True)
            return outer
        is_short = isinstance(self.keys, int) and self.keys <= block
        if not is_short and form.operand is not DType.F32:
            full = self._full(outer, first, last)
            self._walk(outer, form.score, first, full, is_full=True)
            first = full
        self._walk(outer, form.masked, first, stop, is_full=False)
        return outer

    def _limits(self, outer: Emitter, bound: KeyBound, outside: str, choose_: str) -> str:
        """A bound of keys as one number: the greatest or least of those of the queries."""
        builder = self.builder
        text = builder.assign("limit", outer.value(bound.bound))
        names = symbols_of(bound.bound)
        extent = builder.dim(self.keys)
        if outer.points.along(names):
            if self.rows.bound is not None:
                text = builder.assign("limit", f"tl.where({self.rows.bound}, {text}, {outside})")
            text = builder.assign("limit", f"tl.{choose_}(tl.{choose_}({text}, 1), 0)")
        kind = "tl.int64" if builder.index == "i64" else "tl.int32"
        return builder.assign("limit", f"tl.minimum(tl.maximum({text}, 0), {extent}).to({kind})")

    def _stop(self, outer: Emitter, first: str, last: str) -> str:
        """The number of the key from which on no query sees any."""
        for bound in self.form.bounds:
            if not bound.lower:
                limit = self._limits(outer, bound, "0", "max")
                last = self.builder.assign("stop", f"tl.minimum({last}, {limit})")
        return last

    def _full(self, outer: Emitter, first: str, last: str) -> str:
        """The end of the blocks that all queries see in full."""
        builder, block = self.builder, self.config.keys
        for bound in self.form.bounds:
            limit = self._limits(outer, bound, str((1 << 31) - 1), "min")
            last = builder.assign("full", f"tl.minimum({last}, {limit})")
        return builder.assign("full", f"{first} + tl.maximum({last} - {first}, 0) // {block} * {block}")

    def _start(self, outer: Emitter, lower: Sequence[KeyBound], first: str) -> str:
        """The number of the first key that a query sees, rounded down to a block."""
        builder, block = self.builder, self.config.keys
        start = first
        for bound in lower:
            limit = self._limits(outer, bound, str((1 << 31) - 1), "min")
            start = builder.assign("start", f"tl.maximum({start}, {limit})")
        return builder.assign("start", f"{first} + ({start} - {first}) // {block} * {block}")

    def _walk(self, outer: Emitter, score: e.Expr, first: str, last: str, is_full: bool) -> None:
        """Write the loop over blocks of keys; with `is_full` all of them exist and are seen."""
        builder, form, block = self.builder, self.form, self.config.keys
        with builder.block(f"for key_start in range({first}, {last}, {block}):"):
            columns = self._keys("[None, :]", last, is_full)
            shape = (self.width, block)
            right = self._operand(form.right, form.operand, (self.depth, columns), self.depth, shape)
            product = builder.assign("product", _dot(self.left, right, form.operand))
            emitter = outer.inner(Points((self.rows, columns)))
            emitter.locals[form.product] = product
            x = builder.assign("score", emitter.value(score))
            if columns.bound is not None:
                x = builder.assign("score", f'tl.where({columns.bound}, {x}, float("-inf"))')
            builder.line(f"peak = tl.maximum(top, tl.max({x}, 1))")
            builder.line('shift = tl.where(peak == float("-inf"), 0.0, peak)')
            weight = builder.assign("weight", self._weight(x, "shift[:, None]"))
            builder.line(f"fade = {self._weight('top', 'shift')}")
            builder.line(f"total = total * fade + tl.sum({weight}, 1)")
            builder.line("mixed = mixed * fade[:, None]")
            builder.line("top = peak")
            keys = self._keys("[:, None]", last, is_full)
            feature = self._features()
            shape = (block, self.features)
            values = self._operand(form.values, form.operand_of_values, (keys, feature), keys, shape)
            weight = f"{weight}.to({register_type(form.operand_of_values)})"
            builder.line(f"mixed = {_dot(weight, values, form.operand_of_values, 'mixed')}")

    def _weight(self, x: str, shift: str) -> str:
        """The source of the exponential of a score less the maximum."""
        if self.form.operand is DType.F32:
            return f"tl.exp2(({x} - {shift}) * {self.scale})"
        # One instruction less; what the product of the maximum is off by cancels in the quotient.
        return f"tl.exp2({x} * {self.scale} - {shift} * {self.scale})"

    def _keys(self, shape: str, last: str, is_full: bool) -> Tile:
        """Write the indices of a block of keys."""
        builder = self.builder
        builder.line(f"key_at = (key_start + tl.arange(0, {self.config.keys})){shape}")
        tiles.take_apart(builder, "key_at", self.form.keys)
        bound = None if is_full else builder.assign("valid", f"key_at < {last}")
        names = tuple(axis.name for axis in self.form.keys)
        return Tile("key_at", names, tuple(a.name for a in self.form.keys if a.extent != 1), bound)

    def _operand(
        self, value: e.Expr, dtype: DType, points: tuple[Tile, ...], summed: Tile, shape: tuple[int, int]
    ) -> str:
        """Write a tile of an operand: 0 where it has no point along the tile that is summed over."""
        builder = self.builder
        kind = register_type(dtype)
        text = Emitter(builder, Points(points)).value(value)
        text = f"tl.broadcast_to(tl.cast({text}, {kind}), {shape})"
        names = symbols_of(value)
        # A load that moves along the tile is 0 beyond its bound by itself.
        is_zero = isinstance(value, e.Load) and not value.mask and not names.isdisjoint(summed.moving)
        if summed.bound is not None and not is_zero:
            text = f"tl.where({summed.bound}, {text}, tl.cast(0, {kind}))"
        return builder.assign("operand", text)

    def _results(self) -> tuple[str, str, str]:
        """Write the maximum as the score has it, and the sums: a value a row, and a row of features."""
        builder = self.builder
        slope = f" * {self.form.slope!r}" if self.form.slope != 1 else ""
        top = builder.assign("top", f"top[:, None]{slope}")
        return top, builder.assign("total", "total[:, None]"), "mixed"


def _dot(left: str, right: str, operand: DType, start: str | None = None) -> str:
    """The source of a product of tiles, added to `start`."""
    acc = f", {start}" if start else ""
    precision = ', input_precision="ieee"' if operand is DType.F32 else ""
    return f"tl.dot({left}, {right}{acc}{precision}, out_dtype=tl.float32)"


def _number(axes: Sequence[Axis]) -> int:
    extent: Dim = tiles.extent_of(axes)
    assert isinstance(extent, int)
    return extent
