"""The positions of the true elements of a vector: three launches, the last of which writes positions to the
places that the counts before say. It writes no more of them than there is room for.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton.templates.prefix import Prefix
from dlc.backends.triton.templates.routine import RoutineBuilder, routine_of
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget


@dataclasses.dataclass(frozen=True)
class Form:
    """The condition and the positions."""

    condition: str
    positions: str


def match(part: Kernel) -> Form | Declined:
    """Takes a compact alone."""
    routine = routine_of(part, "compact")
    return routine if isinstance(routine, Declined) else Form(*routine.params)


def emit(part: Kernel, form: Form, target: GpuTarget) -> Launches:
    """Counts, their sums, and positions."""
    del target

    def marks(builder: RoutineBuilder, at: str, mask: str) -> str:
        return builder.load(form.condition, at, mask=mask)

    prefix = Prefix(part, "counts", part.param(form.condition).type.shape[0], marks)
    builder = prefix.builder()
    _, at, marked, before = prefix.before(builder)
    room = builder.dim(part.param(form.positions).type.shape[0])
    fits = builder.assign("fits", f"{marked} & ({before} < {room})")
    builder.store(f"{at}.to(tl.int64)", form.positions, before, mask=fits)
    last = builder.finish("compact", (prefix.blocks,))
    return Launches((*prefix.calls(), last), (prefix.space,))
