"""When a convolution runs by Winograd's algorithm, with which tiles, and how its work is shared out."""

from __future__ import annotations

import dataclasses
import itertools
import math

from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.convolution import CHUNK_WORK, MAX_CHUNKS
from dlc.backends.cpu.templates.convolution_form import LANES, ConvolutionForm
from dlc.backends.cpu.templates.template import Declined
from dlc.backends.cpu.templates.winograd_transform import Filter, Transform, transform
from dlc.ir.dims import Dim, ceildiv, free_symbols, maximum, minimum, product
from dlc.lowering.kernel import Window
from dlc.target import CpuTarget

#: Taps along rows and columns of the convolutions that are taken.
TAPS = 3
#: A part of the core's L2 cache: transformed weights of this size stay there while strips of tiles pass.
_RESIDENT_BYTES = 1 << 20
#: Tiles of a strip whose transformed weights stay in the L2 cache.
_STRIP_TILES = 28
#: Bytes of transformed inputs of a strip that lets large weights pass once.
_LARGE_STRIP_BYTES = 4 << 20
#: Strips that are enough to share out among threads.
_MANY_STRIPS = 6
#: Cycles of a core, measured, for a point of an input transform and of an output transform, each of 16
#: channels; multiply-adds of vectors a cycle; bytes of weights that come from memory, behind the arithmetic.
_INPUT_CYCLES = 4.0
_OUTPUT_CYCLES = 2.7
_PRODUCTS_PER_CYCLE = 2
_BYTES_PER_CYCLE = 12
#: Positions of an image whose size is only known at run time, for the estimate.
_UNKNOWN_PIXELS = 10_000
#: Winograd's algorithm must promise to save a tenth, since it rounds more often.
_WORTH = 0.9


@dataclasses.dataclass(frozen=True)
class AxisView:
    """How a view reads an axis: input `offset + step * k` of a tile, for each k, by `filter`, whose taps are
    numbers `taps` of the convolution's.
    """

    offset: int
    step: int
    filter: Filter
    taps: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class View:
    """A part of the taps as a filter of its own; the outputs of all views are added before the output
    transform. `depth` is the tap along a third axis, which is not transformed, and `plane` how many planes
    of the input before the tile's it lies.
    """

    depth: int
    plane: int
    rows: AxisView
    columns: AxisView

    @property
    def products(self) -> int:
        """Matrix products: points of the view in two dimensions."""
        return self.rows.filter.products * self.columns.filter.products


