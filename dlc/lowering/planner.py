"""From graphs to work: kernels grouped and split, regions in place, symbols bound where they become known."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from dlc.ir.dims import Dim, Guard, Relation, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.graph import ElementSource, ExtentSource, Graph, Node, ShapeSource, Source, Value
from dlc.ir.ops.control import If, Loop
from dlc.ir.ops.movement import Expand
from dlc.ir.types import TensorType, is_object, opened
from dlc.lowering.draft import LoweredKernel, Names
from dlc.lowering.group import ControlNode, HostNode, ViewNode, group
from dlc.lowering.inplace import overwritable
from dlc.lowering.program import Decision
from dlc.lowering.rules.layout import fill_halo
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.split import split_nests
from dlc.lowering.work import (
    Assign,
    Block,
    Bring,
    Cycle,
    Extent,
    Fork,
    Move,
    Read,
    Require,
    Sharing,
    Task,
    Work,
    every,
    touched,
)


@dataclasses.dataclass
class Plan:
    """The work of a model. The first `entry_guards` of the guards speak of `symbols`, the inputs', alone."""

    work: list[Work]
    sharing: Sharing
    symbols: tuple[Symbol, ...]
    guards: list[Guard]
    entry_guards: int
    decisions: list[Decision]


def plan(graph: Graph) -> Plan:
    """The work of `graph` and its regions."""
    return _Planner(graph).run()


class _Planner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        given = {value.name for value in graph.inputs}
        self.symbols = tuple(
            symbol
            for symbol, source in graph.symbols.items()
            if isinstance(source, ShapeSource)
            or (isinstance(source, ElementSource) and source.value in given)
        )
        self.taken = {symbol.name for each in _graphs(graph) for symbol in each.symbols}
        self.names = Names(self.taken)
        self.sharing = Sharing()
        self.decisions: list[Decision] = []
        known = set(self.symbols)
        self.guards = [guard for guard in graph.guards if guard.free_symbols() <= known]
        self.entry_guards = len(self.guards)

    def run(self) -> Plan:
        block = _BlockPlanner(self, self.graph, set(self.symbols)).run()
        return Plan(
            block.work, self.sharing, self.symbols, self.guards, self.entry_guards, self.decisions
        )

    def fresh(self, wish: str) -> Symbol:
        """A symbol that the graphs do not have."""
        name = next(
            name
            for name in itertools.chain([wish], map(f"{wish}_{{}}".format, itertools.count(1)))
            if name not in self.taken
        )
        self.taken.add(name)
        return Symbol(name)

    def require(self, guard: Guard) -> Require:
        """The check of a guard, which becomes one of the program."""
        self.guards.append(guard)
        return Require(guard, len(self.guards) - 1)


def _graphs(graph: Graph) -> Iterable[Graph]:
    yield graph
    for node in graph.nodes:
        for region in node.regions:
            yield from _graphs(region)


