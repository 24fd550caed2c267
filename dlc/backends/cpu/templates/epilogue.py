"""What follows a convolution in its kernel, applied to vectors of 16 channels while they are in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import KernelFrame
from dlc.ir.dims import Dim
from dlc.lowering.kernel import Kernel, Store


class BlockedEpilogue:
    """Evaluates and stores the last stage of a kernel whose channel axis was split into blocks and lanes.

    `split` is the kernel after `split_blocked_axes`; `channels` the name that the channel axis had before,
    `positions` the names of the axes of output positions, `local` the convolution's result.
    """

    def __init__(
        self, frame: KernelFrame, split: Kernel, channels: str, positions: Sequence[str], local: str
    ) -> None:
        self.frame = frame
        self.stage = next(stage for stage in split.body if isinstance(stage, Store))
        self.lanes = split.axis(f"{channels}i").symbol
        self.block = split.axis(f"{channels}o").symbol
        self.positions = set(positions)
        self.local = local

    def store(self, block: t.Index, values: Sequence[t.Value], places: Sequence[Callable[[], None]]) -> None:
        """Store `values`, vectors of channel block `block`; `places` set the axes of the position of each.

        What depends on the channel only, such as a bias, is loaded once for all of them.
        """
        em, stage = self.frame.emitter, self.stage
        em.vector_axis = self.lanes
        em.axes[self.lanes.name] = em.b.value(0)
        with em.scope():
            em.forget()
            em.axes[self.block.name] = em.b.value(block)
            em.hoist([stage.value], self.positions)
            for value, place in zip(values, places, strict=True):
                em.locals[self.local] = _constant(value)
                with em.scope():
                    place()
                    em.store(
                        stage.param, stage.index, em.emit_lanes(stage.value), stage.value.dtype, stage.mask
                    )
        em.vector_axis = None


def _constant(value: t.Value) -> Callable[[tuple[Dim, ...]], t.Value]:
    """A local that is one register."""
    return lambda _: value
