"""What is left to do in a run on a GPU: steps over addresses, their numbers as dims over symbols.

A plan is the Program of a model after code generation, without anything of the compiler: it stands in a
package as JSON, and an Executor walks it. Every tensor is a `Place`: a piece of one of the memories of a run.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

from dlc.ir.dims import Dim

#: The kinds of memory. Those of the workspace belong to one kernel at a time, faults to the run.
INPUT, OUTPUT, CONSTANT, ARENA, GROWN = "input", "output", "constant", "arena", "grown"
WORKSPACE, FAULTS = "workspace", "faults"


@dataclasses.dataclass(frozen=True)
class Place:
    """Memory from `offset` bytes on in the memory number `index` of its `kind`."""

    kind: str
    index: int
    offset: Dim


@dataclasses.dataclass(frozen=True)
class Launch:
    """Run function number `function` on a grid of programs; `origin` names the nodes that it works for.

    Its indices reach `most` elements, and the greatest of its tensors has `elements`; 0 where that is enough
    for sure.
    """

    function: int
    grid: tuple[Dim, ...]
    pointers: tuple[Place, ...]
    scalars: tuple[Dim, ...]
    origin: str
    elements: Dim
    most: int


@dataclasses.dataclass(frozen=True)
class Recur:
    """Take `body` for each number of the symbol `axis` from 0 to `extent` - 1, backwards if `reverse`.

    After each number the memories of each pair in `swapped`, which are whole workspaces, change places.
    """

    axis: str
    extent: Dim
    reverse: bool
    body: tuple[Launch, ...]
    swapped: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluate a kernel, in its text form, on the host; `places` are its parameters', `reason` tells why."""

    kernel: str
    places: tuple[Place, ...]
    origin: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Bind:
    """From here on `symbol` is the integer of type `dtype` at a place."""

    symbol: str
    place: Place
    dtype: str


@dataclasses.dataclass(frozen=True)
class Check:
    """Stop with guard number `guard` of the plan when it does not hold."""

    guard: int


@dataclasses.dataclass(frozen=True)
class Set:
    """From here on each symbol is the number of the dim beside it; all are computed, then set."""

    symbols: tuple[str, ...]
    values: tuple[Dim, ...]


@dataclasses.dataclass(frozen=True)
class Grow:
    """Make growing memory number `index` at least `bytes` long; what it holds is kept."""

    index: int
    bytes: Dim


@dataclasses.dataclass(frozen=True)
class Reserve:
    """Make the first workspaces at least so many bytes long, for a kernel whose sizes only the run tells.

    Workspaces that have changed places are where they were at first again; what they hold is lost.
    """

    bytes: tuple[Dim, ...]


@dataclasses.dataclass(frozen=True)
class Copy:
    """Copy `bytes` bytes."""

    source: Place
    target: Place
    bytes: Dim


@dataclasses.dataclass(frozen=True)
class Branch:
    """Take one way, by the bool at `condition`; of what it binds only `symbols` stay."""

    condition: Place
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]
    symbols: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Repeat:
    """A loop, as `dlc.lowering.program.Repeat` says; of what the body binds only `symbols` stay."""

    trip: Dim | None
    condition: Place | None
    number: str
    counter: Place | None
    body: tuple[Step, ...]
    again: Place | None
    symbols: tuple[str, ...]
    limit: int
    origin: str


Step: TypeAlias = Launch | Recur | Evaluate | Bind | Check | Set | Grow | Reserve | Copy | Branch | Repeat


@dataclasses.dataclass(frozen=True)
class Condition:
    """A guard: `left` `relation` `right` holds, or the run ends with `message`."""

    relation: str
    left: Dim
    right: Dim
    message: str
    origin: str


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output: where it lies, its element type and its extents."""

    place: Place
    dtype: str
    shape: tuple[Dim, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A whole model. The first `entry_guards` guards are checked before the run.

    `symbols` get their numbers from the inputs, in the order of a call; `ranges` holds the least and greatest
    number of every symbol that dims speak of. `arena` and `workspaces` are bytes; those of workspaces that
    only the run tells are reserved in it. `growing` memories are empty at first. `fault_origins` has an entry
    for each launch that checks indices, which says for which nodes.
    """

    symbols: tuple[str, ...]
    ranges: dict[str, tuple[int | None, int | None]]
    guards: tuple[Condition, ...]
    entry_guards: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    constants: int
    arena: Dim
    workspaces: tuple[Dim, ...]
    growing: int
    fault_origins: tuple[str, ...]
    steps: tuple[Step, ...]
