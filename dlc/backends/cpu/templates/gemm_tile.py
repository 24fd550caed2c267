"""The innermost loops of matrix multiplication: a function for each register tile, shared by all kernels."""

from __future__ import annotations

import dataclasses
import enum

from dlc.backends.cpu import arithmetic, types as t
from dlc.backends.cpu.access import register_type, storage_type
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.module import Module
from dlc.ir.dtypes import DType
from dlc.lowering.expr import CastMode

LANES = 16
_LINE = 64


class Multiplication(enum.Enum):
    """How two elements are multiplied and added to a sum.

    FMA works on floats. For the others an element is a word of 32 bits: 4 bytes, unsigned on one side and
    signed on the other, or 2 numbers of 16 bits. Their products are added to i32 modulo 2**32.
    """

    FMA = "fma"
    UNSIGNED_SIGNED = "u8s8"
    SIGNED_UNSIGNED = "s8u8"
    WORDS16 = "i16"


@dataclasses.dataclass(frozen=True)
class TileKernel:
    """Adds the product of `rows` rows and `vectors` * 16 columns over a block of the depth to sums in memory.

    Element (r, k) of the left operand lies `r * row + k * depth` elements from its pointer, the columns of
    depth k lie `k * stride` from the right pointer, the sums of row r at `r * width`. Strides that are None
    here are arguments, as `row` always is. The right operand holds elements of type `stored`. With `fetch`,
    each step also fetches as many bytes as it reads, from a place and in steps given as arguments. With
    `blocks`, the sums of earlier blocks are added, except in the first one.
    """

    rows: int
    vectors: int
    dtype: DType
    stored: DType
    width: int | None
    depth: int | None
    stride: int | None
    fetch: bool
    blocks: bool
    multiplication: Multiplication

    @property
    def name(self) -> str:
        """The name of the function in a module."""
        strides = "_".join("x" if s is None else str(s) for s in (self.width, self.depth, self.stride))
        flags = f"{'f' if self.fetch else ''}{'b' if self.blocks else ''}"
        floats = self.multiplication is Multiplication.FMA
        types = f"{self.dtype.text}_{self.stored.text}" if floats else self.multiplication.value
        return f"gemm_{self.rows}x{self.vectors}_{types}_{strides}_{flags}"


@dataclasses.dataclass(frozen=True)
class TileArguments:
    """What a tile function is called with; see :class:`TileKernel`. `first` is an i1."""

    left: t.Value
    row: t.Index
    depth: t.Index
    right: t.Value
    stride: t.Index
    count: t.Index
    sums: t.Value
    width: t.Index
    first: t.Value
    fetch: t.Value
    step: t.Index


def call_tile(b: FunctionBuilder, tile: TileKernel, arguments: TileArguments) -> None:
    """Call the function of `tile`, writing it into the module at its first use."""
    if b.module.defined(tile.name) is None:
        _Tile(b.module, tile).emit()
    a = arguments
    first = b.zext(a.first, t.i64)
    b.call(
        tile.name,
        [a.left, a.row, a.depth, a.right, a.stride, a.count, a.sums, a.width, first, a.fetch, a.step],
    )


class _Tile:
    """The emission of one tile function."""

    def __init__(self, module: Module, tile: TileKernel) -> None:
        self.tile = tile
        names = (
            "left",
            "row",
            "depth",
            "right",
            "stride",
            "count",
            "sums",
            "width",
            "first",
            "fetch",
            "step",
        )
        pointers = {"left", "right", "sums", "fetch"}
        params = [(name, t.ptr if name in pointers else t.i64) for name in names]
        self.b = module.function(tile.name, params, internal=True)
        left, row, depth, right, stride, count, sums, width, first, fetch, step = self.b.params
        self.left, self.right, self.count, self.sums, self.first = left, right, count, sums, first
        self.fetch, self.step = fetch, step
        self.row = row
        self.depth: t.Index = depth if tile.depth is None else tile.depth
        self.stride: t.Index = stride if tile.stride is None else tile.stride
        self.width: t.Index = width if tile.width is None else tile.width
        self.element = register_type(tile.dtype)
        self.vector = t.vector(LANES, self.element)

    def emit(self) -> None:
        b, tile = self.b, self.tile
        zeros = [b.const(self.vector, 0.0 if self.element.is_float else 0)] * (tile.rows * tile.vectors)
        pointers = [b.offset(self.left, b.mul(self.row, m), self.element) for m in range(tile.rows)]
        with b.loop(0, self.count, carry=zeros, name="k") as loop:
            loop.next = self._step(b.value(loop.iv), pointers, loop.carried)
        self._add(loop.results)

    def _step(self, k: t.Value, pointers: list[t.Value], sums: tuple[t.Value, ...]) -> list[t.Value]:
        """One number of the depth."""
        b, tile = self.b, self.tile
        stored = storage_type(tile.stored)
        if tile.fetch:
            ahead = b.byte_offset(self.fetch, b.mul(k, self.step))
            for line in range(0, tile.vectors * LANES * stored.bytes, _LINE):
                b.prefetch(b.byte_offset(ahead, line))
        at = b.offset(self.right, b.mul(k, self.stride), stored)
        weights = []
        for v in range(tile.vectors):
            loaded = b.load(b.offset(at, v * LANES, stored), t.vector(LANES, stored))
            weights.append(arithmetic.convert(b, loaded, tile.stored, tile.dtype, CastMode.RNE))
        place = b.mul(k, self.depth)
        result = []
        for m, pointer in enumerate(pointers):
            x = b.load_splat(b.offset(pointer, place, self.element), self.element)
            for v, w in enumerate(weights):
                result.append(multiply_add(b, tile.multiplication, x, w, sums[m * tile.vectors + v]))
        return result

    def _add(self, products: tuple[t.Value, ...]) -> None:
        """Store the products, added to what earlier blocks left."""
        b, tile = self.b, self.tile
        first = b.icmp("ne", self.first, 0)
        for m in range(tile.rows):
            row = b.offset(self.sums, b.mul(self.width, m), self.element)
            for v in range(tile.vectors):
                target = b.offset(row, v * LANES, self.element)
                value = products[m * tile.vectors + v]
                if tile.blocks:
                    before = b.load(target, self.vector)
                    total = b.fadd(before, value) if self.element.is_float else b.add(before, value)
                    value = b.select(first, value, total)
                b.store(value, target)


def multiply_add(
    b: FunctionBuilder, multiplication: Multiplication, left: t.Value, right: t.Value, total: t.Value
) -> t.Value:
    """`total` plus the products of the lanes of `left` and `right`."""
    match multiplication:
        case Multiplication.FMA:
            return b.fma(left, right, total)
        case Multiplication.WORDS16:
            words = t.vector(2 * LANES, t.i16)
            return b.dot_i16(total, b.bitcast(left, words), b.bitcast(right, words))
    octets = t.vector(4 * LANES, t.i8)
    left, right = b.bitcast(left, octets), b.bitcast(right, octets)
    if multiplication is Multiplication.UNSIGNED_SIGNED:
        return b.dot_u8s8(total, left, right)
    return b.dot_u8s8(total, right, left)
