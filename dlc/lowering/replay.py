"""An independent check of a program's memory plan, by byte intervals; it knows nothing of how it was made.

The steps are replayed on intervals instead of data. Each write makes its bytes belong to one value; each read
must find all of its bytes belonging to the value that it means. A write into memory that another value still
needs thus shows at that value's next read, and a read before any write shows at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from dlc.errors import InternalError
from dlc.ir.dims import evaluate, product
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.inplace import overwritable
from dlc.lowering.kernel import Access, Kernel
from dlc.lowering.memory import ALIGN
from dlc.lowering.program import Bind, Buffer, Check, Host, Launch, Program, StorageKind

_SHOWN = 20
_READ_ONLY = (StorageKind.INPUT, StorageKind.CONSTANT)


def replay(program: Program, symbols: Mapping[str, int]) -> None:
    """InternalError that lists what is wrong with the memory plan of `program` for these numbers of symbols.

    Checked: no read of bytes that were never written or that another value has taken over; no write to an
    input or a constant, beyond the end of a storage, or off alignment; no kernel that writes over an operand
    that it still reads; every output complete at the end.
    """
    problems = list(_Replay(program, symbols).run())
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InternalError(f"the memory plan is not sound:\n{shown}{more}")


@dataclasses.dataclass(frozen=True)
class _Span:
    """Bytes of one storage, and the value and step that they belong to."""

    start: int
    stop: int
    owner: str
    step: int

    def overlaps(self, other: _Span) -> bool:
        return self.start < other.stop and other.start < self.stop


class _Replay:
    def __init__(self, program: Program, symbols: Mapping[str, int]) -> None:
        self.program = program
        self.symbols = symbols
        self.memory: dict[tuple[StorageKind, int], list[_Span]] = {}

    def run(self) -> Iterator[str]:
        for buffer in self.program.inputs:
            self._own(buffer, -1)
        for index, constant in enumerate(self.program.constants):
            place = (StorageKind.CONSTANT, index)
            self.memory[place] = [_Span(0, constant.data.nbytes, constant.name, -1)]
        for number, step in enumerate(self.program.steps):
            match step:
                case Launch():
                    yield from self._launch(number, step)
                case Host():
                    inputs = [buffer for buffer in step.inputs if buffer is not None]
                    yield from self._work(number, inputs, list(step.outputs), [])
                case Bind():
                    yield from self._read(number, step.buffer)
                case Check():
                    pass
        for buffer in self.program.outputs:
            yield from self._read(len(self.program.steps), buffer)

    def _launch(self, number: int, step: Launch) -> Iterator[str]:
        kernel = self.program.kernels[step.kernel]
        if len(step.buffers) != len(kernel.params):
            yield f"step {number} gives {len(step.buffers)} buffers to {len(kernel.params)} parameters"
            return
        pairs = list(zip(kernel.params, step.buffers))
        reads = [buffer for param, buffer in pairs if param.access is not Access.WRITE]
        writes = [buffer for param, buffer in pairs if param.access is not Access.READ]
        yield from self._work(number, reads, writes, self._overwritten(kernel, step))

    def _overwritten(self, kernel: Kernel, step: Launch) -> list[Buffer]:
        """The operands that the kernel may write over while it reads them."""
        names = overwritable(LoweredKernel(kernel, {}))
        return [b for param, b in zip(kernel.params, step.buffers) if param.name in names]

    def _work(
        self, number: int, reads: list[Buffer], writes: list[Buffer], overwritten: list[Buffer]
    ) -> Iterator[str]:
        for buffer in reads:
            yield from self._read(number, buffer)
        for position, buffer in enumerate(writes):
            yield from self._place(number, buffer)
            for other in (*reads, *writes[:position]):
                if other.owner == buffer.owner or not self._collide(buffer, other):
                    continue
                same = self._span(buffer, number)[:2] == self._span(other, number)[:2]
                if not (same and other in overwritten):
                    yield f"step {number} writes %{buffer.name} over %{other.name}, which it also uses"
        for buffer in writes:
            self._own(buffer, number)

    def _span(self, buffer: Buffer, step: int) -> tuple[int, int, _Span]:
        start = evaluate(buffer.offset, self.symbols)
        elements = evaluate(product(buffer.type.physical_shape), self.symbols)
        stop = start + elements * buffer.type.dtype.itemsize
        return start, stop, _Span(start, stop, buffer.owner, step)

    def _collide(self, buffer: Buffer, other: Buffer) -> bool:
        if (buffer.storage.kind, buffer.storage.index) != (other.storage.kind, other.storage.index):
            return False
        return self._span(buffer, 0)[2].overlaps(self._span(other, 0)[2])

    def _own(self, buffer: Buffer, step: int) -> None:
        """Let the bytes of `buffer` belong to its value from here on."""
        span = self._span(buffer, step)[2]
        place = (buffer.storage.kind, buffer.storage.index)
        kept: list[_Span] = []
        for old in self.memory.get(place, []):
            if not old.overlaps(span):
                kept.append(old)
                continue
            if old.start < span.start:
                kept.append(dataclasses.replace(old, stop=span.start))
            if old.stop > span.stop:
                kept.append(dataclasses.replace(old, start=span.stop))
        self.memory[place] = [*kept, span]

    def _read(self, number: int, buffer: Buffer) -> Iterator[str]:
        start, stop, wanted = self._span(buffer, number)
        covered = start
        for span in sorted(self.memory.get((buffer.storage.kind, buffer.storage.index), []), key=_start):
            if not span.overlaps(wanted):
                continue
            if span.start > covered:
                break
            covered = span.stop
            if span.owner != buffer.owner:
                overlap = f"bytes {max(start, span.start)} to {min(stop, span.stop)}"
                writer = f"step {span.step} wrote %{span.owner}"
                yield f"step {number} reads %{buffer.name}, but {writer} to {overlap}"
        if covered < stop:
            yield f"step {number} reads %{buffer.name}, whose bytes from {covered} on were never written"

    def _place(self, number: int, buffer: Buffer) -> Iterator[str]:
        """What is wrong with where a result is put."""
        start, stop, _ = self._span(buffer, number)
        storage = buffer.storage
        if storage.kind in _READ_ONLY:
            yield f"step {number} writes %{buffer.name} to {storage.kind.value} {storage.index}"
        size = self.program.arena if storage.kind is StorageKind.ARENA else storage.bytes
        if start < 0 or stop > evaluate(size, self.symbols):
            yield f"step {number} writes %{buffer.name} to bytes {start} to {stop} of {storage.kind.value}"
        if start % ALIGN:
            yield f"step {number} writes %{buffer.name} at {start}, which is no multiple of {ALIGN}"


def _start(span: _Span) -> int:
    return span.start
