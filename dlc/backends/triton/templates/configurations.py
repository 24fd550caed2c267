"""Which tiles to try for a contraction on a GPU, the best first by the model of `contraction_costs`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from dlc.backends.triton import tiles
from dlc.backends.triton.templates.contraction_costs import Config, CostModel, Problem
from dlc.backends.triton.templates.contraction_form import LEAST_DEPTH, LEAST_POINTS, Form
from dlc.backends.triton.templates.contraction_split import divided_axis
from dlc.ir.dims import Dim, free_symbols
from dlc.target import GpuTarget

__all__ = ["Config", "candidates"]

#: Into how many parts the depth is divided where tiles are few; in fewer if the size of the result is open:
#: the memory for the parts grows with it.
_CHUNKS, _MOST_OPEN_CHUNKS = (2, 3, 4, 6, 8, 12, 16), 4
#: How many candidates are given, and of each tile.
_CANDIDATES, _WAYS = 8, 2
#: Sizes that symbols are taken to have where nothing is known; the choice is the best of all on average.
_GUESSES = (1, 16, 256, 4096)
#: Registers of a thread that may be in use by the model; beyond the compiler spills.
_REGISTERS = 184
#: The points of a tile along an axis.
_SIZES = (16, 32, 64, 128, 256)


def candidates(form: Form, target: GpuTarget) -> list[Config]:
    """Configurations for a contraction, the best first; the last one is small enough for any epilogue."""
    model = CostModel(form, target)
    problems = [Problem(model, guess) for guess in _guesses(form)]
    found = [config for config in _possible(model) if model.registers(config) <= _REGISTERS]
    found = found or [_least(form)]
    few = [config for config in found if problems[0].tiles(config) < target.multiprocessors]
    found += _divided(form, few)
    costs = dict.fromkeys(found, 0.0)
    for problem in problems:
        times = {config: problem.cycles(config) for config in found}
        best = min(times.values())
        for config, time in times.items():
            costs[config] += time / best
    # Of equal ones that with fewer and deeper steps.
    ordered = sorted(found, key=lambda config: (costs[config], -config.depth, dataclasses.astuple(config)))
    seen: dict[tuple[int, int, bool], int] = {}
    chosen = []
    for config in ordered:
        tile = (config.rows, config.columns, config.chunks > 1)
        seen[tile] = seen.get(tile, 0) + 1
        if seen[tile] <= _WAYS:
            chosen.append(config)
    return list(dict.fromkeys((*chosen[: _CANDIDATES - 1], _least(form))))


def _guesses(form: Form) -> list[dict[str, int]]:
    """Numbers for the symbols of the extents: one case if there are none."""
    extents = [axis.extent for axis in (*form.batch, *form.rows, *form.columns, *form.reduce)]
    symbols = {symbol for extent in extents for symbol in free_symbols(extent)}
    if not symbols:
        return [{}]
    return [
        {symbol.name: max(symbol.lo or 0, min(guess, symbol.hi or guess)) for symbol in symbols}
        for guess in _GUESSES
    ]


def _sizes(extent: Dim, most: int, least: int) -> list[int]:
    """Powers of two up to what holds the extent."""
    top = tiles.fitting(extent, least, most)
    return [size for size in _SIZES if least <= size <= top]


def _least_depth(form: Form) -> int:
    """The depth of a matrix instruction."""
    return LEAST_DEPTH if form.unit.bits >= 16 else 2 * LEAST_DEPTH


def _possible(model: CostModel) -> Iterator[Config]:
    """Every configuration that has shared memory."""
    form, target = model.form, model.target
    rows, columns, depth = (tiles.extent_of(axes) for axes in (form.rows, form.columns, form.inner))
    if not model.has_units:
        most_rows, most_columns, deepest = 64, 64, 32
    else:
        is_async = form.left_access.is_async and form.right_access.is_async
        most_rows, most_columns = 128, 256 if is_async else 128
        # Tiles of digits are held all together.
        deepest = 32 if form.dots > 2 else 128 if form.operand.bits == 8 else 64
    for m, n, k in itertools.product(
        _sizes(rows, most_rows, LEAST_POINTS),
        _sizes(columns, most_columns, LEAST_POINTS),
        _sizes(depth, deepest, _least_depth(form)),
    ):
        for warps in _warps(m * n // target.warp_size):
            stages = _stages(model, Config(m, n, k, warps, 1))
            if stages:
                yield Config(m, n, k, warps, stages)


def _warps(sums: int) -> tuple[int, ...]:
    """How many warps may share a tile of so many sums a lane."""
    if sums <= 32:
        return 2, 4
    return tuple(warps for warps in (4, 8) if 8 <= sums // warps <= 128)


def _stages(model: CostModel, config: Config) -> int:
    """How many steps ahead operands are copied: as many as there is shared memory for; 0 if there is none."""
    form, most = model.form, model.target.shared_bytes
    size = model.shared_bytes(config)
    if not (form.left_access.is_async or form.right_access.is_async):
        return 2 if size <= most else 0
    fitting = min(4 if model.has_units else 3, most // size)
    return fitting if fitting >= 2 else 0


def _least(form: Form) -> Config:
    rows, columns, depth = (tiles.extent_of(axes) for axes in (form.rows, form.columns, form.inner))
    return Config(
        tiles.fitting(rows, LEAST_POINTS, 32),
        tiles.fitting(columns, LEAST_POINTS, 32),
        tiles.fitting(depth, _least_depth(form), 32),
        4,
        2,
    )


def _divided(form: Form, configs: list[Config]) -> Iterator[Config]:
    """The configurations with the depth divided into equal parts."""
    axis = divided_axis(form)
    if axis is None or not isinstance(axis.extent, int) or not form.has_instruction:
        return
    most = _CHUNKS[-1] if isinstance(form.points, int) else _MOST_OPEN_CHUNKS
    for config, chunks in itertools.product(configs, _CHUNKS):
        length = axis.extent // chunks
        is_even = axis.extent % chunks == 0 and length % config.depth == 0
        if chunks <= most and is_even and length >= 2 * config.depth:
            yield dataclasses.replace(config, chunks=chunks)
