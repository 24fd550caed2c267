"""When a convolution runs by Winograd's algorithm, with which tiles, and how its work is shared out."""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates import convolution
from dlc.backends.cpu.templates.convolution import LANES
from dlc.backends.cpu.templates.template import Declined
from dlc.backends.cpu.templates.winograd_transform import TAPS, Transform, transform
from dlc.ir.dims import Dim, ceildiv, free_symbols, maximum, minimum, product
from dlc.target import CpuTarget

#: A part of the core's L2 cache: transformed weights of this size stay there while strips of tiles pass.
_RESIDENT_BYTES = 1 << 20
#: Tiles of a strip whose transformed weights stay in the L2 cache.
_STRIP_TILES = 28
#: Bytes of transformed inputs of a strip that lets large weights pass once.
_LARGE_STRIP_BYTES = 4 << 20
#: Strips that are enough to share out among threads.
_MANY_STRIPS = 6
#: Cycles of a core, measured: a vector's multiply-adds at two a cycle; one input transform of F(4, 3) and of
#: F(2, 3); one output transform; bytes of weights that come from memory, behind the arithmetic, in a cycle.
_INPUT_CYCLES = {4: 150, 2: 50}
_OUTPUT_CYCLES = {4: 100, 2: 35}
_BYTES_PER_CYCLE = 12
#: Positions of an image whose size is only known at run time, for the estimate.
_UNKNOWN_PIXELS = 10_000
#: Winograd's algorithm must promise to save a tenth, since it rounds more often.
_WORTH = 0.9


@dataclasses.dataclass(frozen=True)
class Plan:
    """A convolution as strips of `strip` tiles, each a multiple of `group` tiles of a register tile.

    `rows` and `columns` of tiles cover the positions of one of the `phases` images of a dilated convolution
    each; `vectors` of 16 output channels make a panel. With `shared`, all inputs are transformed in a first
    phase into a workspace that all threads read; else each strip's in scratch memory.
    """

    match: convolution.Match
    transform: Transform
    rows: Dim
    columns: Dim
    group: int
    strip: int
    vectors: int
    shared: bool

    @property
    def dilations(self) -> tuple[int, int]:
        """Distance of neighbouring taps, by axis."""
        first, second = self.match.contract.spec.windows
        return first.dilation, second.dilation

    @property
    def tiles(self) -> Dim:
        """Tiles of an image, all phases of a dilated convolution counted."""
        return product([self.rows, self.columns, *self.dilations])

    @property
    def strips(self) -> Dim:
        """Strips of all images."""
        return ceildiv(product([self.match.extent(self.match.batch), self.tiles]), self.strip)

    @property
    def products(self) -> int:
        """Matrix products: points of the transform in two dimensions."""
        return self.transform.points**2

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
        return self.products * self.output_stride

    def work(self) -> Dim:
        """Multiply-adds of the products."""
        return product([self.strips, self.strip * self.products * self.match.channels * self.match.outputs])

    def chunks(self, units: Dim) -> Dim:
        """How many chunks `units` of equal work are shared out in."""
        work = self.work() // convolution.CHUNK_WORK
        return minimum(units, convolution.MAX_CHUNKS, maximum(1, work))


def off_page(floats: int) -> int:
    """A stride that is no multiple of 4096 bytes: stores at such strides all fall into one cache set."""
    return floats + LANES if floats * 4 % 4096 == 0 else floats


def plan(module: Module, m: convolution.Match) -> Plan | Declined:
    """The plan of a matched convolution, if Winograd's algorithm takes it and pays."""
    windows = m.contract.spec.windows
    if len(windows) != 2 or m.kernel_shape != (TAPS, TAPS):
        return Declined("not 3x3 taps")
    if any(window.stride != 1 for window in windows):
        return Declined("the convolution skips positions")
    if m.groups != 1 or not m.blocked_input:
        return Declined("groups, or the channels of the input are not in blocks")
    if module.policy.direct_sums:
        return Declined("accuracy='strict' keeps direct sums")
    if module.policy.small_weights:
        return Declined("memory='low' keeps the weights as they are")
    best = min((2, 4), key=lambda outputs: _cycles(m, outputs))
    if _cycles(m, best) > _WORTH * _direct_cycles(m):
        return Declined("direct sums are as fast")
    return _plan(module, m, transform(best))


def _plan(module: Module, m: convolution.Match, f: Transform) -> Plan:
    rows, columns = _grid(m, f.outputs)
    draft = Plan(m, f, rows, columns, 1, 1, 1, False)
    blocks = -(-m.outputs // LANES)
    weights = 4 * f.points**2 * m.channels * m.outputs
    wanted = _STRIP_TILES
    if weights > _RESIDENT_BYTES:
        wanted = max(wanted, _LARGE_STRIP_BYTES // (4 * f.points**2 * draft.channel_blocks * LANES))
    group, vectors = _register_tile(module.target, blocks, draft.tiles, wanted)
    strip = _strip(draft.tiles, group, wanted)
    found = dataclasses.replace(draft, group=group, strip=strip, vectors=vectors)
    per_image = ceildiv(draft.tiles, strip)
    few = isinstance(per_image, int) and per_image < _MANY_STRIPS
    return dataclasses.replace(found, shared=few and free_symbols(found.strips) <= module.entry_symbols)


def _grid(m: convolution.Match, outputs: int) -> tuple[Dim, Dim]:
    """Rows and columns of tiles that cover the positions; of a dilated convolution, those of one phase."""
    first, second = (
        ceildiv(ceildiv(m.extent(axis), window.dilation), outputs)
        for axis, window in zip(m.positions, m.contract.spec.windows, strict=True)
    )
    return first, second


def _cycles(m: convolution.Match, outputs: int) -> float:
    """Estimated cycles of F(outputs, 3) for one image; images of unknown size count as large."""
    f = transform(outputs)
    channels, blocks = -(-m.channels // LANES), -(-m.outputs // LANES)
    windows = m.contract.spec.windows
    tiles = product([*_grid(m, outputs), *(window.dilation for window in windows)])
    count = tiles if isinstance(tiles, int) else _UNKNOWN_PIXELS / outputs**2
    each = f.points**2 * m.channels / 2 * blocks
    each += _INPUT_CYCLES[outputs] * channels + _OUTPUT_CYCLES[outputs] * blocks
    return max(count * each, 4 * LANES * f.points**2 * m.channels * blocks / _BYTES_PER_CYCLE)


def _direct_cycles(m: convolution.Match) -> float:
    """Estimated cycles of the direct sums for one image."""
    pixels = product([m.extent(axis) for axis in m.positions])
    count = pixels if isinstance(pixels, int) else _UNKNOWN_PIXELS
    blocks = -(-m.outputs // LANES)
    weights = TAPS * TAPS * m.channels * blocks
    return max(count * weights / 2, 4 * LANES * weights / _BYTES_PER_CYCLE)


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