class _BlockPlanner:
    """Plans one graph. `available` are the symbols that have numbers at its start."""

    def __init__(self, planner: _Planner, graph: Graph, available: set[Symbol]) -> None:
        self.planner = planner
        self.sharing = planner.sharing
        self.graph = graph
        self.available = set(available)
        self.block = Block(graph)
        self.is_main = graph is planner.graph
        self.waiting = [guard for guard in graph.guards if guard not in planner.guards or not self.is_main]
        #: Name of a value -> symbols that it decides, with their sources.
        self.sources: dict[str, list[tuple[Symbol, Source]]] = {}
        for symbol, source in graph.symbols.items():
            if symbol not in self.available and not isinstance(source, ShapeSource):
                self.sources.setdefault(source.value, []).append((symbol, source))
        self.outputs = set(graph.outputs) if self.is_main else set()
        self.aliased = set(self.outputs)

    def run(self) -> Block:
        """The work of the graph, in order."""
        grouping = group(self.graph, self.planner.names)
        self.planner.decisions += grouping.decisions
        self._check_guards()
        for value in (*self.graph.inputs, *self.graph.constants()):
            self._computed(value)
        for item in grouping.items:
            match item:
                case ViewNode(node):
                    self._view(node)
                case LoweredKernel():
                    self._kernel(item)
                case HostNode():
                    self._host(item)
                case ControlNode(node):
                    self._control(node)
        return self.block

    def _append(self, work: Work) -> None:
        self.block.work.append(work)
        self.block.defined.update(touched(work)[1])

    # --- nodes

    def _view(self, node: Node) -> None:
        """A result that lies where the operand does; an output of the model needs memory of its own."""
        source = self.sharing.root(node.operands[0])
        if node.output in self.outputs and (source.producer is None or source in self.aliased):
            self._kernel(lower_node(node, self.planner.names))
            return
        self.sharing.share(node.output, source)
        if node.output in self.outputs:
            self.aliased.add(source)
        self._computed(node.output)

    def _kernel(self, item: LoweredKernel) -> None:
        """The launches of a kernel, one a nest, and of those that fill the halos of its results."""
        for part in split_nests(item):
            self._append(Task(part, part.inputs, part.outputs))
        for value in item.outputs:
            halo = fill_halo(value, self.planner.names)
            for part in split_nests(halo) if halo is not None else ():
                self._append(Task(part, part.inputs, part.outputs))
        self._computed(*item.outputs)

    def _host(self, item: HostNode) -> None:
        """A host node. What has extents that it decides is an object until there is memory for it."""
        node = item.node
        open_extents = [entry for entry in self.extents_of(node.outputs) if entry[0] not in self.available]
        results = list(node.outputs)
        for index in {index for _, index, _ in open_extents}:
            value = node.outputs[index]
            if not is_object(value.type):
                results[index] = Value(f"{value.name}.object", opened(value.type))
                results[index].producer = node
        self._append(Task(item, node.operands, results))
        for symbol, index, axis in open_extents:
            self.block.work.append(Extent(symbol, results[index], axis))
            self.bound(symbol)
        for value, result in zip(node.outputs, results, strict=True):
            if value is not result:
                self._append(Bring(result, value))
        self._computed(*node.outputs)

    def _control(self, node: Node) -> None:
        match node.op:
            case If():
                self._fork(node)
            case Loop() as loop:
                _LoopPlanner(self, node, loop).run()
        self.block.defined.update(node.outputs)
        self._computed(*node.outputs)

    def _fork(self, node: Node) -> None:
        condition, *captures = node.operands
        open_extents = self.extents_of(node.outputs)
        ways = []
        for region in node.regions:
            for inner, outer in zip(region.inputs, captures, strict=True):
                self.sharing.share(inner, outer)
            way = _BlockPlanner(self.planner, region, self.available).run()
            for value, result in zip(region.outputs, node.outputs, strict=True):
                if not self.adopt(way, value, result):
                    way.work.append(Move(value, result))
            dims = [region.outputs[index].tensor.shape[axis] for _, index, axis in open_extents]
            self.assign(way.work, [symbol for symbol, _, _ in open_extents], dims)
            ways.append(way.work)
        symbols = tuple(symbol for symbol, _, _ in open_extents)
        self._append(Fork(node, condition, ways[0], ways[1], symbols))
        self.bound(*symbols)

    def adopt(self, block: Block, value: Value, owner: Value) -> bool:
        """Let a value that `block` computes lie where `owner` does; False where something else holds it."""
        root = self.sharing.root(value)
        if root not in block.defined:
            return False
        self.sharing.share(root, owner)
        return True

    # --- symbols

    def extents_of(self, values: Sequence[Value]) -> list[tuple[Symbol, int, int]]:
        """The symbols that are extents of `values`: symbol, position among the values, axis."""
        return [
            (symbol, index, source.axis)
            for index, value in enumerate(values)
            for symbol, source in self.sources.get(value.name, ())
            if isinstance(source, ExtentSource)
        ]

    def assign(self, work: list[Work], symbols: Sequence[Symbol], dims: Sequence[Dim]) -> None:
        """Append an assignment of `dims` to `symbols`, if there are any."""
        if symbols:
            work.append(Assign(tuple(symbols), tuple(dims)))

    def bound(self, *symbols: Symbol) -> None:
        """From here on `symbols` have numbers."""
        self.available.update(symbols)
        self._check_guards()

    def _computed(self, *values: Value) -> None:
        """Bind the symbols that `values` decide."""
        for value in values:
            for symbol, source in self.sources.get(value.name, ()):
                if symbol in self.available:
                    continue
                match source:
                    case ElementSource(_, index) if value.data is not None:
                        self.assign(self.block.work, [symbol], [int(value.data.reshape(-1)[index])])
                    case ElementSource(_, index):
                        self.block.work.append(Read(symbol, value, index))
                    case ExtentSource(_, axis):
                        self.assign(self.block.work, [symbol], [value.tensor.shape[axis]])
                self.bound(symbol)

    def _check_guards(self) -> None:
        """Check the guards whose symbols all have numbers by now, each once."""
        for guard in list(self.waiting):
            if guard.free_symbols() <= self.available:
                self.waiting.remove(guard)
                self.block.work.append(self.planner.require(guard))


