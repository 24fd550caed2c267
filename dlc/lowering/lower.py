"""From a graph to a Program: plan the work, place values in memory, write the steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dlc.errors import InternalError
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, Symbol
from dlc.ir.graph import Graph, Value
from dlc.ir.operator import Array
from dlc.ir.ops.movement import Reshape
from dlc.ir.types import Layout, is_object
from dlc.limits import Limits
from dlc.lowering.canonical import canonicalize
from dlc.lowering.draft import LoweredKernel
from dlc.lowering.group import HostNode
from dlc.lowering.inplace import copied
from dlc.lowering.kernel import Kernel
from dlc.lowering.placement import nbytes, place
from dlc.lowering.planner import plan
from dlc.lowering.program import (
    Bind,
    Branch,
    Buffer,
    Check,
    Constant,
    Copy,
    Grow,
    Host,
    Launch,
    Measure,
    ObjectConstant,
    ObjectSlot,
    Place,
    Program,
    Refer,
    Repeat,
    Set,
    Step,
    Storage,
    StorageKind,
    Unload,
)
from dlc.lowering.work import (
    Assign,
    Bring,
    Cycle,
    Extent,
    Fork,
    Move,
    Read,
    Require,
    Task,
    Work,
    touched,
)


def lower(graph: Graph, limits: Limits | None = None, *, red_zone: int = 0) -> Program:
    """The program of a graph; `limits` bounds the iterations of its loops.

    Each buffer in the arena has `red_zone` bytes, a multiple of ALIGN, on either side that nothing uses.
    """
    copy_plain_outputs(graph)
    return _Lowering(graph, limits or Limits(), red_zone).run()


def copy_plain_outputs(graph: Graph) -> None:
    """Give each graph output that is an input, a constant or another output a value of its own.

    Objects need none: they never change, and are copied when they leave.
    """
    seen: set[Value] = set()
    for index, value in enumerate(graph.outputs):
        if not is_object(value.type) and (value.producer is None or value in seen):
            builder = GraphBuilder(graph, origin=value.producer.origin if value.producer else ())
            graph.outputs[index] = builder.add(Reshape(value.tensor.shape), value, names=[value.name])
        seen.add(value)


def in_memory(data: Array, layout: Layout | None) -> Array:
    """A constant as it lies in memory; constants have no layouts with blocks and halos."""
    if layout is None:
        return data
    if layout.permutation is None:
        raise InternalError(f"a constant cannot lie as {layout}")
    return np.ascontiguousarray(data.transpose(layout.permutation))


class _Lowering:
    def __init__(self, graph: Graph, limits: Limits, red_zone: int) -> None:
        self.graph = graph
        self.limits = limits
        self.red_zone = red_zone
        self.plan = plan(graph)
        self.given = {value: index for index, value in enumerate(graph.inputs)}
        self.placement = place(
            self.plan.work,
            self.plan.sharing,
            graph.outputs,
            set(self.given),
            set(self.plan.symbols),
            red_zone,
        )
        self.buffers = self.placement.buffers
        self.kernels: dict[Kernel, int] = {}
        self.constants: list[Constant] = []
        self.slots: dict[Value, ObjectSlot] = {}
        self.object_constants: list[ObjectConstant] = []
        #: An array's identity and its layout -> its position among the constants; regions read the same ones.
        self.places: dict[tuple[int, Layout | None], int] = {}
        self.run_symbols: dict[Symbol, None] = {}
        #: The number of the next step, in the order of `walk`.
        self.number = 0

    def run(self) -> Program:
        inputs = tuple(self._place(value) for value in self.graph.inputs)
        steps = self._steps(self.plan.work)
        outputs = tuple(self._place(value) for value in self.graph.outputs)
        return Program(
            self.plan.symbols,
            tuple(self.run_symbols),
            tuple(self.plan.guards),
            inputs,
            outputs,
            tuple(self.constants),
            tuple(self.kernels),
            steps,
            self.placement.arena,
            tuple(self.plan.decisions),
            self.plan.entry_guards,
            self.placement.storages,
            self.red_zone,
            len(self.slots),
            tuple(self.object_constants),
        )

    # --- buffers and objects

    def _place(self, value: Value) -> Place:
        """Where a value lies."""
        return self._slot(value) if is_object(value.type) else self._buffer(value)

    def _slot(self, value: Value) -> ObjectSlot:
        """The entry of a value among the objects, or that of the value whose entry it shares."""
        root = self.plan.sharing.root(value)
        found = self.slots.get(root)
        if found is None:
            found = self.slots[root] = ObjectSlot(root.name, len(self.slots), root.type)
            if root.data is not None:
                self.object_constants.append(ObjectConstant(found, root.data))
        return found if root is value else dataclasses.replace(found, name=value.name, type=value.type)

    def _buffer(self, value: Value) -> Buffer:
        """The buffer of a value: its own, or that of the value whose memory it shares, under its own type."""
        root = self.plan.sharing.root(value)
        found = self.buffers.get(root)
        if found is None:
            found = self.buffers[root] = Buffer(root.name, self._fixed_storage(root), 0, root.tensor)
        if root is value:
            return found
        return dataclasses.replace(found, name=value.name, type=value.tensor, viewed=root.name)

    def _fixed_storage(self, root: Value) -> Storage:
        """The storage of a constant or an input."""
        if root.data is None:
            return Storage(StorageKind.INPUT, self.given[root], nbytes(root))
        index = self.places.setdefault((id(root.data), root.tensor.layout), len(self.constants))
        if index == len(self.constants):
            self.constants.append(Constant(root.name, in_memory(root.data, root.tensor.layout)))
        return Storage(StorageKind.CONSTANT, index, root.data.nbytes)

    # --- steps

    def _steps(self, works: Sequence[Work]) -> tuple[Step, ...]:
        """The steps of pieces of work. Memory that grows does so before each value that goes there."""
        steps: list[Step] = []
        grown: set[Value] = set()
        for work in works:
            match work:
                case Task(LoweredKernel() as item) if self._is_done(item):
                    continue
                case Task() | Bring():
                    for value in touched(work)[1]:
                        if value not in grown and not is_object(value.type):
                            self._grow(self._buffer(value), nbytes(value), steps)
                        grown.add(value)
                case Move(source, target, row) if not is_object(target.type):
                    self._move(source, target, row, steps)
                    continue
            number = self.number
            self.number += 1
            steps.append(self._step(work, number))
        return tuple(steps)

    def _is_done(self, item: LoweredKernel) -> bool:
        """Whether a kernel would copy a value to where it lies already, as a state that a loop updates."""
        name = copied(item)
        if name is None:
            return False
        root, (result,) = self.plan.sharing.root, item.outputs
        return root(item.values[name]) is root(result)

    def _grow(self, buffer: Buffer, size: Dim, steps: list[Step]) -> None:
        if buffer.storage.kind is StorageKind.GROWN:
            self.number += 1
            steps.append(Grow(buffer.storage, size))

    def _move(self, source: Value, target: Value, row: Symbol | None, steps: list[Step]) -> None:
        """Copy a value to the place of another one, or to a row of it, which make it as large as needed."""
        read, write = self._buffer(source), self._buffer(target)
        size = source.tensor.elements * source.tensor.dtype.itemsize
        if row is None:
            self._grow(write, nbytes(source), steps)
        else:
            self._grow(write, (row + 1) * size, steps)
            write = dataclasses.replace(write, offset=write.offset + row * size)
        self.number += 1
        steps.append(Copy(read, dataclasses.replace(write, type=source.tensor)))

    def _step(self, work: Work, number: int) -> Step:
        match work:
            case Task(LoweredKernel() as item):
                return self._launch(item)
            case Task(HostNode() as item):
                node = item.node
                inputs = tuple(None if value is None else self._place(value) for value in node.inputs)
                return Host(number, node, inputs, tuple(map(self._place, work.writes)), item.reason)
            case Extent(symbol, value, axis):
                self.run_symbols[symbol] = None
                return Measure(number, symbol, self._slot(value), axis)
            case Bring(source, target):
                return Unload(number, self._slot(source), self._buffer(target))
            case Move(source, target, row):
                return Refer(number, self._slot(source), self._slot(target), row)
            case Read(symbol, value, index):
                self.run_symbols[symbol] = None
                return Bind(symbol, self._buffer(value), index)
            case Assign(symbols, values):
                self.run_symbols |= dict.fromkeys(symbols)
                return Set(symbols, values)
            case Require(guard, index):
                return Check(guard, index)
            case Fork():
                condition = self._buffer(work.condition)
                return Branch(condition, self._steps(work.then), self._steps(work.otherwise), work.symbols)
            case Cycle():
                return self._repeat(work)
        raise TypeError(f"{type(work).__name__} is no step")

    def _launch(self, item: LoweredKernel) -> Launch:
        kernel, params = canonicalize(item)
        index = self.kernels.setdefault(kernel, len(self.kernels))
        buffers = tuple(self._buffer(item.values[param]) for param in params)
        return Launch(index, buffers, (), item.kernel.origins)

    def _repeat(self, cycle: Cycle) -> Repeat:
        self.run_symbols[cycle.number] = None
        body = self._steps(cycle.body)
        condition, counter, again = (
            None if value is None else self._buffer(value)
            for value in (cycle.condition, cycle.counter, cycle.again)
        )
        return Repeat(
            cycle.trip,
            condition,
            cycle.number,
            counter,
            body,
            again,
            cycle.symbols,
            self.limits.loop_iterations,
            cycle.node.origin,
        )
