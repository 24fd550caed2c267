"""The Program: steps over buffers, what is left to do at run time.

Its form is the same for every backend. Kernels are referred to by index, so that equal ones are shared.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from dlc.ir.dims import Dim, Guard, Symbol
from dlc.ir.graph import Node
from dlc.ir.operator import Array
from dlc.ir.types import TensorType, Type
from dlc.lowering.kernel import Kernel


class StorageKind(enum.Enum):
    """Who owns a storage and for how long.

    GROWN ones belong to the run: they hold what has a size that only the run tells, and are as large as the
    `Grow` steps have made them.
    """

    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    ARENA = "arena"
    GROWN = "grown"


@dataclasses.dataclass(frozen=True)
class Storage:
    """A piece of memory: the arena, an input, an output, a constant or a growing one (`index` of its kind).

    The `bytes` of a growing one are those of the value that it is for.
    """

    kind: StorageKind
    index: int
    bytes: Dim


@dataclasses.dataclass(frozen=True)
class Buffer:
    """Where a tensor lies: a storage, a byte offset in it, and the tensor's type.

    `name` is the value's; `viewed` that of the value whose memory this is under another shape, if it is.
    """

    name: str
    storage: Storage
    offset: Dim
    type: TensorType
    viewed: str = ""

    @property
    def owner(self) -> str:
        """The name of the value that the memory belongs to."""
        return self.viewed or self.name


@dataclasses.dataclass(frozen=True)
class ObjectSlot:
    """Where a value lies that is no tensor of numbers: an entry in the run's table of objects.

    Objects are Python's: arrays of str, lists of arrays, None; and, until memory is made for it, an array
    whose extents a host step has decided. Generated code knows nothing of them. `name` is the value's.
    """

    name: str
    index: int
    type: Type


Place: TypeAlias = Buffer | ObjectSlot


def buffers(places: Iterable[Place | None]) -> list[Buffer]:
    """Those of `places` that are memory of generated code."""
    return [place for place in places if isinstance(place, Buffer)]


@dataclasses.dataclass(frozen=True)
class Launch:
    """Run kernel `kernel` on `buffers`, one a parameter; `origins` are the ONNX nodes it works for."""

    kernel: int
    buffers: tuple[Buffer, ...]
    symbols: tuple[Dim, ...]
    origins: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Bind:
    """From here on `symbol` is element `index` of the integer tensor in `buffer`."""

    symbol: Symbol
    buffer: Buffer
    index: int


@dataclasses.dataclass(frozen=True)
class Check:
    """Stop with the guard's message when it does not hold."""

    guard: Guard
    index: int


@dataclasses.dataclass(frozen=True)
class Host:
    """Evaluate one node of the graph in NumPy; `reason` tells why it has no kernel.

    `index` is the number of the step, by which generated code asks for it.
    """

    index: int
    node: Node
    inputs: tuple[Place | None, ...]
    outputs: tuple[Place, ...]
    reason: str


@dataclasses.dataclass(frozen=True)
class Measure:
    """From here on `symbol` is extent `axis` of the array in `slot`."""

    index: int
    symbol: Symbol
    slot: ObjectSlot
    axis: int


@dataclasses.dataclass(frozen=True)
class Unload:
    """Copy the array in `slot` to `buffer`."""

    index: int
    slot: ObjectSlot
    buffer: Buffer


@dataclasses.dataclass(frozen=True)
class Refer:
    """Let `target` hold what `source` does.

    With `row`, both hold arrays of str: the one of `target` gets that of `source` as its row of that number,
    and has no others behind it.
    """

    index: int
    source: ObjectSlot
    target: ObjectSlot
    row: Symbol | None = None


@dataclasses.dataclass(frozen=True)
class Set:
    """From here on each of `symbols` is the number of the dim beside it; all are computed, then set."""

    symbols: tuple[Symbol, ...]
    values: tuple[Dim, ...]


@dataclasses.dataclass(frozen=True)
class Grow:
    """Make a growing storage at least `bytes` long; what it holds is kept, the rest is undefined."""

    storage: Storage
    bytes: Dim


@dataclasses.dataclass(frozen=True)
class Copy:
    """Copy the tensor in `source` to `target`; both are row-major with the same number of bytes."""

    source: Buffer
    target: Buffer


@dataclasses.dataclass(frozen=True)
class Branch:
    """Take the steps of one way, by the bool in `condition`.

    `symbols` are set in both ways and have a number afterwards; what else a way binds ends with it.
    """

    condition: Buffer
    then: Steps
    otherwise: Steps
    symbols: tuple[Symbol, ...] = ()


@dataclasses.dataclass(frozen=True)
class Repeat:
    """Run `body` `trip` times (None: no bound), and only while the condition holds.

    The condition is `condition` before the first iteration and `again` after each; None holds. In the body
    `number` counts iterations from 0; it also stands in `counter` where something reads it from memory.
    `symbols` pass from iteration to iteration: they are set before the loop and by the body, and have a
    number afterwards; what else the body binds ends with each iteration. More than `limit` iterations are an
    error that names `origins`.
    """

    trip: Dim | None
    condition: Buffer | None
    number: Symbol
    counter: Buffer | None
    body: Steps
    again: Buffer | None
    symbols: tuple[Symbol, ...]
    limit: int
    origins: tuple[str, ...]


#: Steps that Python takes, when generated code comes to them.
HostStep: TypeAlias = Host | Measure | Unload | Refer
Step: TypeAlias = Launch | Bind | Check | HostStep | Set | Grow | Copy | Branch | Repeat
Steps: TypeAlias = tuple[Step, ...]


def walk(steps: Iterable[Step]) -> Iterator[Step]:
    """Every step, those inside of branches and loops after these, in the order of the text.

    The position of a step in this order is its number, by which faults and profiles name it.
    """
    for step in steps:
        yield step
        match step:
            case Branch():
                yield from walk(step.then)
                yield from walk(step.otherwise)
            case Repeat():
                yield from walk(step.body)


@dataclasses.dataclass(frozen=True)
class Constant:
    """Data that the program reads: an array, and the name of the value that it was."""

    name: str
    data: Array


@dataclasses.dataclass(frozen=True)
class ObjectConstant:
    """Strings that the program reads, and the slot that holds them from the start."""

    slot: ObjectSlot
    data: Array


@dataclasses.dataclass(frozen=True)
class Program:
    """A lowered model.

    `symbols` are extents and elements of inputs, in the order in which a call passes their numbers;
    `run_symbols` are bound during the run. Of the guards, the first `entry_guards`, over `symbols` alone, are
    checked before the run, the others by steps. `inputs` and `outputs` stand in the model's order.
    `arena` is the bytes of memory that a run needs, besides its `storages` growing storages. In it every
    buffer has `red_zone` bytes on either side that nothing may write to. The table of objects has `objects`
    entries.
    """

    symbols: tuple[Symbol, ...]
    run_symbols: tuple[Symbol, ...]
    guards: tuple[Guard, ...]
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    constants: tuple[Constant, ...]
    kernels: tuple[Kernel, ...]
    steps: Steps
    arena: Dim
    decisions: tuple[Decision, ...] = ()
    entry_guards: int = 0
    storages: int = 0
    red_zone: int = 0
    objects: int = 0
    object_constants: tuple[ObjectConstant, ...] = ()


@dataclasses.dataclass(frozen=True)
class Decision:
    """Why two operators were, or were not, put into one kernel."""

    producer: str
    consumer: str
    fused: bool
    reason: str