@dataclasses.dataclass(frozen=True)
class Plan:
    """A convolution as strips of `strip` tiles, each a multiple of `group` tiles of a register tile.

    `rows` and `columns` of tiles cover the positions of one of the `phases` images of a dilated convolution
    each; `vectors` of 16 output channels make a panel. With `shared`, all inputs are transformed in a first
    phase into a workspace that all threads read; else each strip's in scratch memory.
    """

    match: ConvolutionForm
    transform: Transform
    views: tuple[View, ...]
    rows: Dim
    columns: Dim
    group: int
    strip: int
    vectors: int
    shared: bool

    @property
    def windows(self) -> tuple[Window, Window]:
        """The windows of rows and columns."""
        *_, first, second = self.match.contract.spec.windows
        return first, second

    @property
    def depth(self) -> Dim:
        """Planes of the output."""
        return self.match.extent(self.match.positions[0]) if len(self.match.positions) == 3 else 1

    @property
    def phases(self) -> tuple[int, int]:
        """Distance of neighbouring positions of a tile, by axis: tiles of dilated convolutions interleave."""
        first, second = self.windows
        return first.dilation, second.dilation

    @property
    def tiles(self) -> Dim:
        """Tiles of an image, all planes and all phases of a dilated convolution counted."""
        return product([self.rows, self.columns, *self.phases, self.depth])

    @property
    def strips(self) -> Dim:
        """Strips of all images."""
        return ceildiv(product([self.match.extent(self.match.batch), self.tiles]), self.strip)

    @property
    def points(self) -> int:
        """Points of the transform in two dimensions."""
        return self.transform.points**2

    @property
    def products(self) -> int:
        """Matrix products of all views."""
        return sum(view.products for view in self.views)

    @property
    def channel_blocks(self) -> int:
        """Blocks of 16 input channels."""
        return -(-self.match.channels // LANES)

    @property
    def panels(self) -> int:
        """Panels of output channels."""
        return -(-self.match.outputs // (LANES * self.vectors))

    @property
    def input_stride(self) -> int:
        """Floats of the transformed inputs of a strip at one point."""
        return off_page(self.strip * self.channel_blocks * LANES)

    @property
    def strip_floats(self) -> int:
        """Floats of the transformed inputs of a strip."""
        return self.products * self.input_stride

    @property
    def output_stride(self) -> int:
        """Floats of the products of a strip and a panel at one point."""
        return off_page(self.strip * self.vectors * LANES)

    @property
    def output_floats(self) -> int:
        """Floats of the products of a strip and a panel."""
        return self.points * self.output_stride

    def work(self) -> Dim:
        """Multiply-adds of the products."""
        return product([self.strips, self.strip * self.products * self.match.channels * self.match.outputs])

    def chunks(self, units: Dim) -> Dim:
        """How many chunks `units` of equal work are shared out in."""
        work = self.work() // CHUNK_WORK
        return minimum(units, MAX_CHUNKS, maximum(1, work))


def off_page(floats: int) -> int:
    """A stride that is no multiple of 4096 bytes: stores at such strides all fall into one cache set."""
    return floats + LANES if floats * 4 % 4096 == 0 else floats


def make_plan(module: Module, m: ConvolutionForm) -> Plan | Declined:
    """The plan of a matched convolution, if Winograd's algorithm takes it and pays."""
    reason = _reason(module, m)
    if reason:
        return Declined(reason)
    stride = m.contract.spec.windows[-1].stride
    candidates = [_draft(m, transform(outputs, TAPS if stride == 1 else 2)) for outputs in (2, 4)]
    best = min(candidates, key=_cycles)
    if _cycles(best) > _WORTH * _direct_cycles(m):
        return Declined("direct sums are as fast")
    return _complete(module, best)


def _reason(module: Module, m: ConvolutionForm) -> str:
    """Why Winograd's algorithm does not take a convolution; "" if it does."""
    if len(m.kernel_shape) not in (2, 3) or m.kernel_shape[-2:] != (TAPS, TAPS):
        return "not 3x3 taps"
    *_, first, second = m.contract.spec.windows
    if first.stride != second.stride or first.stride > 2:
        return "the convolution skips positions"
    if first.stride == 2 and max(first.dilation, second.dilation) > 1:
        return "the convolution is dilated and skips positions"
    if m.groups != 1 or not m.blocked_input:
        return "groups, or the channels of the input are not in blocks"
    if module.policy.direct_sums:
        return "accuracy='strict' keeps direct sums"
    if module.policy.small_weights:
        return "memory='low' keeps the weights as they are"
    return ""


def _draft(m: ConvolutionForm, f: Transform) -> Plan:
    """A plan without its blocking."""
    *depth, first, second = m.contract.spec.windows
    taps = range(m.kernel_shape[0]) if depth else range(1)
    planes = [(tap, tap * depth[0].dilation if depth else 0) for tap in taps]
    views = itertools.product(planes, _axis_views(first, f), _axis_views(second, f))
    rows, columns = (
        ceildiv(ceildiv(m.extent(axis), window.dilation), f.outputs)
        for axis, window in zip(m.positions[-2:], (first, second), strict=True)
    )
    found = tuple(View(tap, plane, row, column) for (tap, plane), row, column in views)
    return Plan(m, f, found, rows, columns, 1, 1, 1, False)


def _axis_views(window: Window, f: Transform) -> list[AxisView]:
    """The views of one axis: of a stride of two the even taps, and the odd one."""
    if window.stride == 1:
        return [AxisView(0, window.dilation, f.taps, (0, 1, 2))]
    return [AxisView(0, 2, f.taps, (0, 2)), AxisView(1, 2, f.single, (1,))]


def _complete(module: Module, draft: Plan) -> Plan:
    """The plan with its blocking."""
    m = draft.match
    depth = draft.channel_blocks * LANES
    blocks = -(-m.outputs // LANES)
    wanted = _STRIP_TILES
    if 4 * draft.products * m.channels * m.outputs > _RESIDENT_BYTES:
        wanted = max(wanted, _LARGE_STRIP_BYTES // (4 * draft.products * depth))
    group, vectors = _register_tile(module.target, blocks, draft.tiles, wanted)
    strip = _strip(draft.tiles, group, wanted)
    found = dataclasses.replace(draft, group=group, strip=strip, vectors=vectors)
    per_image = ceildiv(draft.tiles, strip)
    few = isinstance(per_image, int) and per_image < _MANY_STRIPS
    return dataclasses.replace(found, shared=few and free_symbols(found.strips) <= module.entry_symbols)


def _cycles(draft: Plan) -> float:
    """Estimated cycles for one image; images of unknown size count as large."""
    m, f = draft.match, draft.transform
    channels, blocks = draft.channel_blocks, -(-m.outputs // LANES)
    count = draft.tiles if isinstance(draft.tiles, int) else _UNKNOWN_PIXELS / f.outputs**2
    each = draft.products * m.channels * blocks / _PRODUCTS_PER_CYCLE
    each += _INPUT_CYCLES * draft.products * channels + _OUTPUT_CYCLES * draft.points * blocks
    return max(count * each, 4 * LANES * draft.products * m.channels * blocks / _BYTES_PER_CYCLE)


def _direct_cycles(m: ConvolutionForm) -> float:
    """Estimated cycles of the direct sums for one image."""
    pixels = product([m.extent(axis) for axis in m.positions])
    count = pixels if isinstance(pixels, int) else _UNKNOWN_PIXELS
    weights = math.prod(m.kernel_shape) * m.channels * -(-m.outputs // LANES)
    return max(count * weights / _PRODUCTS_PER_CYCLE, 4 * LANES * weights / _BYTES_PER_CYCLE)


def _register_tile(target: CpuTarget, blocks: int, tiles: Dim, wanted: int) -> tuple[int, int]:
    """Tiles and vectors of output channels whose products are summed in registers."""
    registers = target.vector_registers * target.vector_bits // 512
    best: tuple[float, int, int] | None = None
    for vectors in (2, 1, 3, 4):
        if blocks % vectors:
            continue
        most = min((registers - vectors - 1) // vectors, LANES)
        for group in range(max(1, most // 2), most + 1):
            strip = _strip(tiles, group, wanted)
            waste = 1.0
            if isinstance(tiles, int) and tiles:
                last = (tiles - 1) % strip + 1
                waste = (tiles - last + -(-last // group) * group) / tiles
            loads = (group + vectors) / (group * vectors)
            latency = max(group * vectors, 8 + vectors) / (group * vectors)
            cost = waste * latency * (1 + 0.15 * loads) * (1 + 0.02 * vectors)
            if best is None or cost < best[0] - 1e-9:
                best = (cost, group, vectors)
    assert best is not None
    return best[1], best[2]


def _strip(tiles: Dim, group: int, wanted: int) -> int:
    """Tiles of a strip: whole groups, about `wanted`, such that the strips of an image are equally full."""
    if not isinstance(tiles, int):
        return max(group, wanted // group * group)
    strips = max(1, round(tiles / wanted))
    even = -(-tiles // strips)
    return max(group, -(-even // group) * group)
