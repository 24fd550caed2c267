"""Block sizes of attention by head size, element type and GPU, and the number of parts of the keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

from dlc.backends.triton import tiles
from dlc.backends.triton.templates.attention_form import Form
from dlc.ir.dims import Dim, known_equal
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Axis
from dlc.target import GpuTarget

#: Up to so many queries of a head, keys are divided where there would be too few programs otherwise; where
#: their number is known at a launch only, up to so many.
FEW_QUERIES = 64
FEW_AT_LAUNCH = 16
#: Keys from which dividing them pays for a second launch, and the most parts.
MANY_KEYS = 512
MOST_SPLITS = 64
#: Elements that the second launch combines at once.
COMBINED = 1 << 14


@dataclasses.dataclass(frozen=True)
class Config:
    """Queries of a program and keys of a step, how a program is run, and the number of parts of the keys.

    Where the number of queries is known at a launch only, `splits` is for launches with few of them.
    """

    rows: int
    keys: int
    warps: int
    stages: int
    splits: int = 1


def candidates(form: Form, target: GpuTarget) -> tuple[Config, ...]:
    """The configurations for attention on a GPU, the best first; none of them spills registers."""
    queries = tiles.extent_of(form.rows)
    size = max(_padded(form.width), _padded(form.features))
    if form.operand is DType.F32 or form.operand_of_values is DType.F32:
        plain, loading = _WIDE, _WIDE_LOADING
    else:
        plain, loading = (_WGMMA, _WGMMA_LOADING) if target.has_wgmma else (_MMA, _MMA_LOADING)
    shapes = plain | loading if form.has_matrix_mask else plain
    found: dict[Config, None] = {}
    for config in shapes[min(most for most in shapes if size <= most)]:
        keys = tiles.fitting(tiles.extent_of(form.keys), 16, config.keys)
        rows = tiles.fitting(queries, 16, config.rows)
        fitting = for_rows(dataclasses.replace(config, keys=keys), rows)
        found[dataclasses.replace(fitting, splits=_splits(form, fitting, target))] = None
    return tuple(found)


def for_rows(config: Config, rows: int) -> Config:
    """The configuration for fewer queries of a program, which take fewer warps."""
    warps = min(config.warps, max(4, config.warps * rows // config.rows))
    return dataclasses.replace(config, rows=rows, warps=warps)


_Shapes: TypeAlias = "dict[int, tuple[Config, ...]]"

#: By head size: queries, keys, warps and stages for matrix instructions of a group of warps (wgmma), of a
#: warp (mma), and for f32, which has none. Measured with ptxas for sm_80 and sm_90.
_WGMMA: _Shapes = {
    64: (Config(128, 64, 4, 3), Config(128, 128, 8, 2)),
    128: (Config(128, 64, 8, 2), Config(128, 128, 8, 2)),
    256: (Config(64, 32, 8, 2),),
    512: (Config(32, 16, 8, 2), Config(32, 32, 8, 1)),
}
_MMA: _Shapes = {
    64: (Config(128, 64, 8, 3), Config(128, 32, 4, 3)),
    128: (Config(128, 32, 8, 3), Config(128, 32, 8, 2)),
    256: (Config(64, 32, 8, 2),),
    512: (Config(32, 16, 8, 2), Config(32, 32, 8, 1)),
}
_WIDE: _Shapes = {
    64: (Config(64, 32, 8, 2),),
    128: (Config(64, 16, 8, 2),),
    512: (Config(16, 16, 8, 1),),
}
#: The same where a number is loaded for each score, whose addresses take as many registers again.
_WGMMA_LOADING: _Shapes = {
    64: (Config(128, 64, 8, 3), Config(64, 64, 4, 3)),
    128: (Config(128, 32, 8, 2), Config(64, 64, 8, 2)),
}
_MMA_LOADING: _Shapes = {
    64: (Config(128, 32, 8, 3), Config(64, 32, 4, 3)),
    128: (Config(64, 32, 8, 2), Config(128, 16, 8, 2)),
    256: (Config(32, 32, 8, 2),),
}
_WIDE_LOADING: _Shapes = {
    128: (Config(32, 16, 8, 2),),
}


def _padded(axes: Sequence[Axis]) -> int:
    """The features that a head is padded to."""
    extent = tiles.extent_of(axes)
    assert isinstance(extent, int)
    return max(16, tiles.next_power(extent))


def _splits(form: Form, config: Config, target: GpuTarget) -> int:
    """Into how many parts the keys are divided, a power of two: enough to occupy the GPU."""
    queries, keys = tiles.extent_of(form.rows), tiles.extent_of(form.keys)
    if isinstance(keys, int) and keys < MANY_KEYS:
        return 1
    programs: Dim = 1
    if isinstance(queries, int):
        if not 0 < queries <= FEW_QUERIES:
            return 1
        programs = tiles.blocks(queries, config.rows)
    elif any(known_equal(axis.extent, keys) for axis in form.rows):
        # Few queries are few keys.
        return 1
    for axis in form.batch:
        programs = programs * axis.extent if isinstance(axis.extent, int) else programs
    assert isinstance(programs, int)
    wanted = 2 * target.multiprocessors // max(1, programs)
    if isinstance(keys, int):
        wanted = min(wanted, keys // (MANY_KEYS // 4))
    most = min(MOST_SPLITS, COMBINED // _padded(form.features), max(1, wanted))
    return int(1 << (most.bit_length() - 1))