class _LoopPlanner:
    """Plans one loop within the block of `around`.

    The states lie where the loop's results do. A state's next value is computed there directly where nothing
    needs the old one any more, else copied there when the iteration ends.
    """

    def __init__(self, around: _BlockPlanner, node: Node, loop: Loop) -> None:
        self.around = around
        self.planner = around.planner
        self.sharing = around.sharing
        self.node = node
        self.loop = loop
        self.region = node.regions[0]
        self.condition, *operands = node.inputs
        present = [value for value in operands if value is not None]
        self.starts = present[: loop.carried]
        self.captures = present[loop.carried :]
        self.finals = node.outputs[: loop.carried]
        self.stacks = node.outputs[loop.carried :]
        self.iteration, *inputs = self.region.inputs
        self.states = inputs[: loop.carried]
        self.inputs = inputs
        self.number = self._number()
        #: Symbols that pass from iteration to iteration, with their first and next numbers.
        self.passing: list[tuple[Symbol, Dim, Dim]] = []

    def run(self) -> None:
        """Append the loop to the block."""
        around, region = self.around, self.region
        for inner, outer in zip(self.inputs[self.loop.carried :], self.captures, strict=True):
            self.sharing.share(inner, outer)
        for state, start, final in zip(self.states, self.starts, self.finals, strict=True):
            self.sharing.share(state, final)
            self._start(start, state, final)
        again, *nexts = region.outputs
        nexts, elements = nexts[: self.loop.carried], nexts[self.loop.carried :]
        checks = self._extents(nexts, elements)
        around.assign(around.block.work, [s for s, _, _ in self.passing], [d for _, d, _ in self.passing])
        available = around.available | {s for s, _, _ in self.passing} | {self.number}
        inner_planner = _BlockPlanner(self.planner, region, available)
        body = inner_planner.run()
        for element, stack in zip(elements, self.stacks, strict=True):
            if is_object(stack.type):
                self._start_stack(stack)
            body.work.append(Move(element, stack, self.number))
        body.work += map(self.planner.require, checks)
        held = self._advance(body, nexts, [again, *elements])
        around.assign(body.work, [s for s, _, _ in self.passing], [d for _, _, d in self.passing])
        symbols = tuple(symbol for symbol, _, _ in self.passing)
        counter = self.iteration if self._is_read(body.work) else None
        always = again.data is not None and bool(again.data.item())
        around.block.work.append(
            Cycle(
                self.node,
                self.loop.trip,
                self.condition,
                self.number,
                counter,
                body.work,
                None if always else held.get(again, again),
                symbols,
            )
        )
        around.bound(*symbols)
        for symbol, index, axis in around.extents_of(self.finals):
            around.assign(around.block.work, [symbol], [self.states[index].tensor.shape[axis]])
            around.bound(symbol)

    def _number(self) -> Symbol:
        """The symbol of the iteration's number."""
        for symbol, source in self.region.symbols.items():
            if source == ElementSource(self.iteration.name, 0):
                return symbol
        return self.planner.fresh("iteration")

    def _is_read(self, body: Sequence[Work]) -> bool:
        """Whether anything reads the iteration's number from memory."""
        return any(
            self.sharing.root(value) is self.iteration for work in every(body) for value in touched(work)[0]
        )

    def _start(self, start: Value, state: Value, final: Value) -> None:
        """Let a state begin: computed where it lies if this is its only use, else copied there."""
        around = self.around
        sole = (
            start in around.block.defined
            and self.sharing.root(start) is start
            and list(start.uses) == [self.node]
            and self.node.inputs.count(start) == 1
            and start not in around.graph.outputs
        )
        if sole:
            self.sharing.share(start, final)
        else:
            around.block.work.append(Move(start, state))

    def _start_stack(self, stack: Value) -> None:
        """Make a stack of strings that has no rows yet: without an iteration that is the result."""
        nothing = np.empty((0, *[1] * (stack.tensor.rank - 1)), object)
        operand = Value(f"{stack.name}.none", TensorType(DType.STRING, nothing.shape), nothing)
        shape = (0, *stack.tensor.shape[1:])
        start = Value(f"{stack.name}.start", TensorType(DType.STRING, shape))
        node = Node(Expand(shape), [operand], [start], self.node.origin)
        self.sharing.share(start, stack)
        item = HostNode(node, "the rows of strings that a loop stacks are Python's")
        self.around.block.work.append(Task(item, [operand], [start]))

    def _extents(self, nexts: Sequence[Value], elements: Sequence[Value]) -> list[Guard]:
        """Find the symbols that pass from iteration to iteration; returns what has to hold of them."""
        for state, start, following in zip(self.states, self.starts, nexts, strict=True):
            for symbol, source in self.region.symbols.items():
                if isinstance(source, ShapeSource) and source.value == state.name:
                    first, then = start.tensor.shape[source.axis], following.tensor.shape[source.axis]
                    self.passing.append((symbol, first, then))
        checks = []
        for symbol, index, axis in self.around.extents_of(self.stacks):
            then = self.number + 1 if axis == 0 else elements[index].tensor.shape[axis - 1]
            self.passing.append((symbol, 0, then))
            if axis > 0:
                message = "an element that a loop stacks has another shape than the one before it"
                origin = ", ".join(self.node.origin)
                same = self.number * (symbol - then)
                checks.append(Guard(Relation.EQ, same, 0, message, origin))
        return checks

    def _advance(self, body: Block, nexts: Sequence[Value], others: Sequence[Value]) -> dict[Value, Value]:
        """Let the states take their next values. Returns the copies of what would be overwritten before it is
        read, by what they are copies of.
        """
        pending = []
        for index, (value, final) in enumerate(zip(nexts, self.finals, strict=True)):
            root = self.sharing.root(value)
            if root is final:
                continue
            read_at_end = map(self.sharing.root, (*others, *nexts[:index], *nexts[index + 1 :]))
            if final in read_at_end or not self._is_free(body, root, final):
                pending.append((value, final))
            else:
                self.sharing.share(root, final)
        held: dict[Value, Value] = {}
        finals = set(self.finals)
        for value in dict.fromkeys([others[0], *(value for value, _ in pending)]):
            if self.sharing.root(value) in finals and pending:
                copy = held[value] = Value(f"{value.name}.held", value.type)
                copy.producer = self.node
                body.work.append(Move(value, copy))
        body.work += [Move(held.get(value, value), final) for value, final in pending]
        return held

    def _is_free(self, body: Block, root: Value, final: Value) -> bool:
        """Whether `root`, which the body computes, may lie where `final` does: all reads of the state come
        before, or are those of a kernel that may write over what it reads.
        """
        if root not in body.defined:
            return False
        last_read, first_write = -1, len(body.work)
        for position, work in enumerate(body.work):
            if any(root in map(self.sharing.root, touched(each)[1]) for each in every([work])):
                first_write = min(first_write, position)
            if any(final in map(self.sharing.root, touched(each)[0]) for each in every([work])):
                last_read = position
        if last_read != first_write:
            return last_read < first_write
        work = body.work[first_write]
        if not isinstance(work, Task) or not isinstance(work.item, LoweredKernel):
            return False
        reads = [name for name, value in work.item.values.items() if self.sharing.root(value) is final]
        return len(work.writes) == 1 and set(reads) <= set(overwritable(work.item))
