"""Products of a few rows with vectors of columns: one function for each tile, shared by all kernels.

Every sum is one chain of multiply-adds in the order of the depth, whatever the tile, so that its bits do not
depend on which rows are computed together. Small functions of their own also keep LLVM fast: its time grows
faster than the size of a function.
"""
from __future__ import annotations

import dataclasses

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.module import Module

LANES = 16
FLOAT = 4
VECTOR = t.vector(LANES, t.f32)
#: Multiply-adds in the body of the loop, below which it is unrolled.
BODY = 24


@dataclasses.dataclass(frozen=True)
class RowProduct:
    """`rows` rows times `vectors` vectors of 16 columns, in f32; strides are in elements.

    Element k of row r lies at `r * left_stride + k`, vector v of depth k at `k * step + v * vector_stride`,
    its sum at `r * target_stride + v * 16`. A step or depth that is None is an argument. Of the last vector
    `tail` lanes are read, all if it is 0.
    """

    rows: int
    vectors: int
    left_stride: int
    vector_stride: int
    step: int | None
    target_stride: int
    tail: int = 0
    depth: int | None = None

    @property
    def name(self) -> str:
        """The name of the function in a module."""
        strides = (self.left_stride, self.vector_stride, self.step, self.target_stride, self.tail, self.depth)
        return f"rows_{self.rows}x{self.vectors}_" + "_".join("x" if s is None else str(s) for s in strides)


def call_row_product(b: FunctionBuilder, product: RowProduct, left: t.Value, right: t.Value, depth: t.Index,
                     step: t.Index, target: t.Value) -> None:
    """Store the sums over k in [0, depth) at `target`; the first use in a module writes the function."""
    if b.module.defined(product.name) is None:
        _emit(b.module, product)
    b.call(product.name, [left, right, depth, step, target])


def _emit(module: Module, product: RowProduct) -> None:
    params = [("left", t.ptr), ("right", t.ptr), ("depth", t.i64), ("step", t.i64), ("target", t.ptr)]
    b = module.function(product.name, params, internal=True)
    target = b.params[-1]
    for row, vectors in enumerate(_sums(b, product)):
        for v, value in enumerate(vectors):
            b.store(value, b.offset(target, row * product.target_stride + v * LANES, t.f32))


def _sums(b: FunctionBuilder, product: RowProduct) -> list[list[t.Value]]:
    """The sums, a list of vectors for each row."""
    left, right, *numbers, _ = b.params
    rows, vectors = product.rows, product.vectors
    depth: t.Index = numbers[0] if product.depth is None else product.depth
    step: t.Index = numbers[1] if product.step is None else product.step
    mask = b.tail_mask(product.tail) if product.tail else None
    unroll = max(1, min(4, BODY // (rows * vectors)))

    def column(at: t.Value, v: int) -> t.Value:
        place = b.offset(at, v * product.vector_stride, t.f32)
        if mask is None or v < vectors - 1:
            return b.load(place, VECTOR)
        return b.masked_load(place, mask, VECTOR)

    def add(k: t.Index, sums: list[t.Value]) -> list[t.Value]:
        at, here = b.offset(right, b.mul(k, step), t.f32), b.offset(left, k, t.f32)
        columns = [column(at, v) for v in range(vectors)]
        for row in range(rows):
            x = b.load_splat(b.offset(here, row * product.left_stride, t.f32), t.f32)
            for v in range(vectors):
                sums[row * vectors + v] = b.fma(x, columns[v], sums[row * vectors + v])
        return sums

    stop = b.sub(depth, b.urem(depth, unroll))
    with b.loop(0, stop, unroll, carry=[b.const(VECTOR, 0.0)] * (rows * vectors), name="depth") as loop:
        sums = list(loop.carried)
        for part in range(unroll):
            sums = add(b.add(loop.iv, part), sums)
        loop.next = tuple(sums)
    with b.loop(stop, depth, carry=loop.results, name="rest") as rest:
        rest.next = tuple(add(rest.iv, list(rest.carried)))
    return [list(rest.results[row * vectors:(row + 1) * vectors]) for row in range(rows)]
