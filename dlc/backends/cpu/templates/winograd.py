"""3x3 and 3x3x3 convolution by Winograd's algorithm, F(4x4) or F(2x2), on channels in blocks of 16.

An output tile of m x m positions needs (m + 2)^2 products a channel pair instead of 9 m^2: a quarter for
m = 4. For a strip of tiles, the inputs are transformed, [point][group][channel block][tile][lane]; then, for
each panel of output channels, one matrix product a point sums over the input channels, and the products of
each tile are transformed back and handed to the epilogue. Weights are transformed at compile time, in
float64.

A convolution can be a sum of several views of its input, each with some of the taps, which are added between
the transforms: the three planes of three-dimensional taps; even and odd rows and columns where every second
position is left out. Dilated convolutions run on the images of their phases. Tiles that reach beyond the last
position read the last ones again and store nothing there.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame, Phase
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.convolution import PREFETCH
from dlc.backends.cpu.templates.convolution_form import LANES, convolution_form, input_plane, weight_view
from dlc.backends.cpu.templates.epilogue import BlockedEpilogue
from dlc.backends.cpu.templates.normalize import split_blocked_axes
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.backends.cpu.templates.winograd_plan import TAPS, AxisView, Plan, View, make_plan
from dlc.backends.cpu.templates.winograd_transform import apply, transform_weights
from dlc.ir.dims import Dim, product
from dlc.ir.operator import Array
from dlc.lowering.kernel import Kernel

_VECTOR = t.vector(LANES, t.f32)
_BYTES = 4


def match(kernel: Kernel, module: Module) -> Match[Plan] | Declined:
    """Whether `kernel` is a convolution that Winograd's algorithm takes and makes faster."""
    form = convolution_form(kernel)
    found = form if isinstance(form, Declined) else make_plan(module, form)
    return found if isinstance(found, Declined) else Match(found)


def emit(module: Module, name: str, match: Match[Plan]) -> CompiledKernel:
    """Write the function, or the two functions, of a planned convolution."""
    plan = match.form
    return _Shared(module, name, plan).emit() if plan.shared else _Strips(module, name, plan).emit()


def pack(plan: Plan, weights: Array) -> Array:
    """Transformed weights, float32 [panel, point, input channel of all blocks * output channel].

    Output channels are padded with zeros to whole panels, input channels to whole blocks.
    """
    given = weight_view(plan.match, weights)[0]  # [outputs, channels, taps...]
    outputs, channels = given.shape[:2]
    width, depth = LANES * plan.vectors, plan.channel_blocks * LANES
    whole = np.zeros((plan.panels * width, depth, math.prod(given.shape[2:])), np.float32)
    whole[:outputs, :channels] = given.reshape(outputs, channels, -1)
    panels = whole.reshape(plan.panels, width, depth, -1, TAPS, TAPS).transpose(0, 3, 4, 5, 2, 1)
    packed = np.empty((plan.panels, plan.products, depth * width), np.float32)
    for number, panel in enumerate(panels):
        start = 0
        for view in plan.views:
            taps = panel[view.depth][np.ix_(view.rows.taps, view.columns.taps)]
            flat = taps.reshape(-1, depth * width)
            packed[number, start : start + view.products] = transform_weights(
                view.rows.filter, view.columns.filter, flat
            )
            start += view.products
    return packed


@dataclasses.dataclass(frozen=True)
class _Tile:
    """Where a tile lies: its image, its plane, and its first output position along rows and columns."""

    image: t.Index
    plane: t.Index
    positions: tuple[t.Index, t.Index]


