"""From a graph to a Program: group, split into launches, lay out memory, number the constants."""

from __future__ import annotations

import dataclasses

from dlc.errors import UnsupportedError
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, Symbol, ceildiv, free_symbols, product
from dlc.ir.graph import ElementSource, Graph, ShapeSource, Value
from dlc.ir.ops.movement import Reshape
from dlc.lowering.canonical import canonicalize
from dlc.lowering.draft import LoweredKernel, Names
from dlc.lowering.group import Grouping, HostNode, ViewNode, group
from dlc.lowering.inplace import overwritable
from dlc.lowering.kernel import Kernel
from dlc.lowering.memory import ALIGN, Lifetime, lay_out
from dlc.lowering.program import (
    Bind,
    Buffer,
    Check,
    Constant,
    Host,
    Launch,
    Program,
    Step,
    Storage,
    StorageKind,
)
from dlc.lowering.rules.layout import fill_halo
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.split import split_nests


def lower(graph: Graph) -> Program:
    """The program of a graph."""
    names = Names(symbol.name for symbol in graph.symbols)
    copy_plain_outputs(graph)
    return _Lowering(graph, names, group(graph, names)).run()


def copy_plain_outputs(graph: Graph) -> None:
    """Give each graph output that is an input, a constant or another output a value of its own."""
    seen: set[Value] = set()
    for index, value in enumerate(graph.outputs):
        if value.producer is None or value in seen:
            builder = GraphBuilder(graph, origin=value.producer.origin if value.producer else ())
            graph.outputs[index] = builder.add(Reshape(value.tensor.shape), value, names=[value.name])
        seen.add(value)


@dataclasses.dataclass
class _Work:
    """One step before memory is laid out: what it reads and writes."""

    item: LoweredKernel | HostNode
    reads: list[Value]
    writes: list[Value]


