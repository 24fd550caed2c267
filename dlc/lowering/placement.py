"""Where values lie: what needs memory when, in the arena or in storages that grow.

Pieces of work are numbered depth first. A value lives from the first to the last that touches it; one that
is touched within a loop, but does not begin there, lives through the whole loop. What has a size that only
the run tells goes to growing storages, which values that live at different times share.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from dlc.ir.dims import Dim, Symbol, ceildiv, free_symbols, product
from dlc.ir.graph import Value
from dlc.ir.types import is_object
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.inplace import overwritable
from dlc.lowering.memory import ALIGN, Lifetime, lay_out
from dlc.lowering.program import Buffer, Storage, StorageKind
from dlc.lowering.work import Cycle, Sharing, Task, Work, inside, touched


@dataclasses.dataclass
class Placement:
    """The buffers of the values that own memory, bytes of the arena, number of growing storages."""

    buffers: dict[Value, Buffer]
    arena: Dim
    storages: int


def place(
    work: Sequence[Work],
    sharing: Sharing,
    outputs: Sequence[Value],
    given: set[Value],
    known: set[Symbol],
    red_zone: int = 0,
) -> Placement:
    """Give every tensor of numbers that the work touches a place.

    `outputs` are those of the model, `given` its inputs, which have memory already, and `known` the symbols
    that have numbers before the run. In the arena each has `red_zone` bytes (a multiple of the alignment) to
    itself on either side.
    """
    lives = _Lives(sharing, given)
    lives.visit(work)
    return _Placing(lives, sharing, outputs, known, red_zone).run()


def nbytes(value: Value) -> Dim:
    """Bytes of a value in memory, rounded up to the alignment."""
    return ceildiv(product(value.tensor.physical_shape) * value.tensor.dtype.itemsize, ALIGN) * ALIGN


@dataclasses.dataclass(eq=False)
class _Span:
    """The positions of a loop, and what its body touches."""

    start: int
    stop: int
    roots: set[Value]


class _Lives:
    """First and last position at which the memory of each value is needed."""

    def __init__(self, sharing: Sharing, given: set[Value]) -> None:
        self._sharing = sharing
        self._given = given
        self._open: list[_Span] = []
        self._loops: list[_Span] = []
        self._position = 0
        self.first: dict[Value, int] = {}
        self.last: dict[Value, int] = {}
        #: The kernels with their positions, in order.
        self.kernels: list[tuple[int, LoweredKernel]] = []

    def visit(self, works: Sequence[Work]) -> None:
        """Number pieces of work, and see what they touch."""
        self._visit(works)
        inner = dict(self.first), dict(self.last)
        for loop in self._loops:
            for root in loop.roots:
                if inner[0][root] < loop.start or inner[1][root] > loop.stop:
                    self.first[root] = min(self.first[root], loop.start)
                    self.last[root] = max(self.last[root], loop.stop)

    def _visit(self, works: Sequence[Work]) -> None:
        for work in works:
            self._position += 1
            match work:
                case Cycle():
                    self._cycle(work)
                    continue
                case Task(LoweredKernel() as kernel):
                    self.kernels.append((self._position, kernel))
            for values in touched(work):
                self._touch(values)
            for body in inside(work):
                self._visit(body)

    def _cycle(self, cycle: Cycle) -> None:
        """The condition before the first iteration; then the body; then that of the next iteration."""
        self._touch([] if cycle.condition is None else [cycle.condition])
        counter = [] if cycle.counter is None else [cycle.counter]
        self._position += 1
        self._open.append(_Span(self._position, 0, set()))
        self._touch(counter)
        self._visit(cycle.body)
        self._position += 1
        self._touch(counter if cycle.again is None else [*counter, cycle.again])
        loop = self._open.pop()
        loop.stop = self._position
        self._loops.append(loop)

    def _touch(self, values: Sequence[Value]) -> None:
        for value in values:
            root = self._sharing.root(value)
            if root.data is None and root not in self._given and not is_object(root.type):
                self.first.setdefault(root, self._position)
                self.last[root] = self._position
                for loop in self._open:
                    loop.roots.add(root)


class _Placing:
    def __init__(
        self,
        lives: _Lives,
        sharing: Sharing,
        outputs: Sequence[Value],
        known: set[Symbol],
        red_zone: int,
    ) -> None:
        self.lives = lives
        self.sharing = sharing
        self.known = known
        self.red_zone = red_zone
        self.outputs = {sharing.root(value): index for index, value in reversed(list(enumerate(outputs)))}
        #: Those whose outputs have extents that only the run tells, even if their own are known.
        tensors = [value for value in outputs if not is_object(value.type)]
        self.late = {sharing.root(value) for value in tensors if not _symbols(value) <= known}
        self.storages = 0

    def run(self) -> Placement:
        buffers: dict[Value, Buffer] = {}
        owned = self._taken_over()
        local = [root for root in self.lives.first if root not in owned and root not in self.outputs]
        fixed = [root for root in local if self._is_known(root)]
        offsets, arena = lay_out([self._lifetime(root) for root in fixed])
        for root, offset in zip(fixed, offsets, strict=True):
            buffers[root] = _buffer(root, StorageKind.ARENA, 0, offset + self.red_zone)
        for root, index in self.outputs.items():
            if root not in self.lives.first:
                continue
            if self._is_known(root) and root not in self.late:
                buffers[root] = _buffer(root, StorageKind.OUTPUT, index)
            else:
                buffers[root] = _buffer(root, StorageKind.GROWN, self.storages)
                self.storages += 1
        grown = [root for root in local if not self._is_known(root)]
        for root, index in zip(grown, self._share_storages(grown), strict=True):
            buffers[root] = _buffer(root, StorageKind.GROWN, index)
        for root, owner in owned.items():
            place = buffers[owner]
            buffers[root] = _buffer(root, place.storage.kind, place.storage.index, place.offset)
        return Placement(buffers, arena, self.storages)

    def _is_known(self, root: Value) -> bool:
        """Whether the value's size is known before the run."""
        return free_symbols(nbytes(root)) <= self.known

    def _lifetime(self, root: Value) -> Lifetime:
        size = nbytes(root) + 2 * self.red_zone
        return Lifetime(root.name, size, self.lives.first[root], self.lives.last[root])

    def _taken_over(self) -> dict[Value, Value]:
        """Results that take over the memory of an operand: result -> the value that the memory belongs to.

        The owner lives on until the last use of the result.
        """
        first, last = self.lives.first, self.lives.last
        owned: dict[Value, Value] = {}
        ends = dict(last)
        for position, kernel in self.lives.kernels:
            if len(kernel.outputs) != 1:
                continue
            result = self.sharing.root(kernel.outputs[0])
            if first.get(result) != position or result in self.outputs:
                continue
            for param in overwritable(kernel):
                operand = self.sharing.root(kernel.values[param])
                same_kind = self._is_known(operand) == self._is_known(result)
                free = ends.get(operand) == position and operand is not result
                if free and same_kind and operand not in self.outputs:
                    owner = owned[result] = owned.get(operand, operand)
                    last[owner] = max(last[owner], last[result])
                    break
        return owned

    def _share_storages(self, roots: Sequence[Value]) -> Iterator[int]:
        """A growing storage for each value; one serves several that live at different times."""
        free: list[int] = []
        busy: list[tuple[int, int]] = []
        chosen: dict[Value, int] = {}
        for root in sorted(roots, key=self.lives.first.__getitem__):
            begin = self.lives.first[root]
            free += [index for end, index in busy if end < begin]
            busy = [(end, index) for end, index in busy if end >= begin]
            if not free:
                free.append(self.storages)
                self.storages += 1
            chosen[root] = free.pop()
            busy.append((self.lives.last[root], chosen[root]))
        return (chosen[root] for root in roots)


def _symbols(value: Value) -> set[Symbol]:
    """The symbols in the extents of a value; where one of these is 0, its size has fewer."""
    return {symbol for extent in value.tensor.shape for symbol in free_symbols(extent)}


def _buffer(root: Value, kind: StorageKind, index: int, offset: Dim = 0) -> Buffer:
    return Buffer(root.name, Storage(kind, index, nbytes(root)), offset, root.tensor)