class _Function:
    """One function of the kernel: entry, geometry, and the two transforms."""

    def __init__(self, module: Module, name: str, plan: Plan, more_dims: Sequence[Dim] = ()) -> None:
        self.plan = plan
        self.m = plan.match
        self.dims: list[Dim] = [plan.strips, plan.tiles, plan.rows, plan.columns, *more_dims]
        self.frame = KernelFrame(module, name, self.m.kernel, self.dims)
        self.b, self.em = self.frame.b, self.frame.emitter
        self.input = input_plane(self.m)

    def range(self, units: Dim, chunks: Dim) -> tuple[t.Index, t.Index]:
        """The units that the chunk is to do."""
        b, em = self.b, self.em
        count, parts = em.dim(units), em.dim(chunks)
        low = b.udiv(b.mul(self.frame.chunk, count), parts)
        return low, b.udiv(b.mul(b.add(self.frame.chunk, 1), count), parts)

    def count(self, strip: t.Index) -> t.Index:
        """How many tiles a strip has: the last one may have fewer."""
        b, plan = self.b, self.plan
        everything = self.em.dim(product([self.m.extent(self.m.batch), plan.tiles]))
        return b.smin(b.sub(everything, b.mul(strip, plan.strip)), plan.strip)

    def tile(self, strip: t.Index, number: t.Index) -> _Tile:
        """Tile `number` of a strip."""
        b, plan, em = self.b, self.plan, self.em
        index = b.add(b.mul(strip, plan.strip), number)
        tiles, columns, rows = em.dim(plan.tiles), em.dim(plan.columns), em.dim(plan.rows)
        image, rest = b.udiv(index, tiles), b.urem(index, tiles)
        column, rest = b.urem(rest, columns), b.udiv(rest, columns)
        row, rest = b.urem(rest, rows), b.udiv(rest, rows)
        first, second = plan.phases
        phase, plane = b.urem(rest, first * second), b.udiv(rest, first * second)
        outputs = plan.transform.outputs
        return _Tile(
            image,
            plane,
            (
                b.add(b.mul(row, outputs * first), b.udiv(phase, second)),
                b.add(b.mul(column, outputs * second), b.urem(phase, second)),
            ),
        )

    def is_ragged(self, axis: int) -> bool:
        """Whether some tiles reach beyond the last position of rows (0) or columns (1)."""
        extent = self.m.extent(self.m.positions[axis - 2])
        step = self.plan.transform.outputs * self.plan.phases[axis]
        return not isinstance(extent, int) or extent % step != 0

    def transform_inputs(
        self, strip: t.Index, blocks: tuple[t.Index, t.Index], target: t.Value, scratch: t.Value
    ) -> None:
        """Transform the channel blocks from blocks[0] to blocks[1] of all tiles of a strip to `target`."""
        b, plan = self.b, self.plan
        with b.loop(0, self.count(strip), name="tile") as loop:
            tile = self.tile(strip, loop.iv)
            group, place = b.udiv(loop.iv, plan.group), b.urem(loop.iv, plan.group)
            at = b.mul(group, plan.group * plan.channel_blocks * LANES)
            start = b.offset(target, b.add(at, b.mul(place, LANES)), t.f32)
            for view, first in views(plan):
                rows = [self._input_row(tile, view, i) for i in range(view.rows.filter.inputs)]
                begin = b.offset(start, first * plan.input_stride, t.f32)
                with b.loop(*blocks, name="block") as block:
                    place = b.mul(block.iv, self.em.dim(self.input.block))
                    source = [b.offset(row, place, t.f32) for row in rows]
                    result = b.offset(begin, b.mul(block.iv, plan.group * LANES), t.f32)
                    self._transform_input(source, tile, view, result, scratch)

    def _input_row(self, tile: _Tile, view: View, number: int) -> t.Value:
        """The address of column 0 of row `number` of a tile's input."""
        b, em, strides = self.b, self.em, self.input.spatial
        place = b.add(em.dim(self.input.origin), b.mul(tile.image, em.dim(self.input.batch)))
        if len(strides) == 3:
            plane = b.add(b.mul(tile.plane, self.m.contract.spec.windows[0].stride), view.plane)
            place = b.add(place, b.mul(plane, em.dim(strides[0])))
        place = b.add(place, b.mul(self._clamped(tile, 0, view.rows, number), em.dim(strides[-2])))
        return b.offset(self.frame.pointers[self.m.source.name], place, t.f32)

    def _clamped(self, tile: _Tile, axis: int, view: AxisView, number: t.Index) -> t.Index:
        """Input position `number` of a tile along an axis; the last one that exists for those behind it."""
        b, window = self.b, self.plan.windows[axis]
        first = b.add(b.mul(tile.positions[axis], window.stride), view.offset)
        position = b.add(first, b.mul(number, view.step))
        if not self.is_ragged(axis):
            return position
        extent = b.mul(b.sub(self.em.dim(self.m.extent(self.m.positions[axis - 2])), 1), window.stride)
        return b.smin(position, b.add(extent, (TAPS - 1) * window.dilation))

    def _transform_input(
        self, rows: Sequence[t.Value], tile: _Tile, view: View, target: t.Value, scratch: t.Value
    ) -> None:
        """BT x B of one block of 16 channels, by way of BT x in `scratch`."""
        b, plan, columns = self.b, self.plan, view.columns.filter
        stride = self.em.dim(self.input.spatial[-1])
        ahead = b.mul(stride, plan.transform.outputs * plan.windows[1].stride * plan.phases[1])
        with b.loop(0, columns.inputs, name="column") as loop:
            place = b.mul(self._clamped(tile, 1, view.columns, loop.iv), stride)
            for row in rows:
                b.prefetch(b.offset(row, b.add(place, ahead), t.f32))
            column = [b.load(b.offset(row, place, t.f32), _VECTOR) for row in rows]
            for i, value in enumerate(apply(b, view.rows.filter.input, column)):
                at = b.add(b.mul(loop.iv, LANES), i * columns.inputs * LANES)
                b.store(value, b.offset(scratch, at, t.f32))
        with b.loop(0, view.rows.filter.products, name="row") as loop:
            row = b.offset(scratch, b.mul(loop.iv, columns.inputs * LANES), t.f32)
            values = [b.load(b.offset(row, j * LANES, t.f32), _VECTOR) for j in range(columns.inputs)]
            place = b.offset(target, b.mul(loop.iv, columns.products * plan.input_stride), t.f32)
            for j, value in enumerate(apply(b, columns.input, values)):
                b.store(value, b.offset(place, j * plan.input_stride, t.f32))


