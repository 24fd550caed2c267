"""The work of a graph before memory is laid out: a tree of launches, host nodes, copies, branches and loops.

Values share memory where nothing has to move: views, what a region captures, the results of a way of an If
with those of the If, the states of a loop from iteration to iteration. `Sharing` knows whose memory a value's
is; `build_work` decides it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from dlc.ir.dims import Dim, Guard, Symbol
from dlc.ir.graph import Graph, Node, Value
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.group import HostNode


@dataclasses.dataclass(eq=False)
class Task:
    """One launch or host node: what it reads and writes."""

    item: LoweredKernel | HostNode
    reads: Sequence[Value]
    writes: Sequence[Value]


@dataclasses.dataclass(eq=False)
class Move:
    """Copy the bytes of a value, or the object, to where another one lies; to its row `row` if given."""

    source: Value
    target: Value
    row: Symbol | None = None


@dataclasses.dataclass(eq=False)
class Read:
    """Bind a symbol to an element of a value."""

    symbol: Symbol
    value: Value
    index: int


@dataclasses.dataclass(eq=False)
class Assign:
    """Set symbols to the numbers of dims, all at once."""

    symbols: tuple[Symbol, ...]
    values: tuple[Dim, ...]


@dataclasses.dataclass(eq=False)
class Require:
    """Check a guard, which has this index among those of the program."""

    guard: Guard
    index: int


@dataclasses.dataclass(eq=False)
class Fork:
    """The two ways of an If; `symbols` are set by both."""

    node: Node
    condition: Value
    then: list[Work]
    otherwise: list[Work]
    symbols: tuple[Symbol, ...]


@dataclasses.dataclass(eq=False)
class Cycle:
    """A loop; the fields are those of `dlc.lowering.program.Repeat`."""

    node: Node
    trip: Dim | None
    condition: Value | None
    number: Symbol
    counter: Value | None
    body: list[Work]
    again: Value | None
    symbols: tuple[Symbol, ...]


@dataclasses.dataclass(eq=False)
class Extent:
    """Bind a symbol to an extent of an array among the objects."""

    symbol: Symbol
    value: Value
    axis: int


@dataclasses.dataclass(eq=False)
class Bring:
    """Copy an array among the objects to the memory of a tensor."""

    source: Value
    target: Value


Work: TypeAlias = Task | Move | Read | Assign | Require | Fork | Cycle | Extent | Bring


def touched(work: Work) -> tuple[Sequence[Value], Sequence[Value]]:
    """The values that a piece of work itself reads and writes, without what stands inside it."""
    match work:
        case Task():
            return work.reads, work.writes
        case Move():
            return (work.source,), (work.target,)
        case Read() | Extent():
            return (work.value,), ()
        case Bring():
            return (work.source,), (work.target,)
        case Fork():
            return (work.condition,), ()
        case Cycle():
            return [value for value in (work.condition, work.again) if value is not None], ()
    return (), ()


def inside(work: Work) -> Sequence[Sequence[Work]]:
    """The bodies of a piece of work."""
    match work:
        case Fork():
            return work.then, work.otherwise
        case Cycle():
            return (work.body,)
    return ()


def every(works: Iterable[Work]) -> Iterator[Work]:
    """All pieces of work, those inside of others after these."""
    for work in works:
        yield work
        for body in inside(work):
            yield from every(body)


class Sharing:
    """Whose memory each value's is; a value that was never shared has its own."""

    def __init__(self) -> None:
        self._owner: dict[Value, Value] = {}

    def share(self, value: Value, owner: Value) -> None:
        """Let the memory of `value`, which had its own, be that of `owner`."""
        self._owner[value] = owner

    def root(self, value: Value) -> Value:
        """The value that the memory of `value` belongs to."""
        while (owner := self._owner.get(value)) is not None:
            value = owner
        return value


@dataclasses.dataclass
class Block:
    """The work of one graph, and the values that it computes into memory of their own."""

    graph: Graph
    work: list[Work] = dataclasses.field(default_factory=list)
    defined: set[Value] = dataclasses.field(default_factory=set)
