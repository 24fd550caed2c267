"""Direct convolution with output channels in the lanes of vectors.

A register tile of T output pixels x V channel vectors accumulates over input channels and taps: V vectors of
weights are loaded and T input elements broadcast for T * V multiply-adds. Weights are packed at compile time
in the order in which the loops read them; the input has its padding in memory (a halo), so no loop has a
border. See docs/kernel-ir.md for the Contract that this implements; tile sizes were measured on AVX-512 and
AVX2 cores.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.convolution_form import (
    LANES,
    ConvolutionForm,
    convolution_form,
    input_plane,
    weight_view,
)
from dlc.backends.cpu.templates.epilogue import BlockedEpilogue
from dlc.backends.cpu.templates.normalize import split_blocked_axes
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, ceildiv, free_symbols, maximum, minimum, product
from dlc.ir.operator import Array
from dlc.lowering import expr as e
from dlc.lowering.kernel import Kernel
from dlc.target import CpuTarget

#: Distance of the software prefetch into the weights, in floats: 8 KB, from a sweep of 2 to 16 KB.
PREFETCH = 2048
#: Weights up to this size stay in a core's L2 cache while all pixels pass; larger ones are split among
#: chunks.
RESIDENT_WEIGHTS = 600 * 1024
#: Multiply-adds that make a chunk, some 50 us of one core.
CHUNK_WORK = 2_000_000
MAX_CHUNKS = 64


@dataclasses.dataclass(frozen=True)
class Tile:
    """A register tile: rows x columns of output pixels, `vectors` of 16 output channels."""

    rows: int
    columns: int
    vectors: int


def choose_tile(target: CpuTarget, output_blocks: int, height: Dim, width: Dim) -> Tile:
    """The tile that wastes least: its accumulators, weights and one broadcast fill the register file."""
    registers = target.vector_registers * target.vector_bits // 512
    best: tuple[float, Tile] | None = None
    for vectors in (2, 1, 3, 4):
        if output_blocks % vectors:
            continue
        pixels = min((registers - vectors - 1) // vectors, 28)
        if pixels < 1:
            continue
        # There may be no columns: a phase of a transposed convolution that no position belongs to.
        columns = pixels
        if isinstance(width, int) and width:
            columns = math.ceil(width / math.ceil(width / pixels))
        rows = max(1, pixels // columns)
        if isinstance(height, int):
            rows = min(rows, max(height, 1))
        elif (isinstance(width, int) and width > columns) or not isinstance(width, int):
            rows = 1
        tile = Tile(rows if isinstance(height, int) else 1, columns, vectors)
        loads = (tile.rows * tile.columns + vectors) / (tile.rows * tile.columns * vectors)
        cost = _waste(tile, height, width) * (1 + 0.15 * loads) * (1 + 0.02 * vectors)
        if best is None or cost < best[0] - 1e-9:
            best = (cost, tile)
    assert best is not None
    return best[1]


def _waste(tile: Tile, height: Dim, width: Dim) -> float:
    """Cycles relative to full tiles: a tile of few pixels still waits for the latency of its additions."""
    if not isinstance(height, int) or not isinstance(width, int) or not height or not width:
        return 1.0
    row_parts = [tile.rows] * (height // tile.rows) + ([height % tile.rows] if height % tile.rows else [])
    column_parts = [tile.columns] * (width // tile.columns) + (
        [width % tile.columns] if width % tile.columns else []
    )
    cycles = sum(
        max(rows * columns * tile.vectors, 8 + tile.vectors) for rows in row_parts for columns in column_parts
    )
    return cycles / (height * width * tile.vectors)


def pack(weights: Array, vectors: int, blocked: bool) -> Array:
    """Weights [group, o, c, taps...] as [group, o / (16 vectors), c blocks, taps..., lanes, 16 vectors].

    Output channels are padded to whole vectors with zeros. Input channels of a blocked layout come in blocks
    of 16, the last one short: it is stored behind the others, [taps..., rest, 16 vectors].
    """
    groups, outputs, channels, *taps = weights.shape
    width = LANES * vectors
    panels = -(-outputs // width)
    w = np.zeros((groups, panels * width, channels, *taps), np.float32)
    w[:, :outputs] = weights
    w = w.reshape(groups, panels, width, channels, *taps)
    w = np.moveaxis(w, 2, -1)
    step = LANES if blocked else 1
    whole = channels // step * step
    main = w[:, :, :whole].reshape(groups, panels, whole // step, step, *taps, width)
    main = np.moveaxis(main, 3, -2).reshape(groups, panels, -1)
    rest = np.moveaxis(w[:, :, whole:], 2, -2).reshape(groups, panels, -1)
    return np.ascontiguousarray(np.concatenate([main, rest], axis=2))


def match(kernel: Kernel, module: Module) -> Match[ConvolutionForm] | Declined:
    """Whether `kernel` is a convolution in blocked layout with constant weights."""
    del module
    form = convolution_form(kernel)
    return form if isinstance(form, Declined) else Match(form)


def emit(module: Module, name: str, match: Match[ConvolutionForm]) -> CompiledKernel:
    """Write the function of a matched convolution."""
    return _Convolution(module, name, match.form).emit()


class _Convolution:
    def __init__(self, module: Module, name: str, m: ConvolutionForm) -> None:
        self.m = m
        self.split = split_blocked_axes(m.kernel)
        self.blocks = -(-m.outputs // LANES)
        self.windows = m.contract.spec.windows
        self.input = input_plane(m)
        self.flat = self._is_flat()
        extents = [m.extent(axis) for axis in m.positions]
        self.height: Dim = 1 if self.flat or len(extents) < 2 else extents[-2]
        self.width: Dim = product(extents) if self.flat else extents[-1]
        self.outer: list[Dim] = [] if self.flat else list(extents[:-2])
        self.tile = choose_tile(module.target, self.blocks, self.height, self.width)
        self.panels = self.blocks // self.tile.vectors
        self.row_tiles = ceildiv(self.height, self.tile.rows)
        self.column_tiles = ceildiv(self.width, self.tile.columns) if self.flat else 1
        self.weights_first = self._split_channels()
        self.points = product(
            [
                m.extent(m.batch),
                m.groups,
                *self.outer,
                self.row_tiles,
                self.column_tiles,
                self.panels if self.weights_first else 1,
            ]
        )
        self.chunks = self._chunk_count()
        self.frame = KernelFrame(module, name, m.kernel, [self.points, self.chunks])
        self.b = self.frame.b
        self.em = self.frame.emitter
        self.epilogue = BlockedEpilogue(self.frame, self.split, m.columns, m.positions, m.contract.out.name)

    def _is_flat(self) -> bool:
        """Whether all output positions can be walked as one row: 1x1, stride 1, no halo on either side."""
        m = self.m
        if any(tap != 1 for tap in m.kernel_shape) or any(w.stride != 1 or w.pad != 0 for w in self.windows):
            return False
        params = [m.source, *(m.kernel.param(name) for name in self._epilogue_params())]
        for param in params:
            layout = param.type.layout
            if param.constant or param.type.rank != m.source.type.rank:
                continue
            if (layout.halos if layout else ()) or param.strides is not None:
                return False
            if layout is None and param is not m.source:
                return False
        return not self._uses_positions()

    def _epilogue_params(self) -> set[str]:
        return {node.param for node in e.walk(self.m.store.value) if isinstance(node, e.Load)} | {
            self.m.store.param
        }

    def _uses_positions(self) -> bool:
        """Whether the epilogue uses output positions otherwise than as they are."""
        positions = [self.m.kernel.axis(axis).symbol for axis in self.m.positions]
        if list(self.m.store.index[-len(positions) :]) != positions:
            return True
        for node in e.walk(self.m.store.value):
            if isinstance(node, e.Iota):
                return True
            if isinstance(node, e.Load):
                used = [
                    entry
                    for entry in node.index
                    if not isinstance(entry, e.Expr | int)
                    and any(symbol in positions for symbol in free_symbols(entry))
                ]
                if used and used != positions:
                    return True
        return False

    def _split_channels(self) -> bool:
        """Whether chunks share out output channels: large weights, or few pixels."""
        weights = 4 * self.m.channels * self.m.outputs * math.prod(self.m.kernel_shape)
        tiles = product([*self.outer, self.row_tiles, self.column_tiles])
        return weights > RESIDENT_WEIGHTS or (isinstance(tiles, int) and tiles < 8)

    def _chunk_count(self) -> Dim:
        m = self.m
        each = m.channels * m.outputs * math.prod(m.kernel_shape) * m.groups
        work = product([m.extent(m.batch), *[m.extent(axis) for axis in m.positions]]) * each
        return minimum(self.points, MAX_CHUNKS, maximum(1, work // CHUNK_WORK))

    # --- loops

    def emit(self) -> CompiledKernel:
        b, em, m = self.b, self.em, self.m
        points, chunks = em.dim(self.points), em.dim(self.chunks)
        low = b.udiv(b.mul(self.frame.chunk, points), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), points), chunks)
        with b.loop(low, high, name="point") as loop:
            self._point(self.b.value(loop.iv))
        blocked, vectors = m.blocked_input, self.tile.vectors
        packing = {m.weights.name: lambda w: pack(weight_view(m, w), vectors, blocked)}
        return self.frame.finish("convolution", self.chunks, packing=packing)

    def _point(self, point: t.Value) -> None:
        """One row of tiles (or one tile, of a flat image) for one panel of channels, or for all of them."""
        b, em, m = self.b, self.em, self.m
        rest: t.Index = point

        def digit(extent: Dim) -> t.Index:
            nonlocal rest
            if extent == 1:
                return 0
            size = em.dim(extent)
            value = b.urem(rest, size)
            rest = b.udiv(rest, size)
            return value

        column_tile = digit(self.column_tiles)
        row_tile = digit(self.row_tiles)
        outer = [digit(extent) for extent in reversed(self.outer)][::-1]
        panel = digit(self.panels) if self.weights_first else None
        group = digit(m.groups)
        em.axes[m.batch] = b.value(rest)
        if m.group:
            em.axes[m.group] = b.value(group)
        for axis, value in zip(m.positions, outer, strict=False):
            em.axes[axis] = b.value(value)
        self.outer_values = outer
        first_row = b.mul(row_tile, self.tile.rows)
        self._rows(group, panel, first_row, column_tile)

    def _rows(self, group: t.Index, panel: t.Index | None, row: t.Index, column_tile: t.Index) -> None:
        """All column tiles of one row of tiles; the last row may have fewer rows."""
        rows = self.tile.rows
        rest = self.height % rows if isinstance(self.height, int) else 0
        if not rest:
            self._columns(group, panel, row, rows, column_tile)
            return
        with self.b.if_else(self.b.icmp("sle", self.b.add(row, rows), self.em.dim(self.height))) as both:
            with both.then:
                self._columns(group, panel, row, rows, column_tile)
            with both.otherwise:
                self._columns(group, panel, row, rest, column_tile)

    def _columns(
        self, group: t.Index, panel: t.Index | None, row: t.Index, rows: int, column_tile: t.Index
    ) -> None:
        b, columns = self.b, self.tile.columns
        if self.flat:
            first = b.mul(column_tile, columns)
            with b.if_else(b.icmp("sle", b.add(first, columns), self.em.dim(self.width))) as both:
                with both.then:
                    self._panels(group, panel, row, rows, first, columns)
                with both.otherwise:
                    self._tail(group, panel, row, rows, first)
            return
        whole = b.sub(self._width(), b.urem(self._width(), columns))
        with b.loop(0, whole, columns, name="column") as loop:
            self._panels(group, panel, row, rows, loop.iv, columns)
        self._tail(group, panel, row, rows, whole)

    def _width(self) -> t.Index:
        return self.width if isinstance(self.width, int) else self.em.dim(self.width)

    def _tail(self, group: t.Index, panel: t.Index | None, row: t.Index, rows: int, first: t.Index) -> None:
        """The columns that fill no tile: one tile of exactly their number, or tiles of 4 and of 1."""
        b, columns = self.b, self.tile.columns
        if isinstance(self.width, int):
            if self.width % columns:
                self._panels(group, panel, row, rows, first, self.width % columns)
            return
        fours = b.add(first, b.and_(b.urem(self._width(), columns), -4))
        with b.loop(first, fours, 4, name="column4") as loop:
            self._panels(group, panel, row, rows, loop.iv, 4)
        with b.loop(fours, self._width(), name="column1") as loop:
            self._panels(group, panel, row, rows, loop.iv, 1)

    def _panels(
        self, group: t.Index, panel: t.Index | None, row: t.Index, rows: int, column: t.Index, columns: int
    ) -> None:
        if panel is not None:
            self._tile(group, panel, row, rows, column, columns)
            return
        with self.b.loop(0, self.panels, name="panel") as loop:
            self._tile(group, loop.iv, row, rows, column, columns)

    # --- one register tile

    def _tile(
        self, group: t.Index, panel: t.Index, row: t.Index, rows: int, column: t.Index, columns: int
    ) -> None:
        b, m, vectors = self.b, self.m, self.tile.vectors
        pixels = [(r, c) for r in range(rows) for c in range(columns)]
        source = self._source(group, row, column)
        weights_per_panel = m.channels * math.prod(m.kernel_shape) * LANES * vectors
        place = b.mul(b.add(b.mul(group, self.panels), panel), weights_per_panel)
        weights = b.offset(self.frame.pointers[m.weights.name], place, t.f32)
        zero = b.const(t.vector(LANES, t.f32), 0.0)
        accumulators = [zero] * (len(pixels) * vectors)
        step = LANES if m.blocked_input else 1
        blocks, rest = divmod(m.channels, step)
        taps = math.prod(m.kernel_shape)
        pixel_offsets = [self._pixel_offset(r, c) for r, c in pixels]
        block_stride = self.em.dim(self.input.block)
        with b.loop(0, blocks, carry=accumulators, name="channel") as loop:
            at = b.offset(source, b.mul(loop.iv, block_stride), t.f32)
            panel_at = b.offset(weights, b.mul(loop.iv, taps * step * LANES * vectors), t.f32)
            loop.next = tuple(self._taps(at, panel_at, step, pixel_offsets, list(loop.carried)))
        accumulators = list(loop.results) if blocks else accumulators
        if rest:
            at = b.offset(source, b.mul(block_stride, blocks), t.f32)
            panel_at = b.offset(weights, blocks * taps * step * LANES * vectors, t.f32)
            accumulators = self._taps(at, panel_at, rest, pixel_offsets, accumulators)
        self._epilogue(panel, row, column, pixels, accumulators)

    def _source(self, group: t.Index, row: t.Index, column: t.Index) -> t.Value:
        """The address of the input of the tile's first pixel, at the first tap and channel."""
        b, em, m = self.b, self.em, self.m
        place: t.Index = b.add(em.dim(self.input.origin), b.mul(em.axes[m.batch], em.dim(self.input.batch)))
        if m.group:
            blocks = m.channels // (LANES if m.blocked_input else 1)
            place = b.add(place, b.mul(group, b.mul(em.dim(self.input.block), blocks)))
        rows = [*self.outer_values, row, column] if len(m.positions) > 1 and not self.flat else [column]
        spatial = self.input.spatial[-1:] if self.flat else self.input.spatial
        windows = self.windows[-1:] if self.flat else self.windows
        for value, stride, window in zip(rows, spatial, windows, strict=True):
            place = b.add(place, b.mul(value, b.mul(em.dim(stride), window.stride)))
        return b.offset(self.frame.pointers[m.source.name], place, t.f32)

    def _pixel_offset(self, row: int, column: int) -> t.Index:
        em, b = self.em, self.b
        offset: t.Index = b.mul(em.dim(self.input.spatial[-1]), column * self.windows[-1].stride)
        if row:
            offset = b.add(offset, b.mul(em.dim(self.input.spatial[-2]), row * self.windows[-2].stride))
        return offset

    def _taps(
        self,
        source: t.Value,
        weights: t.Value,
        lanes: int,
        pixels: Sequence[t.Index],
        accumulators: list[t.Value],
    ) -> list[t.Value]:
        """Accumulate over the taps, and over `lanes` adjacent input channels at each."""
        b, vectors = self.b, self.tile.vectors

        def tap_loops(axis: int, at: t.Value, panel: t.Value, carry: list[t.Value]) -> list[t.Value]:
            if axis == len(self.m.taps):
                return self._lanes(at, panel, lanes, pixels, carry)
            window = self.windows[axis]
            inner = math.prod(self.m.kernel_shape[axis + 1 :]) * lanes * LANES * vectors
            stride = b.mul(self.em.dim(self.input.spatial[axis]), window.dilation)
            with b.loop(0, self.m.kernel_shape[axis], carry=carry, name="tap") as loop:
                loop.next = tuple(
                    tap_loops(
                        axis + 1,
                        b.offset(at, b.mul(loop.iv, stride), t.f32),
                        b.offset(panel, b.mul(loop.iv, inner), t.f32),
                        list(loop.carried),
                    )
                )
            return list(loop.results)

        return tap_loops(0, source, weights, accumulators)

    def _lanes(
        self,
        source: t.Value,
        weights: t.Value,
        lanes: int,
        pixels: Sequence[t.Index],
        accumulators: list[t.Value],
    ) -> list[t.Value]:
        b, vectors = self.b, self.tile.vectors
        vector = t.vector(LANES, t.f32)
        with b.loop(0, lanes, carry=accumulators, name="lane") as loop:
            at = b.offset(source, loop.iv, t.f32)
            panel = b.offset(weights, b.mul(loop.iv, LANES * vectors), t.f32)
            for v in range(vectors):
                b.prefetch(b.offset(panel, PREFETCH + v * LANES, t.f32))
            loaded = [b.load(b.offset(panel, v * LANES, t.f32), vector) for v in range(vectors)]
            result = list(loop.carried)
            for p, offset in enumerate(pixels):
                x = b.splat(b.load(b.offset(at, offset, t.f32), t.f32), LANES)
                for v in range(vectors):
                    result[p * vectors + v] = b.fma(x, loaded[v], result[p * vectors + v])
            loop.next = tuple(result)
        return list(loop.results)

    def _epilogue(
        self,
        panel: t.Index,
        row: t.Index,
        column: t.Index,
        pixels: Sequence[tuple[int, int]],
        accumulators: list[t.Value],
    ) -> None:
        """Apply what follows the convolution to each vector, and store it."""
        b, vectors = self.b, self.tile.vectors
        for v in range(vectors):
            values = [accumulators[p * vectors + v] for p in range(len(pixels))]
            places = [lambda r=r, c=c: self._set_position(row, column, r, c) for r, c in pixels]
            self.epilogue.store(b.add(b.mul(panel, vectors), v), values, places)

    def _set_position(self, row: t.Index, column: t.Index, r: int, c: int) -> None:
        b, em, names = self.b, self.em, self.m.positions
        if self.flat:
            for name in names[:-1]:
                em.axes[name] = b.value(0)
        elif len(names) > 1:
            em.axes[names[-2]] = b.value(b.add(row, r))
        em.axes[names[-1]] = b.value(b.add(column, c))
