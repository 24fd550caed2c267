"""The scores of attention: tiles for a target, keys transposed into panels, or read where they lie.

Transposed keys lie in panels of 16: element (key, feature) of a panel at `feature * 16 + key`.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
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

    With few queries more vectors are taken, so that enough chains are under way to hide their latency. More
    sizes would save little and cost code.
    """
    if target.avx512:
        return Tile(8, 3), Tile(4, 4), Tile(1, 4)
    return Tile(6, 1), Tile(2, 2), Tile(1, 4)


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


@dataclasses.dataclass(frozen=True)
class Queries:
    """A few queries of `width` features in memory, `stride` elements apart."""

    pointer: t.Value
    stride: int
    rows: int
    width: int


def dot_products(b: FunctionBuilder, queries: Queries, keys: Sequence[t.Value]) -> t.Value:
    """The 16 products of the queries with 16 / rows keys at the given addresses: lane row * keys + key.

    The lanes of a product are summed by halves at the end, for all products together.
    """
    points = [(row, key) for row in range(queries.rows) for key in range(len(keys))]
    at_once = LANES if b.target.avx512 else 4
    parts = [_partial_sums(b, queries, points[first:first + at_once], keys)
             for first in range(0, LANES, at_once)]
    return _fold(b, [_fold(b, part, LANES) for part in parts], LANES // at_once)


def _partial_sums(b: FunctionBuilder, queries: Queries, points: Sequence[tuple[int, int]],
                  keys: Sequence[t.Value]) -> list[t.Value]:
    """For each (row, key), the sums over features that fall into the same lane."""
    width = queries.width
    whole = width - width % LANES

    def step(feature: t.Index, mask: t.Value | None, sums: Sequence[t.Value]) -> list[t.Value]:
        rows = {row: b.load(b.offset(queries.pointer, b.add(feature, row * queries.stride), t.f32), VECTOR)
                for row in dict.fromkeys(row for row, _ in points)}
        features = {}
        for key in dict.fromkeys(key for _, key in points):
            place = b.offset(keys[key], feature, t.f32)
            features[key] = b.load(place, VECTOR) if mask is None else b.masked_load(place, mask, VECTOR)
        return [b.fma(rows[row], features[key], old) for (row, key), old in zip(points, sums)]

    with b.loop(0, whole, LANES, carry=[b.const(VECTOR, 0.0)] * len(points), name="feature") as loop:
        loop.next = step(loop.iv, None, loop.carried)
    if whole == width:
        return list(loop.results)
    return step(whole, b.tail_mask(width - whole), loop.results)


def _fold(b: FunctionBuilder, vectors: list[t.Value], run: int) -> t.Value:
    """One vector from several, in which `run` neighbouring lanes are the parts of one sum.

    Each pair of vectors is added by halves of the runs, which leaves as many runs of half the length.
    """
    while len(vectors) > 1:
        half = run // 2
        starts = [LANES * side + first for side in (0, 1) for first in range(0, LANES, run)]
        low = [start + lane for start in starts for lane in range(half)]
        high = [lane + half for lane in low]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [b.fadd(b.shuffle(x, y, low), b.shuffle(x, y, high)) for x, y in pairs]
        run = half
    return vectors[0]
