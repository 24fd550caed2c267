"""The Program: steps over buffers, what is left to do at run time.

Its form is the same for every backend. Kernels are referred to by index, so that equal ones are shared.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TypeAlias

from dlc.ir.dims import Dim, Guard, Symbol
from dlc.ir.graph import Node
from dlc.ir.operator import Array
from dlc.ir.types import TensorType
from dlc.lowering.kernel import Kernel


class StorageKind(enum.Enum):
    """Who owns a storage and for how long."""

    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    ARENA = "arena"


@dataclasses.dataclass(frozen=True)
class Storage:
    """A piece of memory: the arena, an input, an output or a constant (`index` of its kind)."""

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
    """Evaluate one node of the graph in NumPy; `reason` tells why it has no kernel."""

    index: int
    node: Node
    inputs: tuple[Buffer | None, ...]
    outputs: tuple[Buffer, ...]
    reason: str


Step: TypeAlias = Launch | Bind | Check | Host


@dataclasses.dataclass(frozen=True)
class Constant:
    """Data that the program reads: an array, and the name of the value that it was."""

    name: str
    data: Array


@dataclasses.dataclass(frozen=True)
class Program:
    """A lowered model.

    `symbols` are extents and elements of inputs, in the order in which a call passes their numbers;
    `run_symbols` are bound during the run. Guards over `symbols` alone are checked before the run, the others
    by steps. `inputs` and `outputs` are buffers in the model's order. `arena` is the bytes of memory that a run
    needs.
    """

    symbols: tuple[Symbol, ...]
    run_symbols: tuple[Symbol, ...]
    guards: tuple[Guard, ...]
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    constants: tuple[Constant, ...]
    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    arena: Dim
    decisions: tuple[Decision, ...] = ()


@dataclasses.dataclass(frozen=True)
class Decision:
    """Why two operators were, or were not, put into one kernel."""

    producer: str
    consumer: str
    fused: bool
    reason: str
