"""How a recurrent layer is cut into panels of units and blocks of sequences; how its weights are packed."""
from __future__ import annotations

import dataclasses

import numpy as np

from dlc.backends.cpu.templates.recurrent_form import Phase, RecurrentForm, Weights
from dlc.backends.cpu.templates.row_product import FLOAT, LANES
from dlc.ir.dims import Dim, ceildiv, product
from dlc.ir.operator import Array
from dlc.target import CpuTarget

#: Sequences that a chunk takes at least, while the weights stay in a core's cache; else twice as many.
CHUNK_ROWS = 8
LINE = 64


@dataclasses.dataclass(frozen=True)
class PhasePlan:
    """The tile of a phase: `rows` sequences times `groups` * 16 units with all their gates.

    The packed weights begin at element `at` and go on by direction, panel, depth, group and gate.
    """

    phase: Phase
    rows: int
    groups: int
    panels: int
    at: int

    @property
    def vectors(self) -> int:
        """Vectors of weights at each depth."""
        return self.groups * self.phase.gates


@dataclasses.dataclass(frozen=True)
class RecurrentPlan:
    """`chunk_rows` sequences of one direction make a chunk; rows of states are `stride` elements apart.

    `buffers` tells where each state (twice: before and after a step, where a product reads it) and each kept
    local lies in scratch memory, in bytes.
    """

    form: RecurrentForm
    phases: tuple[PhasePlan, ...]
    chunk_rows: int
    batch_chunks: Dim
    chunks: Dim
    stride: int
    buffers: dict[str, int]
    bytes: int

    @property
    def buffer_bytes(self) -> int:
        """Bytes of one copy of a state."""
        return -(-self.chunk_rows * self.stride * FLOAT // LINE) * LINE


def plan_recurrent(form: RecurrentForm, target: CpuTarget) -> RecurrentPlan:
    """The plan for a target; it depends on nothing else than the kernel."""
    blocks = -(-form.units // LANES)
    phases: list[PhasePlan] = []
    ends: dict[str, int] = {}
    for phase in form.phases:
        rows, groups = _tile(target, phase.gates, blocks)
        at = ends.get(phase.weights.param.name, 0)
        phases.append(PhasePlan(phase, rows, groups, blocks // groups, at))
        ends[phase.weights.param.name] = at + form.directions * form.units * blocks * LANES * phase.gates
    weight_bytes = sum(ends.values()) // form.directions * FLOAT
    rows = max(phase.rows for phase in phases)
    wanted = CHUNK_ROWS if weight_bytes <= target.l2 else 2 * CHUNK_ROWS
    chunk_rows = rows * max(1, wanted // rows)
    batch_chunks = ceildiv(form.batch.extent, chunk_rows)
    stride = blocks * LANES
    size = -(-chunk_rows * stride * FLOAT // LINE) * LINE
    buffers: dict[str, int] = {}
    end = 0
    names = [state.local.name for state in form.recur.states]
    for name in (*names, *sorted(form.kept)):
        buffers[name] = end
        end += size * (2 if name in names and name in form.crossed else 1)
    return RecurrentPlan(form, tuple(phases), chunk_rows, batch_chunks,
                         product([form.directions, batch_chunks]), stride, buffers, end)


def _tile(target: CpuTarget, gates: int, blocks: int) -> tuple[int, int]:
    """Rows and groups of a tile: accumulators within the registers, enough chains for one row alone."""
    accumulators, most = (24, 8) if target.avx512 else (6, 4)
    groups = next(g for g in (8, 4, 2, 1) if blocks % g == 0 and (g * gates <= most or g == 1))
    return max(1, min(8, accumulators // (groups * gates))), groups


def pack(phases: tuple[PhasePlan, ...], directions: int, units: int, weights: Array) -> Array:
    """The weights of the phases that read one constant, in the order in which they read them."""
    flat = np.ascontiguousarray(weights).reshape(-1)
    return np.concatenate([_pack_phase(phase, directions, units, flat) for phase in phases])


def _pack_phase(plan: PhasePlan, directions: int, units: int, flat: Array) -> Array:
    """[direction, panel, depth, group, gate, lane], f32; units beyond the last one are zeros."""
    w: Weights = plan.phase.weights
    shape = (directions, plan.panels, units, plan.groups, plan.phase.gates, LANES)
    direction, panel, depth, group, gate, lane = np.ogrid[tuple(slice(extent) for extent in shape)]
    unit = (panel * plan.groups + group) * LANES + lane
    place = w.base + direction * w.direction + gate * w.gate + depth * w.depth
    place = place + np.minimum(unit, units - 1) * w.unit
    packed: Array = np.where(unit < units, flat[place], 0).astype(np.float32)
    return packed.reshape(-1)
