"""Tiles of attention for a target, and the transposition of keys into panels.

Keys lie transposed in panels of 16: element (key, feature) of a panel at `feature * 16 + key`.
"""
from __future__ import annotations

import dataclasses

from dlc.backends.cpu import types as t
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.row_product import LANES, VECTOR
from dlc.target import CpuTarget


@dataclasses.dataclass(frozen=True)
class Tile:
    """`rows` queries times `vectors` of 16 keys (of 16 features of the values, in the second product)."""

    rows: int
    vectors: int


def tiles(target: CpuTarget) -> tuple[Tile, ...]:
    """The tiles of a target, largest first: accumulators, one vector of weights and a broadcast in registers.

    With few queries more vectors are taken, so that enough chains are under way to hide their latency.
    """
    if target.avx512:
        return Tile(8, 3), Tile(4, 5), Tile(2, 8), Tile(1, 8)
    return Tile(6, 1), Tile(4, 1), Tile(2, 2), Tile(1, 4)


def emit_transpose(module: Module, name: str, width: int) -> None:
    """A function (source, stride, count, panel) that writes the panel of 16 keys of `width` features.

    The keys are `stride` bytes apart; those from `count` (at least 1) on repeat the last one.
    """
    b = module.function(name, [("source", t.ptr), ("stride", t.i64), ("count", t.i64), ("panel", t.ptr)],
                        internal=True)
    source, stride, count, panel = b.params
    last = b.sub(count, 1)
    rows = [b.byte_offset(source, b.mul(b.smin(last, row), stride)) for row in range(LANES)]
    whole = width - width % LANES
    with b.loop(0, whole, LANES, name="feature") as loop:
        block = [b.load(b.offset(row, loop.iv, t.f32), VECTOR) for row in rows]
        for feature, keys in enumerate(b.transpose16(block)):
            b.store(keys, b.offset(panel, b.mul(b.add(loop.iv, feature), LANES), t.f32))
    if whole < width:
        mask = b.tail_mask(width - whole)
        block = [b.masked_load(b.offset(row, whole, t.f32), mask, VECTOR) for row in rows]
        for feature, keys in enumerate(b.transpose16(block)[:width - whole]):
            b.store(keys, b.offset(panel, (whole + feature) * LANES, t.f32))
