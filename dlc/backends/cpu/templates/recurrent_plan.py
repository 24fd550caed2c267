"""How a recurrent layer is cut into tiles and blocks of sequences; how its weights are packed."""
from __future__ import annotations

import dataclasses

import numpy as np

from dlc.backends.cpu.templates.recurrent_form import Phase, RecurrentForm, Weights
from dlc.backends.cpu.templates.row_product import FLOAT, LANES
from dlc.ir.dims import Dim, ceildiv, product
from dlc.ir.operator import Array
from dlc.target import CpuTarget

#: Tiles of sequences in a chunk: few while the weights stay in a core's cache, which every chunk reads anew.
CHUNK_TILES = 1
CHUNK_TILES_LARGE = 4
LINE = 64


@dataclasses.dataclass(frozen=True)
class PhasePlan:
    """The products of a phase, `tiles` tiles of `vectors` vectors of weights.

    Vectors are numbered by block of 16 units and gate; products of a sequence are `stride` elements. The
    packed weights begin at element `at` and go on by direction, tile, depth, vector and lane.
    """

    phase: Phase
    vectors: int
    tiles: int
    at: int

    @property
    def stride(self) -> int:
        """Products of a sequence, those of vectors that only fill a tile included."""
        return self.tiles * self.vectors * LANES


@dataclasses.dataclass(frozen=True)
class RecurrentPlan:
    """`tile_rows` sequences are taken together; at most `chunk_rows` of one direction make a chunk.

    In scratch memory lie the products of a phase, then (`buffers`, in bytes) each state and each kept local,
    with rows `stride` elements apart.
    """

    form: RecurrentForm
    phases: tuple[PhasePlan, ...]
    tile_rows: int
    chunk_rows: int
    batch_chunks: Dim
    chunks: Dim
    stride: int
    buffers: dict[str, int]
    bytes: int


def plan_recurrent(form: RecurrentForm, target: CpuTarget) -> RecurrentPlan:
    """The plan for a target; it depends on nothing else than the kernel."""
    blocks = -(-form.units // LANES)
    # Accumulators, weights and a broadcast in registers; four chains hide the latency for a sequence alone.
    rows, vectors = (6, 4) if target.avx512 else (2, 2)
    phases: list[PhasePlan] = []
    ends: dict[str, int] = {}
    for phase in form.phases:
        name = phase.weights.param.name
        plan = PhasePlan(phase, vectors, -(-blocks * phase.gates // vectors), ends.get(name, 0))
        phases.append(plan)
        ends[name] = plan.at + form.directions * form.units * plan.stride
    weight_bytes = sum(ends.values()) // form.directions * FLOAT
    chunk_rows = rows * (CHUNK_TILES if weight_bytes <= target.l2 else CHUNK_TILES_LARGE)
    batch_chunks = ceildiv(form.batch.extent, chunk_rows)
    stride = blocks * LANES
    buffers: dict[str, int] = {}
    end = _lines(chunk_rows * max(phase.stride for phase in phases))
    for name in (*(state.local.name for state in form.recur.states), *sorted(form.kept)):
        buffers[name] = end
        end += _lines(chunk_rows * stride)
    return RecurrentPlan(form, tuple(phases), rows, chunk_rows, batch_chunks,
                         product([form.directions, batch_chunks]), stride, buffers, end)


def _lines(elements: int) -> int:
    """Bytes of so many floats, whole cache lines."""
    return -(-elements * FLOAT // LINE) * LINE


def pack(phases: tuple[PhasePlan, ...], directions: int, units: int, weights: Array) -> Array:
    """The weights of the phases that read one constant, in the order in which they read them."""
    flat = np.ascontiguousarray(weights).reshape(-1)
    return np.concatenate([_pack_phase(phase, directions, units, flat) for phase in phases])


def _pack_phase(plan: PhasePlan, directions: int, units: int, flat: Array) -> Array:
    """[direction, tile, depth, vector, lane], f32; zeros where there is no unit or gate."""
    w: Weights = plan.phase.weights
    shape = (directions, plan.tiles, units, plan.vectors, LANES)
    direction, tile, depth, vector, lane = np.ogrid[tuple(slice(extent) for extent in shape)]
    block, gate = np.divmod(tile * plan.vectors + vector, plan.phase.gates)
    unit = block * LANES + lane
    place = w.base + direction * w.direction + gate * w.gate + depth * w.depth
    place = place + np.minimum(unit, units - 1) * w.unit
    packed: Array = np.where(unit < units, flat[place], 0).astype(np.float32)
    return packed.reshape(-1)
