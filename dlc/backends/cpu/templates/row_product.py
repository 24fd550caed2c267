"""Products of a few rows in memory with vectors of columns, summed in registers.

Every sum is one chain of multiply-adds in the order of the depth, whatever the tile, so that its bits do not
depend on which rows are computed together.
"""
from __future__ import annotations

import dataclasses

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder

LANES = 16
FLOAT = 4
VECTOR = t.vector(LANES, t.f32)
#: Multiply-adds in the body of the loop, below which it is unrolled.
BODY = 24


@dataclasses.dataclass(frozen=True)
class Left:
    """Rows of f32: element (row, k) lies `row * stride + k` elements from the pointer."""

    pointer: t.Value
    stride: int


@dataclasses.dataclass(frozen=True)
class Right:
    """Vectors of 16 columns: number v of depth k lies `k * step + offsets[v]` elements from the pointer.

    `tail` is the mask of the last one, None where it is whole.
    """

    pointer: t.Value
    step: t.Index
    offsets: tuple[int, ...]
    tail: t.Value | None = None


def accumulate(b: FunctionBuilder, rows: int, low: t.Index, high: t.Index, left: Left, right: Right
               ) -> list[list[t.Value]]:
    """sum over k in [low, high) of left[row, k] * right[k, vector], as a list of vectors for each row."""
    vectors = len(right.offsets)
    unroll = max(1, min(4, BODY // (rows * vectors)))

    def step(k: t.Index, sums: list[t.Value]) -> list[t.Value]:
        at = b.offset(right.pointer, b.mul(k, right.step), t.f32)
        columns = [_column(b, at, right, v) for v in range(vectors)]
        here = b.offset(left.pointer, k, t.f32)
        for row in range(rows):
            x = b.load_splat(b.offset(here, row * left.stride, t.f32), t.f32)
            for v, column in enumerate(columns):
                sums[row * vectors + v] = b.fma(x, column, sums[row * vectors + v])
        return sums

    stop = b.sub(high, b.urem(b.sub(high, low), unroll))
    carry = [b.const(VECTOR, 0.0)] * (rows * vectors)
    with b.loop(low, stop, unroll, carry=carry, name="product") as loop:
        sums = list(loop.carried)
        for part in range(unroll):
            sums = step(b.add(loop.iv, part), sums)
        loop.next = tuple(sums)
    with b.loop(stop, high, carry=loop.results, name="rest") as rest:
        rest.next = tuple(step(rest.iv, list(rest.carried)))
    return [list(rest.results[row * vectors:(row + 1) * vectors]) for row in range(rows)]


def _column(b: FunctionBuilder, at: t.Value, right: Right, v: int) -> t.Value:
    place = b.offset(at, right.offsets[v], t.f32)
    if right.tail is not None and v == len(right.offsets) - 1:
        return b.masked_load(place, right.tail, VECTOR)
    return b.load(place, VECTOR)
