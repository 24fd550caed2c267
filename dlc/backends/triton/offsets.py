"""Offsets of elements in memory, as sums of one part a tile.

An offset is an integer expression over the axes of several tiles. Written tile by tile, each part is as
small as its tile and is added to the others once; a part that does not change in a loop is computed before
it, by Triton. Axes of a tile that follow each other in memory without a gap are one number again: the flat
index itself where they all do, so that Triton sees how far the elements lie side by side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.backends.triton.function_builder import FunctionBuilder
from dlc.ir.dims import Dim, Symbol, free_symbols, linear, product, terms_of


@dataclasses.dataclass(frozen=True)
class Tile:
    """Axes whose indices vary together over a block.

    `flat` is the variable of their common index, `bound` the one that says at which points they are within
    their extents; None where they always are. `moving` are those of more than one point; the others are
    numbers.
    """

    flat: str
    axes: tuple[str, ...]
    moving: tuple[str, ...]
    bound: str | None = None


class Offsets:
    """Writes offsets at the points of some tiles; equal parts once."""

    def __init__(self, builder: FunctionBuilder, tiles: Sequence[Tile]) -> None:
        self._builder = builder
        self._tiles = tuple(tiles)
        self._parts: dict[tuple[Tile, Dim], str] = {}
        self._runs: dict[tuple[Tile, tuple[str, ...]], str] = {}

    def inner(self, tiles: Sequence[Tile]) -> Offsets:
        """The same in a loop's body, where everything that is known here is known."""
        offsets = Offsets(self._builder, tiles)
        offsets._parts = dict(self._parts)
        offsets._runs = dict(self._runs)
        return offsets

    def text(self, offset: Dim) -> str:
        """The source of an offset; "0" if it is that, else something that can be added to."""
        parts, rest = self._separate(offset)
        texts = [self._part(tile, part) for tile, part in parts]
        if rest != 0 or not texts:
            text = self._builder.dim(rest)
            texts.insert(0, f"({text})" if " " in text else text)
        return texts[0] if len(texts) == 1 else f"({' + '.join(texts)})"

    def _separate(self, offset: Dim) -> tuple[list[tuple[Tile, Dim]], Dim]:
        """The terms that move along one tile alone, by tile, and the others."""
        terms, rest = terms_of(offset)
        found: dict[Tile, Dim] = {}
        total: Dim = rest
        for monomial, factor in terms:
            names = {symbol.name for symbol in free_symbols(monomial)}
            along = [tile for tile in self._tiles if not names.isdisjoint(tile.moving)]
            if len(along) == 1:
                found[along[0]] = found.get(along[0], 0) + monomial * factor
            else:
                total = total + monomial * factor
        return [(tile, found[tile]) for tile in self._tiles if tile in found], total

    def _part(self, tile: Tile, part: Dim) -> str:
        """A variable that holds the terms of one tile."""
        if (tile, part) not in self._parts:
            text = self._builder.dim(self._joined(tile, part))
            self._parts[tile, part] = self._builder.assign("o", text) if " " in text else text
        return self._parts[tile, part]

    def _joined(self, tile: Tile, part: Dim) -> Dim:
        """The terms of one tile with axes that follow each other as one."""
        axes = [self._builder.kernel.axis(name) for name in tile.moving]
        steps: list[Dim] = []
        rest: Dim = part
        for axis in axes:
            found = linear(rest, axis.symbol)
            if found is None:
                return part
            step, rest = found
            steps.append(step)
        total: Dim = rest
        end = len(axes)
        while end:
            first = end - 1
            length = axes[first].extent
            while first and steps[first - 1] == steps[end - 1] * length:
                first -= 1
                length = length * axes[first].extent
            if steps[end - 1] != 0:
                total = total + self._run(tile, first, end) * steps[end - 1]
            end = first
        return total

    def _run(self, tile: Tile, first: int, end: int) -> Symbol:
        """The common index of the moving axes from `first` to before `end`."""
        names = tile.moving[first:end]
        builder = self._builder
        axes = [builder.kernel.axis(name) for name in tile.moving]
        if len(names) == 1:
            return axes[first].symbol
        if len(names) == len(axes):
            return builder.alias(tile.flat)
        if (tile, names) not in self._runs:
            text = tile.flat
            below = product(axis.extent for axis in axes[end:])
            if below != 1:
                text = f"{text} // ({builder.dim(below)})"
            if first:
                text = f"{text} % ({builder.dim(product(axis.extent for axis in axes[first:end]))})"
            self._runs[tile, names] = builder.assign("x", text)
        return builder.alias(self._runs[tile, names])
