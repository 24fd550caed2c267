"""Red zones: memory beside each buffer of the arena that no step may write to.

They hold a pattern while a step runs: written before it, looked at after it. A kernel that strays out of a
result is found even where its accesses are not checked one by one, and named.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.compiled import FAULT, FAULT_ACCESS, SLOT
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.backends.cpu.module import Module
from dlc.lowering.program import Buffer, StorageKind

#: A NaN in every floating-point type of 16 bits and more.
PATTERN = 0xFFF7_FFF7_FFF7_FFF7
_PAINT, _LOOK = "zone_paint", "zone_look"


class RedZones:
    """Writes and looks at zones of `bytes` bytes on either side of buffers in `arena`; nothing if that is 0.
    """

    def __init__(
        self, b: FunctionBuilder, bytes: int, arena: t.Value, emitter: ExpressionEmitter
    ) -> None:
        self._b = b
        self._bytes = bytes
        self._arena = arena
        self._emitter = emitter

    @contextlib.contextmanager
    def around(self, context: t.Value, step: int, buffers: Sequence[Buffer]) -> Iterator[None]:
        """Guard the zones of `buffers` during the step that is written inside."""
        b = self._b
        inside = [buffer for buffer in buffers if self._bytes and buffer.storage.kind is StorageKind.ARENA]
        if not inside:
            yield
            return
        _declare(b.module)
        zones = [(buffer, side, place) for buffer in inside for side, place in self._places(buffer)]
        for _, _, place in zones:
            b.call(_PAINT, [place, self._bytes])
        yield
        for buffer, side, place in zones:
            damaged = b.icmp("eq", b.call(_LOOK, [place, self._bytes]), 0)
            access = FAULT_ACCESS + b.module.access(f"red zone {side} '{buffer.name}'")
            with b.if_(damaged):
                word = b.byte_offset(context, FAULT * SLOT)
                b.call("dlc_report_fault", [word, step, access])

    def _places(self, buffer: Buffer) -> list[tuple[str, t.Value]]:
        """The zones before and after the memory that a buffer is in."""
        dim, b = self._emitter.dim, self._b
        start = b.byte_offset(self._arena, dim(buffer.offset))
        end = b.byte_offset(self._arena, dim(buffer.offset + buffer.storage.bytes))
        return [("before", b.byte_offset(start, -self._bytes)), ("after", end)]


def _declare(module: Module) -> None:
    """The functions (zone, bytes) that write the pattern, and that tell (1) if it is still there."""
    if module.defined(_PAINT) is not None:
        return
    params = [("zone", t.ptr), ("bytes", t.i64)]
    pattern = t.wrap(PATTERN, 64)
    paint = module.function(_PAINT, params)
    with paint.loop(0, paint.params[1], SLOT) as loop:
        paint.store(pattern, paint.byte_offset(paint.params[0], loop.iv))
    look = module.function(_LOOK, params, t.i64)
    with look.loop(0, look.params[1], SLOT, carry=[1]) as loop:
        word = look.load(look.byte_offset(look.params[0], loop.iv), t.i64)
        loop.next = (look.select(look.icmp("eq", word, pattern), loop.carried[0], 0),)
    look.return_(loop.results[0])
