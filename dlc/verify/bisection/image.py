"""The memory of one run of a program, step by step under the eyes of a checker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from dlc.errors import ShapeError
from dlc.ir.dims import Dim, Symbol, evaluate
from dlc.ir.graph import ElementSource, ShapeSource
from dlc.ir.objects import with_row
from dlc.ir.types import FillKind
from dlc.lowering.program import (
    Bind,
    Buffer,
    Check,
    Copy,
    Grow,
    Host,
    Measure,
    ObjectSlot,
    Place,
    Program,
    Refer,
    Repeat,
    Set,
    Storage,
    StorageKind,
    Unload,
)
from dlc.lowering.tensors import Memory
from dlc.runtime.arena import Block
from dlc.verify.bisection.subject import Prepared
from dlc.verify.compare import Array

#: Kind and index of a storage, the first byte, and the byte behind the last.
Span: TypeAlias = tuple[StorageKind, int, int, int]


class Image:
    """Inputs, outputs and arena of a run as bytes, laid out as the program says, and its symbols' numbers.

    What nothing was written to yet holds NaNs. `numbers` has the symbols that the inputs decide, and those
    of the Bind steps made so far; a storage is taken when it is first touched, so that its size may depend on
    them. Constants are those of `program`, which must not be packed yet.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.program: Program = prepared.program
        graph, feeds = prepared.model.graph, prepared.feeds
        self.numbers: dict[str, int] = {}
        for symbol, source in graph.symbols.items():
            if isinstance(source, ShapeSource):
                self.numbers[symbol.name] = feeds[source.value].shape[source.axis]
            elif isinstance(source, ElementSource) and source.value in feeds:
                self.numbers[symbol.name] = int(feeds[source.value].reshape(-1)[source.index])
        self._storages: dict[tuple[StorageKind, int], Array] = {}
        for index, value in enumerate(graph.inputs):
            self._storages[StorageKind.INPUT, index] = as_bytes(feeds[value.name])
        #: The objects of the run, by slot.
        self.objects: dict[int, Any] = {e.slot.index: e.data for e in self.program.object_constants}

    def number(self, dim: Dim) -> int:
        """The number of a dim."""
        return evaluate(dim, self.numbers)

    def storage(self, storage: Storage) -> Array:
        """The bytes of an input, an output, the arena or a growing storage."""
        key = (storage.kind, storage.index)
        if key not in self._storages:
            match storage.kind:
                case StorageKind.ARENA:
                    size = self.number(self.program.arena)
                case StorageKind.OUTPUT:
                    size = self.number(storage.bytes)
                case _:
                    size = 0  # nothing has made it grow yet
            self._storages[key] = Block(size, poison=True).array()
        return self._storages[key]

    def span(self, buffer: Buffer) -> Span:
        """Where a buffer lies."""
        start = self.number(buffer.offset)
        size = int(np.prod(self._physical_shape(buffer), dtype=np.int64)) * buffer.type.dtype.numpy.itemsize
        return buffer.storage.kind, buffer.storage.index, start, start + size

    def content(self, buffer: Buffer) -> Array:
        """The bytes of a buffer: a view, or those of a constant."""
        if buffer.storage.kind is StorageKind.CONSTANT:
            return as_bytes(self.program.constants[buffer.storage.index].data)
        _, _, start, stop = self.span(buffer)
        return self.storage(buffer.storage)[start:stop]

    def memory(self, buffer: Buffer, content: Array | None = None) -> Memory:
        """A buffer as kernels see it; over other bytes, if `content` is given."""
        return Memory(self.physical(buffer, content), buffer.type, self.shape(buffer))

    def physical(self, buffer: Buffer, content: Array | None = None) -> Array:
        """A buffer as an array in the order of memory; over other bytes, if `content` is given."""
        raw = self.content(buffer) if content is None else content
        return raw.view(buffer.type.dtype.numpy).reshape(self._physical_shape(buffer))

    def shape(self, buffer: Buffer) -> tuple[int, ...]:
        """The logical extents of a buffer."""
        return tuple(map(self.number, buffer.type.shape))

    def snapshot(self) -> dict[tuple[StorageKind, int], Array]:
        """Copies of the storages that can be written."""
        return {
            key: bytes_.copy() for key, bytes_ in self._storages.items() if key[0] is not StorageKind.INPUT
        }

    def stray_write(
        self, before: dict[tuple[StorageKind, int], Array], written: Sequence[Buffer]
    ) -> tuple[StorageKind, int] | None:
        """The storage and first byte that changed since `before` although it is in no buffer of `written`."""
        spans = [self.span(buffer) for buffer in written]
        for key, old in before.items():
            changed = self._storages[key] != old
            for kind, index, start, stop in spans:
                if (kind, index) == key:
                    changed[start:stop] = False
            if changed.any():
                return key[0], int(np.argmax(changed))
        return None

    # --- steps that compute nothing, and the host's

    def take(self, step: Bind | Check | Set | Grow | Copy | Measure | Unload | Refer) -> None:
        """Take a step that computes no tensor."""
        match step:
            case Bind(symbol, buffer, index):
                self.numbers[symbol.name] = int(self.memory(buffer).whole().reshape(-1)[index])
            case Check(guard, _):
                if not guard.holds(self.numbers):
                    raise ShapeError(guard.message, node=guard.origin or None)
            case Set(symbols, values):
                numbers = [self.number(value) for value in values]
                self.numbers.update((s.name, n) for s, n in zip(symbols, numbers, strict=True))
            case Grow(storage, size):
                self._grow(storage, self.number(size))
            case Copy(source, target):
                self.content(target)[...] = self.content(source)
            case Measure(_, symbol, slot, axis):
                self.numbers[symbol.name] = self.objects[slot.index].shape[axis]
            case Unload(_, slot, buffer):
                self.memory(buffer).assign(self.objects[slot.index])
            case Refer(_, source_slot, target_slot, row):
                element = self.objects[source_slot.index]
                if row is not None:
                    element = with_row(self.objects[target_slot.index], self.number(row), element)
                self.objects[target_slot.index] = element

    def run_host(self, step: Host) -> None:
        """Evaluate the node of a host step."""
        inputs = [None if place is None else self._operand(place) for place in step.inputs]
        with np.errstate(all="ignore"):
            results = step.node.op.evaluate(inputs, self.number)
        for place, result in zip(step.outputs, results, strict=True):
            if isinstance(place, ObjectSlot):
                self.objects[place.index] = result
            else:
                self.memory(place).assign(result)

    def _operand(self, place: Place) -> Any:
        """An object, or a copy of the array in a buffer."""
        if isinstance(place, ObjectSlot):
            return self.objects[place.index]
        return np.array(self.memory(place).whole())

    def _grow(self, storage: Storage, size: int) -> None:
        key = (storage.kind, storage.index)
        held = self._storages.get(key)
        if held is None or held.size < size:
            grown = Block(size, poison=True).array()
            grown[: 0 if held is None else held.size] = 0 if held is None else held
            self._storages[key] = grown

    def holds(self, condition: Buffer) -> bool:
        """The truth value in a buffer."""
        return bool(self.memory(condition).whole().reshape(-1)[0])

    @contextlib.contextmanager
    def inside(self, symbols: Sequence[Symbol]) -> Iterator[None]:
        """The way of a branch or an iteration: what it binds ends with it, but for `symbols`."""
        outside = dict(self.numbers)
        yield
        outside.update((s.name, self.numbers[s.name]) for s in symbols if s.name in self.numbers)
        self.numbers = outside

    def begin_iteration(self, step: Repeat, count: int) -> None:
        """Number the iteration that begins."""
        self.numbers[step.number.name] = count
        if step.counter is not None:
            self.memory(step.counter).assign(np.full((), count))

    def _physical_shape(self, buffer: Buffer) -> tuple[int, ...]:
        return tuple(map(self.number, buffer.type.physical_shape))


