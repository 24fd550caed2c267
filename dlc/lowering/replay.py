"""An independent check of a program's memory plan, by byte intervals; it knows nothing of how it was made.

The steps are replayed on intervals instead of data. Each write makes its bytes belong to one value; each read
must find all of its bytes belonging to the value that it means. A write into memory that another value still
needs thus shows at that value's next read, and a read before any write shows at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from dlc.errors import InternalError
from dlc.ir.dims import evaluate, product
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.inplace import overwritable
from dlc.lowering.kernel import Access
from dlc.lowering.memory import ALIGN
from dlc.lowering.program import (
    Bind,
    Branch,
    Buffer,
    Copy,
    Grow,
    Host,
    Launch,
    Measure,
    ObjectSlot,
    Place,
    Program,
    Refer,
    Repeat,
    Step,
    Storage,
    StorageKind,
    Unload,
    buffers,
)

_SHOWN = 20
_READ_ONLY = (StorageKind.INPUT, StorageKind.CONSTANT)


def replay(program: Program, symbols: Mapping[str, int]) -> None:
    """InternalError that lists what is wrong with the memory plan of `program` for these numbers of symbols.

    Checked: no read of bytes that were never written or that another value has taken over; no write to an
    input or a constant, beyond the end of a storage, or off alignment; no kernel that writes over an operand
    that it still reads; no object that is read before it is there; every output complete at the end. The
    program has no branches or loops: where it has, `dlc.lowering.program_evaluate` checks the steps that a
    run takes.
    """
    ledger = Ledger(program)
    problems: list[str] = []
    for number, step in enumerate(program.steps):
        if isinstance(step, Branch | Repeat):
            raise InternalError(f"step {number} chooses its steps by data: only a run can be replayed")
        problems += ledger.step(number, step, symbols)
    refuse([*problems, *ledger.finish(symbols)])


def refuse(problems: Sequence[str]) -> None:
    """InternalError that lists `problems`, if there are any."""
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


class Ledger:
    """Which value each byte belongs to, as steps are taken one after the other."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._symbols: Mapping[str, int] = {}
        self._spans: dict[tuple[StorageKind, int], list[_Span]] = {}
        self._sizes: dict[int, int] = {}
        for index, constant in enumerate(program.constants):
            whole = _Span(0, constant.data.nbytes, constant.name, -1)
            self._spans[StorageKind.CONSTANT, index] = [whole]
        self._objects = {entry.slot.index for entry in program.object_constants}
        self._objects |= {place.index for place in program.inputs if isinstance(place, ObjectSlot)}
        self._given = False

    def step(self, number: int, step: Step, symbols: Mapping[str, int]) -> list[str]:
        """What is wrong with a step that is taken with these numbers of symbols."""
        self._begin(symbols)
        match step:
            case Launch():
                return list(self._launch(number, step))
            case Host():
                problems = list(self._fetch(number, step.inputs))
                self._objects |= {place.index for place in step.outputs if isinstance(place, ObjectSlot)}
                return [*problems, *self._work(number, buffers(step.inputs), buffers(step.outputs), [])]
            case Measure():
                return list(self._fetch(number, [step.slot]))
            case Refer():
                rows = [] if step.row is None else [step.target]
                problems = list(self._fetch(number, [step.source, *rows]))
                self._objects.add(step.target.index)
                return problems
            case Unload():
                return [*self._fetch(number, [step.slot]), *self._work(number, [], [step.buffer], [])]
            case Bind(_, buffer, _):
                return list(self._read(number, buffer))
            case Copy(source, target):
                return list(self._work(number, [source], [target], [], aligned=False))
            case Grow(storage, bytes_):
                known = self._sizes.get(storage.index, 0)
                self._sizes[storage.index] = max(known, evaluate(bytes_, symbols))
        return []

    def read(self, number: int, buffer: Buffer, symbols: Mapping[str, int]) -> list[str]:
        """What is wrong with the reading of a buffer."""
        self._begin(symbols)
        return list(self._read(number, buffer))

    def write(self, number: int, buffer: Buffer, symbols: Mapping[str, int]) -> list[str]:
        """What is wrong with the writing of a buffer."""
        self._begin(symbols)
        return list(self._work(number, [], [buffer], []))

    def finish(self, symbols: Mapping[str, int]) -> list[str]:
        """What is wrong with the outputs."""
        self._begin(symbols)
        end = len(self._program.steps)
        outputs = self._program.outputs
        problems = [problem for buffer in buffers(outputs) for problem in self._read(end, buffer)]
        return [*problems, *self._fetch(end, outputs)]

    def _fetch(self, number: int, places: Sequence[Place | None]) -> Iterator[str]:
        """What is wrong with the reading of those of `places` that are objects."""
        for place in places:
            if isinstance(place, ObjectSlot) and place.index not in self._objects:
                yield f"step {number} reads %{place.name}, an object that is not there yet"

    def _begin(self, symbols: Mapping[str, int]) -> None:
        self._symbols = symbols
        if not self._given:
            self._given = True
            for buffer in buffers(self._program.inputs):
                self._own(buffer, -1)

    def _launch(self, number: int, step: Launch) -> Iterator[str]:
        kernel = self._program.kernels[step.kernel]
        if len(step.buffers) != len(kernel.params):
            yield f"step {number} gives {len(step.buffers)} buffers to {len(kernel.params)} parameters"
            return
        pairs = list(zip(kernel.params, step.buffers))
        reads = [buffer for param, buffer in pairs if param.access is not Access.WRITE]
        writes = [buffer for param, buffer in pairs if param.access is not Access.READ]
        names = overwritable(LoweredKernel(kernel, {}))
        overwritten = [buffer for param, buffer in pairs if param.name in names]
        yield from self._work(number, reads, writes, overwritten)

    def _work(
        self,
        number: int,
        reads: list[Buffer],
        writes: list[Buffer],
        overwritten: list[Buffer],
        aligned: bool = True,
    ) -> Iterator[str]:
        """A step that reads and writes; what it overwrites may be one of its operands."""
        for buffer in reads:
            yield from self._read(number, buffer)
        for position, buffer in enumerate(writes):
            yield from self._place(number, buffer, aligned)
            for other in (*reads, *writes[:position]):
                if other.owner == buffer.owner or not self._collide(buffer, other):
                    continue
                mine, its = self._span(buffer, number), self._span(other, number)
                same = (mine.start, mine.stop) == (its.start, its.stop)
                if not (same and other in overwritten):
                    yield f"step {number} writes %{buffer.name} over %{other.name}, which it also uses"
        for buffer in writes:
            self._own(buffer, number)

    def _span(self, buffer: Buffer, step: int) -> _Span:
        start = evaluate(buffer.offset, self._symbols)
        elements = evaluate(product(buffer.type.physical_shape), self._symbols)
        return _Span(start, start + elements * buffer.type.dtype.itemsize, buffer.owner, step)

    def _collide(self, buffer: Buffer, other: Buffer) -> bool:
        if _place_of(buffer) != _place_of(other):
            return False
        return self._span(buffer, 0).overlaps(self._span(other, 0))

    def _own(self, buffer: Buffer, step: int) -> None:
        """Let the bytes of `buffer` belong to its value from here on."""
        span = self._span(buffer, step)
        kept: list[_Span] = []
        for old in self._spans.get(_place_of(buffer), []):
            if not old.overlaps(span):
                kept.append(old)
                continue
            if old.start < span.start:
                kept.append(dataclasses.replace(old, stop=span.start))
            if old.stop > span.stop:
                kept.append(dataclasses.replace(old, start=span.stop))
        self._spans[_place_of(buffer)] = [*kept, span]

    def _read(self, number: int, buffer: Buffer) -> Iterator[str]:
        wanted = self._span(buffer, number)
        covered = wanted.start
        for span in sorted(self._spans.get(_place_of(buffer), []), key=lambda span: span.start):
            if not span.overlaps(wanted):
                continue
            if span.start > covered:
                break
            covered = span.stop
            if span.owner != buffer.owner:
                overlap = f"bytes {max(wanted.start, span.start)} to {min(wanted.stop, span.stop)}"
                writer = f"step {span.step} wrote %{span.owner}"
                yield f"step {number} reads %{buffer.name}, but {writer} to {overlap}"
        if covered < wanted.stop:
            yield f"step {number} reads %{buffer.name}, whose bytes from {covered} on were never written"

    def _place(self, number: int, buffer: Buffer, aligned: bool) -> Iterator[str]:
        """What is wrong with where a result is put."""
        span, kind = self._span(buffer, number), buffer.storage.kind
        if kind in _READ_ONLY:
            yield f"step {number} writes %{buffer.name} to {kind.value} {buffer.storage.index}"
        if span.start < 0 or span.stop > self._size(buffer.storage):
            yield f"step {number} writes %{buffer.name} to bytes {span.start} to {span.stop} of {kind.value}"
        if aligned and span.start % ALIGN:
            yield f"step {number} writes %{buffer.name} at {span.start}, which is no multiple of {ALIGN}"

    def _size(self, storage: Storage) -> int:
        """The bytes that a storage has now."""
        match storage.kind:
            case StorageKind.ARENA:
                return evaluate(self._program.arena, self._symbols)
            case StorageKind.GROWN:
                return self._sizes.get(storage.index, 0)
        return evaluate(storage.bytes, self._symbols)


def _place_of(buffer: Buffer) -> tuple[StorageKind, int]:
    return buffer.storage.kind, buffer.storage.index
