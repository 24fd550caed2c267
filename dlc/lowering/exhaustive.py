"""Proof by trying every point, for axes whose extents are numbers: where reasoning about ranges gives up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dlc.ir.dims import Dim, evaluate, free_symbols
from dlc.ir.operator import Array
from dlc.lowering.grid import Grid, Scope
from dlc.lowering.kernel import Kernel
from dlc.lowering.ranges import Space

#: The most points that are tried.
MOST_POINTS = 1 << 20


def exhaustively_within(index: Dim, low: Dim, high: Dim, space: Space) -> bool:
    """Whether low <= index < high at every point of `space`, found by trying; False for too many."""
    dims = [index, low, high]
    extents = _static_extents(space)
    if not all(symbol.name in extents for dim in dims for symbol in free_symbols(dim)):
        return False
    conditions = (d for m in space.mask for d in (m.index - m.low, m.high - 1 - m.index))
    facts = [d for d in conditions if all(symbol.name in extents for symbol in free_symbols(d))]
    tried = _numbers([*dims, *facts], extents)
    if tried is None:
        return False
    at, least, beyond, *known = tried
    holds = np.asarray((least <= at) & (at < beyond))
    for fact in known:
        holds = holds | (fact < 0)
    return bool(holds.all())


def positions(index: Sequence[Dim], space: Space) -> Array | None:
    """The index of every point of `space`, one row a point; None: there are too many, or symbols."""
    extents = _static_extents(space)
    if len(extents) != len(space.extents):
        return None
    numbers = _numbers(index, extents, everything=True)
    if numbers is None:
        return None
    shape = tuple(extents.values())
    columns = [np.broadcast_to(number, shape).reshape(-1) for number in numbers]
    return np.stack(columns, axis=1) if columns else np.zeros((math.prod(shape), 0), np.int64)


def _static_extents(space: Space) -> dict[str, int]:
    """The axes whose extents are numbers."""
    return {name: evaluate(extent, {}) for name, extent in space.extents.items() if isinstance(extent, int)}


def _numbers(dims: Sequence[Dim], extents: dict[str, int], everything: bool = False) -> list[Array] | None:
    """The numbers of `dims` at all points of the axes in them (or of all axes); None: too many points."""
    used = {symbol.name for dim in dims for symbol in free_symbols(dim)}
    axes = [name for name in extents if everything or name in used]
    if not used <= set(axes) or math.prod(extents[axis] for axis in axes) > MOST_POINTS:
        return None
    scope = Scope(Kernel("proof", (), (), ()), {}, wide=False, extents=dict(extents))
    grid = Grid(scope, axes, {})
    return [grid.dim(dim) for dim in dims]
