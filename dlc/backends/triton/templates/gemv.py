"""Products with a vector, or a few: memory bounds them, as each element of the large operand is used once.

A program has a block of the many points and sums element by element over blocks of the depth, for each of the
few points; only at the end are the sums of a point added up. The large operand is read once, in the widest
loads, in the order in which it lies; where the blocks are fewer than a GPU needs to keep its memory busy the
depth is divided among programs (`contraction_split`).
"""

from __future__ import annotations

import dataclasses
import math

from dlc.backends.triton import tiles
from dlc.backends.triton.elements import register_type
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.offsets import Tile
from dlc.backends.triton.templates import contraction_form, pointwise
from dlc.backends.triton.templates.accesses import Access
from dlc.backends.triton.templates.contraction_form import Form
from dlc.backends.triton.templates.contraction_loop import steps
from dlc.backends.triton.templates.contraction_split import divided_axis, split
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.ir.dims import Dim, bounds
from dlc.lowering import expr as e
from dlc.lowering.kernel import Axis, Kernel
from dlc.target import GpuTarget

#: The most points of the small side; from there on matrix instructions win, although most of a tile is empty.
FEW = 4
#: Bits that a program loads at once, all its threads together: memory answers after the time of some hundred
#: cycles, in which each multiprocessor must have asked for tens of KiB.
_BITS = 1 << 17
#: Programs a multiprocessor that keep its memory busy.
_PROGRAMS = 4
#: Bytes of a row that a block has at least, two sectors of memory; elements of the depth.
_NARROWEST, _LEAST_DEPTH = 64, 64
#: Parts of the depth that cost little to add.
_USUAL_CHUNKS = 8
#: Into how many parts the depth may be divided.
_CHUNKS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
#: The points of an extent that is not known.
_OPEN = 4096
#: The shortest part of the depth that is worth a program of its own.
_SHORTEST = 128


@dataclasses.dataclass(frozen=True)
class Config:
    """The points and the depth of a program's block, its warps, and the parts of the depth."""

    points: int
    depth: int
    warps: int
    chunks: int


def match(part: Kernel) -> Form | Declined:
    """Takes a contraction with at most FEW rows or columns, and what follows it at the same points."""
    form = contraction_form.match(part)
    if isinstance(form, Declined):
        return form
    few = form.few
    if few is None or few > FEW:
        return Declined("both sides have more points than a few")
    return form


def candidates(form: Form, target: GpuTarget) -> list[Config]:
    """Blocks for a product, the best first: others are half and twice as high."""
    first = _config(form, target, 0)
    return list(dict.fromkeys([first, *(_config(form, target, shift) for shift in (-1, 1))]))