def views(plan: Plan) -> list[tuple[View, int]]:
    """The views, and the number of the first of the products of each."""
    firsts = itertools.accumulate((view.products for view in plan.views), initial=0)
    return list(zip(plan.views, firsts))


@dataclasses.dataclass(frozen=True)
class _Operands:
    """Transformed weights and inputs of a view at a point: blocks of 16 channels, then single ones."""

    weights: t.Value
    inputs: t.Value
    blocks: t.Index
    rest: t.Index


class _Products(_Function):
    """The function that multiplies, transforms back, and stores."""

    def __init__(self, module: Module, name: str, plan: Plan, more_dims: Sequence[Dim] = ()) -> None:
        super().__init__(module, name, plan, more_dims)
        m = self.m
        split = split_blocked_axes(m.kernel)
        self.epilogue = BlockedEpilogue(self.frame, split, m.columns, m.positions, m.contract.out.name)
        points = plan.transform.points
        self.rows = self.frame.scratch
        self.products = self.b.offset(self.rows, points * points * LANES, t.f32)

    @property
    def scratch(self) -> int:
        """Bytes of scratch memory for one tile and the products of a strip."""
        return _BYTES * (self.plan.points * LANES + self.plan.output_floats)

    def panel(self, strip: t.Index, panel: t.Index, inputs: t.Value) -> None:
        """The outputs of one panel of channels of a strip, from its transformed inputs."""
        b, plan = self.b, self.plan
        size = plan.channel_blocks * LANES * plan.vectors * LANES
        count = self.count(strip)
        groups = b.ceil_div(b.value(count), plan.group)
        weights = b.offset(
            self.frame.pointers[self.m.weights.name], b.mul(panel, plan.products * size), t.f32
        )
        with b.loop(0, plan.points, name="point") as point:
            y = b.offset(self.products, b.mul(point.iv, plan.output_stride), t.f32)
            operands = [
                self._operands(view, first, point.iv, weights, inputs) for view, first in views(plan)
            ]
            with b.loop(0, groups, name="group") as group:
                tiles = b.mul(group.iv, plan.group)
                target = b.offset(y, b.mul(tiles, plan.vectors * LANES), t.f32)
                self._multiply(operands, b.mul(tiles, plan.channel_blocks * LANES), target)
        with b.loop(0, count, name="tile") as loop:
            place = b.offset(self.products, b.mul(loop.iv, plan.vectors * LANES), t.f32)
            tile = self.tile(strip, loop.iv)
            for v_ in range(plan.vectors):
                block = b.add(b.mul(panel, plan.vectors), v_)
                self._transform_output(block, b.offset(place, v_ * LANES, t.f32), tile)

    def _operands(
        self, view: View, first: int, point: t.Index, weights: t.Value, inputs: t.Value
    ) -> _Operands:
        """What a view multiplies at a point: nothing where it has no product."""
        b, plan = self.b, self.plan
        points, size = plan.transform.points, plan.channel_blocks * LANES * plan.vectors * LANES
        row, column = b.udiv(point, points), b.urem(point, points)
        number = b.add(b.add(b.mul(row, view.columns.filter.products), column), first)
        blocks: t.Index = self.m.channels // LANES
        rest: t.Index = self.m.channels % LANES
        if view.products != plan.points:
            inside = b.value(
                b.and_(
                    b.icmp("slt", row, view.rows.filter.products),
                    b.icmp("slt", column, view.columns.filter.products),
                ),
                t.i1,
            )
            number = b.select(inside, b.value(number), b.const(t.i64, first))
            zero = b.const(t.i64, 0)
            blocks, rest = (b.select(inside, b.value(n), zero) for n in (blocks, rest))
        return _Operands(
            b.offset(weights, b.mul(number, size), t.f32),
            b.offset(inputs, b.mul(number, plan.input_stride), t.f32),
            blocks,
            rest,
        )

    def _multiply(self, operands: Sequence[_Operands], tiles: t.Index, target: t.Value) -> None:
        """A group of tiles times a panel of weights at one point, over all views and input channels."""
        b, plan = self.b, self.plan
        zero = b.const(_VECTOR, 0.0)
        sums: list[t.Value] = [zero] * (plan.group * plan.vectors)
        whole, panel_size = self.m.channels // LANES, LANES * plan.vectors * LANES
        for view in operands:
            inputs = b.offset(view.inputs, tiles, t.f32)
            if whole:
                with b.loop(0, view.blocks, carry=sums, name="block") as loop:
                    at = b.offset(inputs, b.mul(loop.iv, plan.group * LANES), t.f32)
                    panel = b.offset(view.weights, b.mul(loop.iv, panel_size), t.f32)
                    loop.next = tuple(self._lanes(panel, at, LANES, list(loop.carried)))
                sums = list(loop.results)
            if self.m.channels % LANES:
                at = b.offset(inputs, whole * plan.group * LANES, t.f32)
                sums = self._lanes(b.offset(view.weights, whole * panel_size, t.f32), at, view.rest, sums)
        for number, value in enumerate(sums):
            b.store(value, b.offset(target, number * LANES, t.f32))

    def _lanes(
        self, weights: t.Value, inputs: t.Value, lanes: t.Index, sums: list[t.Value]
    ) -> list[t.Value]:
        """Add the products of adjacent input channels."""
        b, vectors = self.b, self.plan.vectors
        with b.loop(0, lanes, carry=sums, name="lane") as loop:
            panel = b.offset(weights, b.mul(loop.iv, vectors * LANES), t.f32)
            at = b.offset(inputs, loop.iv, t.f32)
            for v in range(vectors):
                b.prefetch(b.offset(panel, PREFETCH + v * LANES, t.f32))
            loaded = [b.load(b.offset(panel, v * LANES, t.f32), _VECTOR) for v in range(vectors)]
            result = list(loop.carried)
            for tile in range(self.plan.group):
                x = b.splat(b.load(b.offset(at, tile * LANES, t.f32), t.f32), LANES)
                for v in range(vectors):
                    number = tile * vectors + v
                    result[number] = b.fma(x, loaded[v], result[number])
            loop.next = tuple(result)
        return list(loop.results)

    def _transform_output(self, block: t.Index, source: t.Value, tile: _Tile) -> None:
        """AT m A of one tile and 16 channels, by way of AT m in scratch memory, and what follows it."""
        b, em, plan, f = self.b, self.em, self.plan, self.plan.transform
        stride = plan.output_stride
        with b.loop(0, f.points, name="column") as loop:
            place = b.offset(source, b.mul(loop.iv, stride), t.f32)
            column = [b.load(b.offset(place, i * f.points * stride, t.f32), _VECTOR) for i in range(f.points)]
            for i, value in enumerate(apply(b, f.output, column)):
                number = b.add(b.mul(loop.iv, LANES), i * f.points * LANES)
                b.store(value, b.offset(self.rows, number, t.f32))
        em.axes[self.m.batch] = b.value(tile.image)
        if len(self.m.positions) == 3:
            em.axes[self.m.positions[0]] = b.value(tile.plane)
        first, second = plan.phases
        height, width = (em.dim(self.m.extent(axis)) for axis in self.m.positions[-2:])
        rows: t.Index = f.outputs
        if self.is_ragged(0):
            left = b.smax(b.sub(b.value(height), tile.positions[0]), 0)
            rows = b.smin(b.ceil_div(left, first), f.outputs)
        with b.loop(0, rows, name="row") as loop:
            place = b.offset(self.rows, b.mul(loop.iv, f.points * LANES), t.f32)
            values = [b.load(b.offset(place, j * LANES, t.f32), _VECTOR) for j in range(f.points)]
            results = apply(b, f.output, values)
            row = b.value(b.add(tile.positions[0], b.mul(loop.iv, first)))
            columns = [b.value(b.add(tile.positions[1], j * second)) for j in range(f.outputs)]
            places = [lambda column=column: self._at(row, column) for column in columns]
            if self.is_ragged(1):
                for result, place_of, position in zip(results, places, columns, strict=True):
                    with b.if_(b.icmp("slt", position, width), name="inside"):
                        self.epilogue.store(block, [result], [place_of])
            else:
                self.epilogue.store(block, results, places)

    def _at(self, row: t.Value, column: t.Value) -> None:
        self.em.axes[self.m.positions[-2]] = row
        self.em.axes[self.m.positions[-1]] = column


