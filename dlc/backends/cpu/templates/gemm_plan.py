"""Blocking of a matrix multiplication: register tiles, panels of columns, blocks of rows and depth, chunks.

The order in which an element is summed depends on the depth alone: blocks of the depth are summed one after
the other from zero and added in order, which is also what keeps the error of long sums small.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu.access import register_type
from dlc.backends.cpu.templates.gemm_form import LANES, GemmForm
from dlc.ir.dims import Dim, ceildiv, maximum, minimum, product
from dlc.target import CpuTarget

#: Vectors of columns and rows of the usual tiles (oneDNN, MLAS) with 32 registers of 16 lanes, and their
#: relative speed. More accumulators would spill.
_TILES_32 = ((4, 6, 1.0), (3, 8, 1.0), (2, 12, 0.98), (1, 12, 0.8))
_SPEED = {vectors: speed for vectors, _, speed in _TILES_32}
#: Rows that share a block of columns while it is in the cache: 96 to 384 are equally fast, 48 is 2 % slower.
ROW_BLOCK = 192
#: Rows of a block whose left operand is computed into scratch memory and has a depth known at run time.
COMPUTED_ROWS = 64
#: Multiply-adds that make a chunk, some 8 us of one core.
GRAIN = 1 << 19
MAX_CHUNKS = 64
#: Rows up to which dot products beat packing the right operand.
DOT_ROWS = 4
#: Rows whose multiplications take as long as fetching the matrix from memory.
FETCH_ROWS = 6


@dataclasses.dataclass(frozen=True)
class Tile:
    """Accumulators that live in registers: rows times vectors of 16 columns."""

    rows: int
    vectors: int


@dataclasses.dataclass(frozen=True)
class GemmPlan:
    """How a product is cut up.

    Columns go in panels of `panel` vectors, rows in blocks of `row_block`, the depth in blocks of
    `depth_block`. `tiles` serve the rows of a block: the last one whole groups, the others what remains
    (powers of two where the number of rows is known at run time only). Tiles of an incomplete panel have
    `narrow` vectors (0: there is none). With `dots`, sums are dot products along the depth instead.

    `groups` are runs of panels; a unit of work is one batch, one block of rows and one group.
    """

    form: GemmForm
    panel: int
    tiles: tuple[Tile, ...]
    narrow: int
    row_block: int
    row_blocks: Dim
    depth_block: int
    depth_blocks: Dim
    panels: Dim
    groups: Dim
    units: Dim
    chunks: Dim
    dots: bool

    @property
    def left_in_place(self) -> bool:
        """Whether the left operand is read where it lies."""
        plain = self.form.left.plain
        return plain is not None and (not self.dots or plain.reduce == 1)

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.panel * LANES

    @property
    def element_bytes(self) -> int:
        """Bytes of an element of the sum."""
        return register_type(self.form.dtype).bytes


def plan_gemm(form: GemmForm, target: CpuTarget) -> GemmPlan:
    """The blocking of `form` on `target`; the same whatever the number of threads."""
    size = register_type(form.dtype).bytes
    registers_per_vector = max(1, LANES * size * 8 // target.vector_bits)
    panel, main = choose_tile(form.row.extent, form.column.extent, target, registers_per_vector)
    dots = _are_dots(form)
    rows, depth = form.row.extent, form.reduce.extent
    longest = 256 if registers_per_vector == 1 else 128
    if isinstance(depth, int):
        count = max(1, -(-depth // longest))
        depth_block = max(1, -(-depth // count))
        depth_blocks: Dim = count
    else:
        depth_blocks, depth_block = maximum(1, ceildiv(depth, longest)), longest
    row_block = _row_block(form, target, main.rows, size)
    row_blocks = ceildiv(rows, row_block)
    panels = ceildiv(form.column.extent, panel * LANES)
    points = product([axis.extent for axis in form.batch]) * row_blocks
    batch = product([axis.extent for axis in form.batch])
    work = batch * depth * form.column.extent * (rows + FETCH_ROWS)
    wanted = maximum(1, minimum(MAX_CHUNKS, (work + GRAIN // 2) // GRAIN))
    groups = minimum(panels, ceildiv(wanted, maximum(1, points)))
    units = points * groups
    return GemmPlan(
        form,
        panel,
        _tiles(main, rows, panel, registers_per_vector),
        _narrow(form.column.extent, panel, main),
        row_block,
        row_blocks,
        depth_block,
        depth_blocks,
        panels,
        groups,
        units,
        minimum(units, wanted),
        dots,
    )


def _are_dots(form: GemmForm) -> bool:
    """Whether a few rows meet columns that are contiguous along the depth."""
    rows, right = form.row.extent, form.right.plain
    few = isinstance(rows, int) and rows <= DOT_ROWS
    return few and form.packed is None and right is not None and right.reduce == 1


def choose_tile(rows: Dim, columns: Dim, target: CpuTarget, per_vector: int) -> tuple[int, Tile]:
    """The vectors of a panel, and the tile of whole groups of rows."""
    registers = target.vector_registers
    most = 4 if not isinstance(columns, int) else max(1, min(4, -(-columns // LANES)))
    if registers < 32 or per_vector > 1:
        # Rows such that accumulators, one vector of the panel and one broadcast fit.
        vectors = 1 if registers < 32 else min(2, most)
        panel = most - most % vectors
        return panel, Tile(max(1, (registers - 1) // (vectors * per_vector) - 1), vectors)
    best, best_cost = (3, 8), float("inf")
    for vectors, tile_rows, speed in _TILES_32:
        cost = 1.0 / speed
        if isinstance(columns, int):
            count = max(1, -(-columns // LANES))
            last = count % vectors
            cost = (count - last) / speed + (last / _SPEED[last] if last else 0.0)
        if isinstance(rows, int) and rows > tile_rows:
            cost *= -(-rows // tile_rows) * tile_rows / rows
        if cost < best_cost:
            best, best_cost = (vectors, tile_rows), cost
    return best[0], Tile(best[1], best[0])


def _tiles(main: Tile, rows: Dim, panel: int, per_vector: int) -> tuple[Tile, ...]:
    """The tiles that remainders of rows need, then the main one."""

    def wide(count: int) -> Tile:
        vectors = main.vectors
        while 2 * vectors <= panel and panel % (2 * vectors) == 0 and 2 * vectors * count * per_vector <= 8:
            vectors *= 2
        return Tile(count, vectors)

    if isinstance(rows, int):
        rest = rows % main.rows
        return (*([wide(rest)] if rest else []), main)
    counts = [count for count in (8, 4, 2, 1) if count < main.rows]
    return (*(wide(count) for count in counts), main)


def _narrow(columns: Dim, panel: int, main: Tile) -> int:
    """The vectors of the tiles of an incomplete panel."""
    if not isinstance(columns, int):
        return 1 if panel > 1 else 0
    last = -(-columns // LANES) % panel
    return 1 if last and main.vectors == 1 else last


def _row_block(form: GemmForm, target: CpuTarget, group: int, size: int) -> int:
    """Rows of a block; a left operand that is computed stays in half of the second-level cache."""
    rows, depth = form.row.extent, form.reduce.extent
    block = ROW_BLOCK
    if form.left.plain is None:
        fitting = target.l2 // 2 // (max(depth, 1) * size) if isinstance(depth, int) else COMPUTED_ROWS
        block = min(block, max(group, fitting))
    if isinstance(rows, int):
        block = -(-rows // max(1, -(-rows // block)))
    return max(group, -(-block // group) * group)
