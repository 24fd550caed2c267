"""Growing a storage to a size that depends on data: the size must not wrap around on its way."""

from __future__ import annotations

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.backends.cpu.overflow import Magnitudes, fit
from dlc.ir.dims import Dim

#: Sizes are refused from here on.
_LARGEST = 1 << 60


def emit_growth(
    b: FunctionBuilder, context: t.Value, storage: int, size: Dim, emitter: ExpressionEmitter
) -> None:
    """Make growing storage `storage` at least `size` bytes long, through dlc_grow.

    A size that is negative, or in whose computation any number might leave i64, is asked for as -1, which
    dlc_grow refuses as too large.
    """
    number = emitter.dim(size)
    if not isinstance(size, int):
        magnitudes = Magnitudes()
        magnitudes.require([size])
        fits = fit(b, emitter, magnitudes.unbounded(), _LARGEST)
        sound = b.icmp("sge", number, 0)
        if fits is not None:
            sound = b.value(b.and_(sound, fits), t.i1)
        number = b.select(sound, number, b.const(t.i64, -1))
    b.call("dlc_grow", [context, b.const(t.i64, storage), number], t.ptr)
