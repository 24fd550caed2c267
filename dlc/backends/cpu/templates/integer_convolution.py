"""Exact convolutions of 8-bit integers with constant weights, with an epilogue, in two phases.

The images are copied into planes of words (`integer_convolution_form` says how); then tiles of output
channels times neighbouring positions add up dot products of words, with positions in the lanes. What follows
the products is done on each tile while it is in the cache.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.convolution_form import LANES, weight_view
from dlc.backends.cpu.templates.gemm_plan import GRAIN, MAX_CHUNKS, Tile, choose_tile
from dlc.backends.cpu.templates.gemm_tile import multiply_add
from dlc.backends.cpu.templates.integer_convolution_form import IntegerConvolution, integer_convolution
from dlc.backends.cpu.templates.integer_form import COLUMN_SUMS, ROW_SUMS
from dlc.backends.cpu.templates.integer_pack import turn_signs
from dlc.backends.cpu.templates.integer_planes import PlaneWriter, plane_bytes
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, ceildiv, maximum, minimum, product
from dlc.ir.operator import Array
from dlc.lowering.kernel import Kernel, Map, Store

_WORDS = t.vector(LANES, t.i32)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A convolution, its register tile, and how its work is cut up.

    A unit of work is one image, one group, one panel of `tile.vectors` * 16 positions and one of `parts`
    parts of the tiles of output channels. The last panel has only `narrow` vectors if that is not 0.
    """

    m: IntegerConvolution
    tile: Tile
    narrow: int
    panels: Dim
    parts: Dim
    units: Dim
    chunks: Dim

    @property
    def width(self) -> int:
        """Positions of a panel."""
        return self.tile.vectors * LANES

    @property
    def row_tiles(self) -> int:
        """Tiles of output channels of a group."""
        return -(-self.m.form.outputs // self.tile.rows)

    @property
    def depth(self) -> int:
        """Words that an output adds up."""
        return self.m.channel_words * math.prod(self.m.form.kernel_shape)


def match(kernel: Kernel, module: Module) -> Match[Plan] | Declined:
    """Whether `kernel` is a convolution of 8-bit integers, then stages at each of its elements."""
    m = integer_convolution(kernel, module.target)
    if isinstance(m, Declined):
        return m
    if len(m.axes) > 2 and not m.flat:
        return Declined("three spatial axes with windows")
    outputs = m.form.outputs
    per_vector = 512 // module.target.vector_bits
    _, tile = choose_tile(outputs, m.numbered, module.target, per_vector)
    panels = ceildiv(m.numbered, tile.vectors * LANES)
    points = product([m.form.extent(m.form.batch), m.form.groups, panels])
    row_tiles = -(-outputs // tile.rows)
    depth = m.channel_words * math.prod(m.form.kernel_shape)
    wanted = maximum(1, minimum(MAX_CHUNKS, points * (outputs * depth * tile.vectors * LANES) // GRAIN))
    parts = minimum(row_tiles, ceildiv(wanted, maximum(1, points)))
    units = points * parts
    narrow = -(-m.numbered // LANES) % tile.vectors if isinstance(m.numbered, int) else 0
    return Match(Plan(m, tile, narrow, panels, parts, units, minimum(units, wanted)))


def emit(module: Module, name: str, match: Match[Plan]) -> CompiledKernel:
    """Write the two functions of a matched convolution."""
    return _Convolution(module, name, match.form).emit()


def pack(plan: Plan, weights: Array) -> Array:
    """Weights as words [group, tile of outputs, channel word, taps, output], their sums [group, output].

    Outputs are padded with zeros to whole tiles. Behind them lie the weights that are 1 for each number of a
    window: [channel word, taps].
    """
    m, rows = plan.m, plan.tile.rows
    view = np.ascontiguousarray(weight_view(m.form, weights))
    if m.weights_turned:
        view = turn_signs(view)
    groups, outputs, channels = view.shape[:3]
    taps = math.prod(view.shape[3:])
    shape = (groups, plan.row_tiles * rows, m.channel_words * m.group, taps)
    numbers = np.zeros(shape, view.dtype if m.group == 4 else np.int16)
    numbers[:, :outputs, :channels] = view.reshape(groups, outputs, channels, taps)
    sums = numbers.sum(axis=(2, 3), dtype=np.int64).astype(np.int32)
    split = numbers.reshape(groups, plan.row_tiles, rows, m.channel_words, m.group, taps)
    words = np.ascontiguousarray(split.transpose(0, 1, 3, 5, 2, 4)).reshape(-1).view(np.int32)
    ones = np.zeros((m.channel_words * m.group, taps), numbers.dtype)
    ones[:channels] = 1
    one_words = np.ascontiguousarray(ones.reshape(m.channel_words, m.group, taps).transpose(0, 2, 1))
    return np.concatenate([words, sums.reshape(-1), one_words.reshape(-1).view(np.int32)])


class _Convolution:
    """The emission of one convolution."""

    def __init__(self, module: Module, name: str, plan: Plan) -> None:
        self.plan, self.m, self.module = plan, plan.m, module
        self.workspace_bytes = plane_bytes(self.m, plan.width)
        self.dims: list[Dim] = [plan.units, plan.chunks, plan.panels, plan.parts, self.workspace_bytes]
        self.planes = PlaneWriter(module, f"{name}_planes", self.m, self.workspace_bytes, self.dims)
        self.dims += [self.planes.units, self.planes.chunks]
        self.frame = KernelFrame(module, name, self.m.original, self.dims)
        self.b, self.em = self.frame.b, self.frame.emitter
        self.workspace = self.frame.workspace(self.workspace_bytes)
        self.weights = self.frame.pointers[self.m.form.weights.name]
        self.taps = math.prod(self.m.form.kernel_shape)
        sums = plan.tile.rows * plan.width * t.i32.bytes
        row = (plan.width + LANES) * t.i32.bytes
        self.sums, self.compact = self.frame.scratch, self.b.byte_offset(self.frame.scratch, sums)
        self.window_sums = self.b.byte_offset(self.compact, row)
        self.scratch = sums + 2 * row

    def emit(self) -> CompiledKernel:
        b, em, plan = self.b, self.em, self.plan
        before = self.planes.emit()
        self.offsets = self._tap_offsets()
        units, chunks = em.dim(plan.units), em.dim(plan.chunks)
        low = b.udiv(b.mul(self.frame.chunk, units), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), units), chunks)
        with b.loop(low, high, name="unit") as loop:
            self._unit(b.value(loop.iv))
        return self.frame.finish(
            "integer_convolution",
            plan.chunks,
            self.scratch,
            {self.m.form.weights.name: functools.partial(pack, plan)},
            self.workspace_bytes,
            before,
        )

    def _tap_offsets(self) -> t.Value | None:
        """A table of where the taps begin, in words; None if there is only one, at 0."""
        offsets = self.m.tap_offsets()
        if len(offsets) == 1:
            return None
        table = self.b.stack(len(offsets) * t.i64.bytes)
        for number, offset in enumerate(offsets):
            self.b.store(self.em.dim(offset), self.b.offset(table, number, t.i64))
        return table

    def _unit(self, unit: t.Value) -> None:
        """One image, one group, one panel of positions, one part of the output channels."""
        b, em, plan, m = self.b, self.em, self.plan, self.m
        parts, panels = em.dim(plan.parts), em.dim(plan.panels)
        part, rest = b.urem(unit, parts), b.udiv(unit, parts)
        panel, rest = b.urem(rest, panels), b.udiv(rest, panels)
        group, image = b.urem(rest, m.form.groups), b.udiv(rest, m.form.groups)
        em.axes[m.form.batch] = b.value(image)
        if m.form.group:
            em.axes[m.form.group] = b.value(group)
        first = b.value(b.mul(panel, plan.width))
        words = b.mul(em.dim(m.plane), m.phases * m.channel_words)
        at = b.add(b.mul(b.add(b.mul(image, m.form.groups), group), words), first)
        source = b.offset(self.workspace, at, t.i32)
        low = b.udiv(b.mul(part, plan.row_tiles), parts)
        high = b.udiv(b.mul(b.add(part, 1), plan.row_tiles), parts)

        def run(vectors: int) -> None:
            self._panel(source, b.value(group), first, (low, high), vectors)

        if plan.narrow and plan.panels != 1:
            with b.if_else(b.icmp("eq", panel, b.sub(panels, 1)), name="width") as both:
                with both.then:
                    run(plan.narrow)
                with both.otherwise:
                    run(plan.tile.vectors)
        else:
            run(plan.narrow or plan.tile.vectors)

    def _panel(
        self, source: t.Value, group: t.Value, first: t.Value, tiles: tuple[t.Index, t.Index], vectors: int
    ) -> None:
        """The tiles of output channels from tiles[0] to tiles[1], for the panel of positions from `first`."""
        b, plan, m = self.b, self.plan, self.m
        begin, end = self._compact_number(first), self._compact_number(self._last(first))
        count = b.value(b.sub(end, begin))
        if m.window_sums:
            weights = b.offset(self.weights, self._ones, t.i32)
            self._tile(source, weights, 1, vectors)
            self._move(self.sums, self.window_sums, first, begin)
        with b.loop(*tiles, name="tile") as loop:
            number = b.add(b.mul(group, plan.row_tiles), loop.iv)
            place = b.mul(number, plan.depth * plan.tile.rows)
            self._tile(source, b.offset(self.weights, place, t.i32), plan.tile.rows, vectors)
            row = b.value(b.mul(loop.iv, plan.tile.rows))
            rows = b.smin(b.sub(m.form.outputs, row), plan.tile.rows)
            with b.loop(0, rows, name="row") as inner:
                self._finish(group, b.value(b.add(row, inner.iv)), b.value(inner.iv), first, begin, count)

    @property
    def _sums_of_weights(self) -> int:
        """Where the sums of the weights lie, in words."""
        return self.m.form.groups * self.plan.row_tiles * self.plan.tile.rows * self.plan.depth

    @property
    def _ones(self) -> int:
        """Where the weights that are 1 lie, in words."""
        return self._sums_of_weights + self.m.form.groups * self.plan.row_tiles * self.plan.tile.rows

    # --- products

    def _tile(self, source: t.Value, weights: t.Value, rows: int, vectors: int) -> None:
        """The products of `rows` output channels and a panel of positions, stored to the sums."""
        b, em, m = self.b, self.em, self.m
        zeros = [b.const(_WORDS, 0)] * (rows * vectors)
        step = b.mul(em.dim(m.plane), m.phases)
        with b.loop(0, m.channel_words, carry=zeros, name="channel") as channel:
            at = b.offset(source, b.mul(channel.iv, step), t.i32)
            panel = b.offset(weights, b.mul(channel.iv, self.taps * rows), t.i32)
            channel.next = self._over_taps(at, panel, rows, channel.carried)
        for number, total in enumerate(channel.results):
            row, vector = divmod(number, vectors)
            b.store(total, b.offset(self.sums, row * self.plan.width + vector * LANES, t.i32))

    def _over_taps(
        self, source: t.Value, weights: t.Value, rows: int, sums: tuple[t.Value, ...]
    ) -> list[t.Value]:
        """One word of channels, at each tap."""
        b = self.b
        if self.offsets is None:
            return self._step(source, weights, rows, sums)
        with b.loop(0, self.taps, carry=list(sums), name="tap") as tap:
            offset = b.load(b.offset(self.offsets, tap.iv, t.i64), t.i64)
            row = b.offset(weights, b.mul(tap.iv, rows), t.i32)
            tap.next = self._step(b.offset(source, offset, t.i32), row, rows, tap.carried)
        return list(tap.results)

    def _step(
        self, source: t.Value, weights: t.Value, rows: int, sums: tuple[t.Value, ...]
    ) -> list[t.Value]:
        """One word of the depth."""
        b, vectors = self.b, len(sums) // rows
        x = [b.load(b.offset(source, v * LANES, t.i32), _WORDS) for v in range(vectors)]
        result = []
        for row in range(rows):
            w = b.load_splat(b.offset(weights, row, t.i32), t.i32)
            for v in range(vectors):
                total = sums[row * vectors + v]
                result.append(multiply_add(b, self.m.multiplication, w, x[v], total))
        return result

    # --- numbers of positions

    def _last(self, first: t.Value) -> t.Value:
        """The number after the last one of the panel that begins at `first`."""
        b = self.b
        return b.value(b.smin(b.add(first, self.plan.width), self.em.dim(self.m.numbered)))

    def _compact_number(self, number: t.Value) -> t.Value:
        """How many outputs lie before a number of a plane's position."""
        b, em, m = self.b, self.em, self.m
        if m.flat:
            return number
        count, outputs = em.dim(m.axes[-1].count), em.dim(m.axes[-1].outputs)
        within = b.smin(b.urem(number, count), outputs)
        return b.value(b.add(b.mul(b.udiv(number, count), outputs), within))

    def _move(self, source: t.Value, target: t.Value, first: t.Value, begin: t.Value) -> None:
        """Copy a row of sums without those that belong to no output; up to 15 words more are written."""
        b, em, m, width = self.b, self.em, self.m, self.plan.width
        if m.flat:
            for at in range(0, width, LANES):
                b.store(b.load(b.offset(source, at, t.i32), _WORDS), b.offset(target, at, t.i32))
            return
        count, outputs = em.dim(m.axes[-1].count), em.dim(m.axes[-1].outputs)
        last = self._last(first)
        with b.loop(b.udiv(first, count), b.add(b.udiv(b.sub(last, 1), count), 1), name="segment") as row:
            start = b.mul(row.iv, count)
            low, high = b.smax(start, first), b.smin(b.add(start, outputs), last)
            with b.loop(low, high, LANES, name="move") as loop:
                value = b.load(b.offset(source, b.sub(loop.iv, first), t.i32), _WORDS)
                place = b.sub(b.add(b.mul(row.iv, outputs), b.sub(loop.iv, start)), begin)
                b.store(value, b.offset(target, place, t.i32))

    # --- the stages after the products

    def _finish(
        self, group: t.Index, output: t.Value, row: t.Value, first: t.Value, begin: t.Value, count: t.Value
    ) -> None:
        """Run the stages on the sums of one output channel."""
        b, em, m = self.b, self.em, self.m
        sums = b.offset(self.sums, b.mul(row, self.plan.width), t.i32)
        if not m.flat:
            self._move(sums, self.compact, first, begin)
            sums = self.compact
        em.axes[m.form.columns] = output
        rows = self.plan.row_tiles * self.plan.tile.rows
        place = b.add(b.add(b.mul(group, rows), output), self._sums_of_weights)
        weights_sum = b.load(b.offset(self.weights, place, t.i32), t.i32)
        em.locals[ROW_SUMS] = lambda _: weights_sum
        whole = b.round_down(count, LANES)
        em.forget()
        em.vector_axis = m.column.symbol
        em.hoist([stage.value for stage in m.stages], {m.column.name}, (ROW_SUMS,))
        with b.loop(0, whole, LANES, name="lanes") as lanes, em.scope():
            self._lanes(sums, begin, lanes.iv, None)
        with b.loop(whole, count, LANES, name="tail") as tail, em.scope():
            self._lanes(sums, begin, tail.iv, b.tail_mask(b.sub(count, tail.iv), LANES))
        em.vector_axis = None
        em.forget()

    def _lanes(self, sums: t.Value, begin: t.Value, at: t.Index, mask: t.Value | None) -> None:
        """The stages for 16 positions."""
        b, em, m = self.b, self.em, self.m
        em.axes[m.column.name] = b.value(b.add(begin, at))
        em.mask = mask
        value = b.load(b.offset(sums, at, t.i32), _WORDS)
        em.locals[m.local] = lambda _: value
        em.locals[COLUMN_SUMS] = lambda _: b.load(b.offset(self.window_sums, at, t.i32), _WORDS)
        for stage in m.stages:
            match stage:
                case Map(out, expression):
                    result = em.emit(expression)
                    em.locals[out.name] = functools.partial(_register, result)
                case Store():
                    em.store(stage.param, stage.index, em.emit(stage.value), stage.value.dtype, stage.mask)
        em.mask = None


def _register(value: t.Value, index: tuple[Dim, ...]) -> t.Value:
    """A local that is in a register, whatever the index."""
    del index
    return value