def overlap(one: Span, other: Span) -> bool:
    """Whether two spans share a byte."""
    return one[:2] == other[:2] and one[2] < other[3] and other[2] < one[3]


def as_bytes(array: Array) -> Array:
    """The bytes of an array in C order; a view where it has that order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def with_halo(memory: Memory) -> Array:
    """The logical elements of `memory`, and those of its halo whose content the type gives."""
    ranges = [np.arange(*memory.reach(axis)) for axis in range(len(memory.shape))]
    grid = np.meshgrid(*ranges, indexing="ij", sparse=True)
    shape = tuple(len(line) for line in ranges)
    return np.broadcast_to(memory.load(grid), shape) if shape else memory.whole()


def filled(memory: Memory, logical: Array) -> Array:
    """What :func:`with_halo` gives where the elements are `logical` and the halo is as its type says."""
    result = logical
    for halo in memory.halos:
        widths = [(halo.before, halo.after) if axis == halo.axis else (0, 0) for axis in range(logical.ndim)]
        fill = np.asarray(halo.fill.number).astype(logical.dtype)
        result = np.pad(result, widths, constant_values=fill)
    return result


def wrong_pad(memory: Memory, physical: Array) -> bool:
    """Whether a lane that fills up the last block of an axis holds something else than the layout says.

    Halos are left out: they are filled by later launches.
    """
    layout = memory.type.layout
    if layout is None or layout.pad.kind is FillKind.UNDEFINED:
        return False
    rounded = [
        -(-extent // layout.block(axis)) * layout.block(axis) for axis, extent in enumerate(memory.shape)
    ]
    whole = np.zeros(physical.shape, np.bool_)
    for shape, value in ((rounded, True), (memory.shape, False)):
        whole[memory.place(np.meshgrid(*map(np.arange, shape), indexing="ij", sparse=True))] = value
    lanes = physical[whole]
    return bool((lanes != np.asarray(layout.pad.number).astype(lanes.dtype)).any())