class _Lowering:
    def __init__(self, graph: Graph, names: Names, grouping: Grouping) -> None:
        self.graph = graph
        self.names = names
        self.grouping = grouping
        self.root: dict[Value, Value] = {}
        self.kernels: dict[Kernel, int] = {}
        self.constants: dict[Value, int] = {}
        self.buffers: dict[Value, Buffer] = {}

    def run(self) -> Program:
        work: list[_Work] = []
        outputs = set(self.graph.outputs)
        aliased = set(outputs)
        for item in self.grouping.items:
            match item:
                case ViewNode(node):
                    source = self._root(node.operands[0])
                    if node.output in outputs and (source.producer is None or source in aliased):
                        lowered = lower_node(node, self.names)
                        work.append(_Work(lowered, lowered.inputs, lowered.outputs))
                        continue
                    self.root[node.output] = source
                    if node.output in outputs:
                        aliased.add(source)
                case LoweredKernel():
                    work += self._launches(item)
                    for value in item.outputs:
                        halo = fill_halo(value, self.names)
                        work += self._launches(halo) if halo is not None else []
                case HostNode(node):
                    work.append(_Work(item, list(node.operands), list(node.outputs)))
        arena = self._assign_memory(work)
        inputs = tuple(self._buffer(value) for value in self.graph.inputs)
        steps: list[Step] = []
        bound: set[Value] = set()
        given = {value.name for value in self.graph.inputs}
        shape_symbols = tuple(
            s
            for s, source in self.graph.symbols.items()
            if isinstance(source, ShapeSource) or source.value in given
        )
        run_symbols: list[Symbol] = []
        for each in work:
            steps.append(self._step(each, len(steps)))
            for value in each.writes:
                self._bind(value, bound, run_symbols, steps)
        results = tuple(self._buffer(value) for value in self.graph.outputs)
        constants = tuple(
            Constant(value.name, value.data) for value in self.constants if value.data is not None
        )
        self._refuse_run_time_sizes(arena, set(shape_symbols))
        return Program(
            shape_symbols,
            tuple(run_symbols),
            tuple(self.graph.guards),
            inputs,
            results,
            constants,
            tuple(self.kernels),
            tuple(steps),
            arena,
            tuple(self.grouping.decisions),
        )

    def _refuse_run_time_sizes(self, arena: Dim, known: set[Symbol]) -> None:
        """UnsupportedError when memory would be needed whose size only the run tells."""
        sizes = [arena, *(dim for value in self.graph.outputs for dim in value.tensor.shape)]
        unknown = {symbol for dim in sizes for symbol in free_symbols(dim)} - known
        if unknown:
            names = ", ".join(sorted(symbol.name for symbol in unknown))
            raise UnsupportedError(
                f"sizes depend on data computed during the run ({names})",
                hint="export the model with fixed sizes for what these depend on",
            )

    def _launches(self, item: LoweredKernel) -> list[_Work]:
        """The launches of a kernel, one a nest."""
        return [_Work(part, part.inputs, part.outputs) for part in split_nests(item)]

    def _root(self, value: Value) -> Value:
        return self.root.get(value, value)

    # --- memory

    def _assign_memory(self, work: list[_Work]) -> Dim:
        """Give every value that is written a place; returns the bytes of the arena."""
        outputs = {self._root(value): index for index, value in reversed(list(enumerate(self.graph.outputs)))}
        first: dict[Value, int] = {}
        last: dict[Value, int] = {}
        for position, each in enumerate(work):
            for value in (*each.reads, *each.writes):
                root = self._root(value)
                if root.producer is not None and root not in outputs:
                    first.setdefault(root, position)
                    last[root] = position
        slots = self._share_slots(work, first, last)
        owners = [value for value in first if value not in slots]
        lifetimes = [Lifetime(value.name, nbytes(value), first[value], last[value]) for value in owners]
        offsets, arena = lay_out(lifetimes)
        places = dict(zip(owners, offsets, strict=True))
        for value in first:
            offset = places[slots.get(value, value)]
            self.buffers[value] = Buffer(
                value.name, Storage(StorageKind.ARENA, 0, nbytes(value)), offset, value.tensor
            )
        for value, index in outputs.items():
            if value.producer is not None:
                self.buffers[value] = Buffer(
                    value.name, Storage(StorageKind.OUTPUT, index, nbytes(value)), 0, value.tensor
                )
        return arena

    def _share_slots(
        self, work: list[_Work], first: dict[Value, int], last: dict[Value, int]
    ) -> dict[Value, Value]:
        """Results that take over the memory of an operand: result -> the value that the memory belongs to.

        The owner's entry in `last` is moved to the last use of the result.
        """
        slots: dict[Value, Value] = {}
        ends = dict(last)
        for position, each in enumerate(work):
            if not isinstance(each.item, LoweredKernel) or len(each.writes) != 1:
                continue
            result = each.writes[0]
            if first.get(result) != position:
                continue
            for param in overwritable(each.item):
                operand = self._root(each.item.values[param])
                if ends.get(operand) == position and operand is not result:
                    owner = slots[result] = slots.get(operand, operand)
                    last[owner] = last[result]
                    break
        return slots

    def _buffer(self, value: Value) -> Buffer:
        """The buffer of a value: its own, or that of the value whose memory it shares, under its own type."""
        root = self._root(value)
        found = self.buffers.get(root)
        if found is None:
            if root.data is not None:
                index = self.constants.setdefault(root, len(self.constants))
                storage = Storage(StorageKind.CONSTANT, index, root.data.nbytes)
            else:
                storage = Storage(StorageKind.INPUT, self.graph.inputs.index(root), nbytes(root))
            found = self.buffers[root] = Buffer(root.name, storage, 0, root.tensor)
        if root is value:
            return found
        return dataclasses.replace(found, name=value.name, type=value.tensor, viewed=root.name)

    # --- steps

    def _step(self, each: _Work, position: int) -> Step:
        if isinstance(each.item, HostNode):
            node = each.item.node
            return Host(
                position,
                node,
                tuple(None if v is None else self._buffer(v) for v in node.inputs),
                tuple(self._buffer(v) for v in node.outputs),
                each.item.reason,
            )
        kernel, params = canonicalize(each.item)
        index = self.kernels.setdefault(kernel, len(self.kernels))
        buffers = tuple(self._buffer(each.item.values[param]) for param in params)
        return Launch(index, buffers, (), each.item.kernel.origins)

    def _bind(self, value: Value, bound: set[Value], run_symbols: list[Symbol], steps: list[Step]) -> None:
        """Steps that read symbols from a value just computed, and the guards that they make checkable."""
        if value in bound:
            return
        bound.add(value)
        for symbol, source in self.graph.symbols.items():
            if isinstance(source, ElementSource) and source.value == value.name:
                run_symbols.append(symbol)
                steps.append(Bind(symbol, self._buffer(value), source.index))
                for index, guard in enumerate(self.graph.guards):
                    if symbol in free_symbols(guard.left) | free_symbols(guard.right):
                        steps.append(Check(guard, index))


def nbytes(value: Value) -> Dim:
    """Bytes of a value in memory, rounded up to the alignment."""
    return ceildiv(product(value.tensor.physical_shape) * value.tensor.dtype.itemsize, ALIGN) * ALIGN
