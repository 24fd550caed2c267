"""How attention is cut into units of work, blocks of queries and of keys; what its scratch memory holds."""
from __future__ import annotations

import dataclasses

from dlc.backends.cpu.templates.attention_form import AttentionForm
from dlc.backends.cpu.templates.attention_tile import Tile, tiles
from dlc.backends.cpu.templates.row_product import FLOAT, LANES
from dlc.ir.dims import Dim, ceildiv, maximum, minimum, product
from dlc.target import CpuTarget

#: Elements of the keys of a block: their panels stay in a core's L2 cache.
KEY_ELEMENTS = 1 << 17
#: Queries up to which keys are read where they lie: transposing them costs as much as some 8 queries.
DIRECT_ROWS = 8
#: Passes over the values, each of a part of their features, from which on a copy in one piece pays.
MOST_PASSES = 2
#: Keys of a block if they are read where they lie.
DIRECT_KEYS = 4096
#: Blocks of queries that share the panels of a unit of work.
GROUP_BLOCKS = 16
#: Multiply-adds that make a chunk, some 50 us of one core.
CHUNK_WORK = 2_000_000
MAX_CHUNKS = 64
LINE = 64


@dataclasses.dataclass(frozen=True)
class AttentionPlan:
    """The tiles for blocks of queries of each size, smallest first, and the extents of all loops.

    Queries of all heads that share a key head are numbered as one (`rows`), those at one position together;
    `group_rows` of them make a unit. `key_block` keys, a multiple of 16, are taken at a time. If `direct`,
    there is one block of queries, and the keys are not transposed. Strides are in elements; the others bytes
    from the start of scratch memory. With `copies_values` many queries read a copy of values that lie apart.
    """

    form: AttentionForm
    tiles: tuple[Tile, ...]
    direct: bool
    copies_values: bool
    rows: Dim
    group_rows: int
    groups: Dim
    units: Dim
    chunks: Dim
    key_block: int
    query_stride: int
    score_stride: int
    value_stride: int
    scores_at: int
    panels_at: int
    staging_at: int
    values_at: int
    results_at: int
    sums_at: int
    states_at: int
    bytes: int

    @property
    def block_rows(self) -> int:
        """Queries of a block."""
        return self.tiles[-1].rows

    @property
    def several_key_blocks(self) -> bool:
        """Whether there may be more than one block of keys."""
        keys = self.form.key.extent
        return not (isinstance(keys, int) and keys <= self.key_block)


def plan_attention(form: AttentionForm, target: CpuTarget) -> AttentionPlan:
    """The plan for a target; it depends on nothing else than the kernel."""
    keys = form.key.extent
    group: Dim = form.group.extent if form.group else 1
    rows = form.query.extent * group
    used = _used_tiles(tiles(target), rows)
    block = used[-1].rows
    direct = isinstance(rows, int) and rows <= min(DIRECT_ROWS, block) and form.keys.rows is not None
    apart = form.values.rows is not None and form.values.rows.stride != form.value_size
    copies = apart and not direct and form.value_size > MOST_PASSES * used[-1].vectors * LANES
    key_block = max(LANES, KEY_ELEMENTS // max(form.head_size, form.value_size) // LANES * LANES)
    if direct:
        key_block = DIRECT_KEYS
    if isinstance(keys, int):
        key_block = max(LANES, min(key_block, _whole(keys)))
    group_rows = block * GROUP_BLOCKS
    groups = ceildiv(rows, group_rows)
    units = product([form.batch.extent, form.key_head.extent, groups])
    work = product([form.batch.extent, form.key_head.extent, rows, keys]) * (form.head_size + form.value_size)
    chunks = minimum(units, MAX_CHUNKS, maximum(1, work // CHUNK_WORK))
    query_stride, value_stride = _whole(form.head_size), _whole(form.value_size)
    score_stride = key_block + LANES
    several = not (isinstance(keys, int) and keys <= key_block)
    sizes = (
        (LANES if direct else block) * query_stride,
        block * score_stride,
        0 if direct else key_block * form.head_size,
        0 if form.keys.rows else LANES * query_stride,
        key_block * value_stride if copies or not form.values.rows else 0,
        block * value_stride,
        2 * LANES,
        group_rows * (value_stride + 2) if several else 0,
    )
    offsets = [0]
    for size in sizes:
        offsets.append(offsets[-1] + -(-size * FLOAT // LINE) * LINE)
    return AttentionPlan(form, used, direct, copies, rows, group_rows, groups, units, chunks, key_block,
                         query_stride, score_stride, value_stride, *offsets[1:])


def _whole(count: int) -> int:
    """`count` rounded up to whole vectors."""
    return -(-count // LANES) * LANES


def _used_tiles(available: tuple[Tile, ...], rows: Dim) -> tuple[Tile, ...]:
    """The tiles that blocks of `rows` queries need, smallest first."""
    ascending = sorted(available, key=lambda tile: tile.rows)
    if not isinstance(rows, int):
        return tuple(ascending)
    largest = next((tile for tile in ascending if tile.rows >= rows), ascending[-1])
    rest = rows % largest.rows if rows else 0
    last = next(tile for tile in ascending if tile.rows >= max(rest, 1))
    return (last, largest) if rest and last is not largest else (largest,)