def _config(form: Form, target: GpuTarget, shift: int) -> Config:
    _, many, access = _sides(form)
    depth_extent, points_extent = tiles.extent_of(form.inner), tiles.extent_of(many)
    size = max(512, _BITS // max(8, access.bits) // tiles.next_power(form.few or 1))
    if access.is_deep:
        depth = tiles.fitting(depth_extent, 16, 512)
    else:
        depth = tiles.fitting(depth_extent, 16, max(16, size // 128))
    depth = _dividing(depth_extent, depth)
    points = tiles.fitting(points_extent, 1, max(1, size // depth))
    batch = _least(tiles.extent_of(form.batch))
    # Narrower blocks of a short side keep all of the GPU busy.
    narrowest = 1 if access.is_deep else _NARROWEST * 8 // max(8, access.bits)
    parts = min(_USUAL_CHUNKS, max(1, _known(depth_extent, _SHORTEST)))
    wanted = _PROGRAMS * target.multiprocessors // 2
    while points > narrowest and _known(points_extent, points) * batch * parts < wanted:
        points //= 2
    if not access.is_deep:
        depth = _dividing(depth_extent, tiles.fitting(depth_extent, 16, size // points))
    points = max(1, points << shift if shift >= 0 else points >> -shift)
    warps = min(8, max(1, points * depth // 1024))
    blocks = _known(points_extent, points) * batch
    return Config(points, depth, warps, _chunks(form, target, blocks, depth))


def _dividing(extent: Dim, depth: int) -> int:
    """A block of at most `depth` that divides the extent, unless that is much less."""
    while depth > _LEAST_DEPTH and isinstance(extent, int) and extent % depth:
        depth //= 2
    return depth


def _known(extent: Dim, block: int) -> int:
    """The blocks of an extent; an open one is taken to be long."""
    points = extent if isinstance(extent, int) else max(bounds(extent)[0] or 1, _OPEN)
    return max(1, math.ceil(points / block))


def _least(extent: Dim) -> int:
    """The least value of an extent, but 1."""
    return max(1, bounds(extent)[0] or 1)


def _chunks(form: Form, target: GpuTarget, blocks: int, depth: int) -> int:
    """The parts of the depth that give every multiprocessor enough programs."""
    axis = divided_axis(form)
    if axis is None or not isinstance(axis.extent, int) or len(form.inner) > 1:
        return 1
    taken = 1
    for chunks in _CHUNKS:
        length = axis.extent // chunks
        if blocks * taken >= _PROGRAMS * target.multiprocessors // 2 or length < _SHORTEST:
            break
        if axis.extent % chunks == 0 and length % depth == 0:
            taken = chunks
    return taken


def _sides(form: Form) -> tuple[tuple[Axis, ...], tuple[Axis, ...], Access]:
    """The axes of the few points and of the many, and how the operand of the many is loaded."""
    if form.few == tiles.extent_of(form.rows):
        return form.rows, form.columns, form.right_access
    return form.columns, form.rows, form.left_access


def emit(part: Kernel, form: Form, target: GpuTarget, config: Config | None = None) -> Call | Launches:
    """One program a block of the many points; a divided depth takes a second launch."""
    config = config or candidates(form, target)[0]
    if config.chunks == 1:
        return _Gemv(part, form, config).run()
    halves = split(part, form, config.chunks)
    first, second = contraction_form.match(halves.sums), pointwise.match(halves.rest)
    assert isinstance(first, Form) and isinstance(second, pointwise.Form)
    calls = (_Gemv(halves.sums, first, config).run(), pointwise.emit(halves.rest, second, target))
    return Launches(calls, (halves.workspace,))


class _Gemv:
    def __init__(self, part: Kernel, form: Form, config: Config) -> None:
        self.form = form
        self.config = config
        self.builder = FunctionBuilder(part)
        self.few, self.many, _ = _sides(form)
        self.few_first = form.few == tiles.extent_of(form.rows)
        self.kind = register_type(form.contract.out.dtype)

    def run(self) -> Call:
        builder, form, config = self.builder, self.form, self.config
        blocks = tiles.blocks(tiles.extent_of(self.many), config.points)
        builder.line(f"program = {tiles.program_id(builder, 0)}")
        first = "program"
        if form.batch:
            text = builder.dim(blocks)
            builder.line(f"batch = program // ({text})")
            tiles.take_apart(builder, "batch", form.batch)
            first = f"program % ({text})"
        builder.line(f"point = ({first} * {config.points} + tl.arange(0, {config.points}))[:, None]")
        point = tiles.tile(builder, "point", self.many, config.points)
        shape = (config.points, config.depth)
        numbers = range(tiles.extent_of(self.few))  # type: ignore[arg-type]
        sums = [builder.assign("acc", f"tl.full({shape}, 0, {self.kind})") for _ in numbers]
        with steps(builder, form.outer, form.inner, config.depth) as start:
            self._step(point, start, sums)
        for number, total in zip(numbers, sums):
            self._few(number)
            outer = Emitter(builder, Points((point,)), maps=form.maps)
            outer.locals[form.contract.out.name] = builder.assign("r", f"tl.sum({total}, 1)[:, None]")
            for store in form.stores:
                outer.store(store)
        grid = (blocks * tiles.extent_of(form.batch),)
        return builder.finish("gemv", grid, num_warps=config.warps)

    def _few(self, number: int) -> None:
        """Write the indices of one of the few points."""
        for axis in reversed(self.few):
            extent = axis.extent
            assert isinstance(extent, int)
            self.builder.line(f"{axis.name} = {number % extent}")
            number //= extent

    def _step(self, point: Tile, start: str, sums: list[str]) -> None:
        """Write the products of one block, added to the sums."""
        builder, form = self.builder, self.form
        first = f"{start} + " if start != "0" else ""
        builder.line(f"depth = ({first}tl.arange(0, {self.config.depth}))[None, :]")
        depth = tiles.tile(builder, "depth", form.inner, self.config.depth)
        contract = form.contract
        one, other = (contract.left, contract.right) if self.few_first else (contract.right, contract.left)
        large = self._value(other, (point, depth), "large")
        for number, total in enumerate(sums):
            self._few(number)
            text = f"{self._value(one, (depth,), 'small')} * {large}"
            if depth.bound is not None:
                text = f"tl.where({depth.bound}, {text}, 0)"
            builder.line(f"{total} += {text}")

    def _value(self, value: e.Expr, points: tuple[Tile, ...], name: str) -> str:
        emitter = Emitter(self.builder, Points(points), maps=self.form.maps)
        return self.builder.assign(name, emitter.value(value))