class _Strips(_Products):
    """Chunks of whole strips: each is transformed into scratch memory, and read by all panels."""

    def __init__(self, module: Module, name: str, plan: Plan) -> None:
        self.chunk_count = plan.chunks(plan.strips)
        super().__init__(module, name, plan, [self.chunk_count])

    def emit(self) -> CompiledKernel:
        b, plan = self.b, self.plan
        inputs = b.byte_offset(self.frame.scratch, self.scratch)
        low, high = self.range(plan.strips, self.chunk_count)
        with b.loop(low, high, name="strip") as strip:
            self.transform_inputs(strip.iv, (0, plan.channel_blocks), inputs, self.rows)
            with b.loop(0, plan.panels, name="panel") as panel:
                self.panel(strip.iv, panel.iv, inputs)
        return self.frame.finish(
            "winograd",
            self.chunk_count,
            self.scratch + _BYTES * plan.strip_floats,
            packing={self.m.weights.name: lambda weights: pack(plan, weights)},
        )


class _Shared(_Products):
    """Two phases: all inputs are transformed into the workspace, in chunks of channel blocks; then chunks of
    panels and strips read them, so that large weights are shared out among threads.
    """

    def __init__(self, module: Module, name: str, plan: Plan) -> None:
        self.module = module
        self.transforms = product([plan.strips, plan.channel_blocks])
        self.parts = product([plan.strips, plan.panels])
        self.workspace = product([plan.strips, _BYTES * plan.strip_floats])
        self.chunk_counts = plan.chunks(self.transforms), plan.chunks(self.parts)
        super().__init__(module, name, plan, self.chunk_counts)

    def emit(self) -> CompiledKernel:
        b, plan = self.b, self.plan
        before = self._transform()
        workspace = self.frame.workspace(self.workspace)
        low, high = self.range(self.parts, self.chunk_counts[1])
        with b.loop(low, high, name="part") as part:
            strips = self.em.dim(plan.strips)
            panel, strip = b.udiv(part.iv, strips), b.urem(part.iv, strips)
            start = b.mul(strip, plan.strip_floats)
            self.panel(strip, panel, b.offset(workspace, start, t.f32))
        return self.frame.finish(
            "winograd",
            self.chunk_counts[1],
            self.scratch,
            packing={self.m.weights.name: lambda weights: pack(plan, weights)},
            workspace=self.workspace,
            before=before,
        )

    def _transform(self) -> Phase:
        """The function of the first phase."""
        plan = self.plan
        function = _Function(self.module, f"{self.frame.name}_inputs", plan, self.chunk_counts)
        b = function.b
        workspace = function.frame.workspace(self.workspace)
        low, high = function.range(self.transforms, self.chunk_counts[0])
        with b.loop(low, high, name="part") as part:
            block, strip = b.urem(part.iv, plan.channel_blocks), b.udiv(part.iv, plan.channel_blocks)
            start = b.mul(strip, plan.strip_floats)
            target = b.offset(workspace, start, t.f32)
            after = b.add(block, 1)
            function.transform_inputs(strip, (block, after), target, function.frame.scratch)
        function.frame.close()
        return Phase(function.frame.name, self.chunk_counts[0])
