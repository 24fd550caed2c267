"""The graph IR: tensor-level SSA with maintained def-use chains.

A Graph is mutable: passes replace uses, insert and erase nodes; the setters keep `Value.uses` right. Values
are either graph inputs, constants (they carry `data`) or outputs of a node. A value's type is always
complete; its dims may be symbolic. Regions (bodies of If, Loop, Scan) are graphs of their own that see
nothing from outside but their inputs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from dlc.ir.dims import Dim, Guard, Symbol, free_symbols
from dlc.ir.operator import Array, Operator, operator_dims
from dlc.ir.types import TensorType, Type, type_dims


class NotATensorError(TypeError):
    """A tensor whose shape is known, at least symbolically, is needed where `value` stands."""

    def __init__(self, value: Value) -> None:
        super().__init__(f"%{value.name} is a {value.type}, not a tensor of known rank")
        self.type = value.type


class Value:
    """One SSA value: a graph input, a constant or a node's output."""

    __slots__ = ("data", "index", "name", "producer", "type", "uses")

    def __init__(self, name: str, type_: Type, data: Array | None = None) -> None:
        self.name = name
        self.type = type_
        self.data = data
        self.producer: Node | None = None
        self.index = 0
        self.uses: dict[Node, None] = {}

    @property
    def is_constant(self) -> bool:
        """Whether the value is known at compile time."""
        return self.data is not None

    @property
    def tensor(self) -> TensorType:
        """The type of a value that must be a tensor; NotATensorError when it is not."""
        if not isinstance(self.type, TensorType):
            raise NotATensorError(self)
        return self.type

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


class Node:
    """One application of an operator. `inputs` holds None where an optional operand is absent."""

    __slots__ = ("_inputs", "op", "origin", "outputs", "regions")

    def __init__(
        self,
        op: Operator,
        inputs: Sequence[Value | None],
        outputs: Sequence[Value],
        origin: tuple[str, ...] = (),
        regions: Sequence[Graph] = (),
    ) -> None:
        self.op = op
        self._inputs: tuple[Value | None, ...] = ()
        self.outputs = tuple(outputs)
        self.origin = origin
        self.regions = tuple(regions)
        for index, output in enumerate(self.outputs):
            output.producer, output.index = self, index
        self.inputs = tuple(inputs)

    @property
    def inputs(self) -> tuple[Value | None, ...]:
        """The operands in the operator's order."""
        return self._inputs

    @inputs.setter
    def inputs(self, inputs: Sequence[Value | None]) -> None:
        for value in self._inputs:
            if value is not None:
                value.uses.pop(self, None)
        self._inputs = tuple(inputs)
        for value in self._inputs:
            if value is not None:
                value.uses[self] = None

    @property
    def operands(self) -> tuple[Value, ...]:
        """The operands that are present."""
        return tuple(value for value in self._inputs if value is not None)

    @property
    def output(self) -> Value:
        """The only output; ValueError when there are several."""
        (output,) = self.outputs
        return output

    def dims(self) -> Iterator[Dim]:
        """The dims that the node speaks of: in attributes, in the types of results, in its regions."""
        yield from operator_dims(self.op)
        for value in self.outputs:
            yield from type_dims(value.type)
        for region in self.regions:
            for value in region.inputs:
                yield from type_dims(value.type)
            for guard in region.guards:
                yield from (guard.left, guard.right)
            for node in region.nodes:
                yield from node.dims()

    def replace_input(self, old: Value, new: Value) -> None:
        """Let this node read `new` wherever it read `old`."""
        self.inputs = tuple(new if value is old else value for value in self._inputs)

    def __repr__(self) -> str:
        return f"{', '.join('%' + v.name for v in self.outputs)} = {self.op.name}"


@dataclasses.dataclass(frozen=True)
class ShapeSource:
    """A symbol that is an extent of a graph input: `value.shape[axis]`."""

    value: str
    axis: int


@dataclasses.dataclass(frozen=True)
class ElementSource:
    """A symbol whose number is known only at run time: element `index` (flat) of a computed integer value."""

    value: str
    index: int


@dataclasses.dataclass(frozen=True)
class ExtentSource:
    """A symbol whose number is known only at run time: `value.shape[axis]` of the node's result in whose type
    it stands, where what the node does decides that extent.
    """

    value: str
    axis: int


Source: TypeAlias = ShapeSource | ElementSource | ExtentSource


class Graph:
    """Inputs, nodes in an order that respects uses, outputs, and the symbols that dims speak of."""

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self.nodes: list[Node] = []
        self.symbols: dict[Symbol, Source] = {}
        self.guards: list[Guard] = []
        self._names: dict[str, itertools.count[int]] = {}

    def unique_name(self, base: str) -> str:
        """A value name not handed out before, derived from `base`."""
        counter = self._names.get(base)
        if counter is None:
            self._names[base] = itertools.count(1)
            return base
        while True:
            name = f"{base}.{next(counter)}"
            if name not in self._names:
                self._names[name] = itertools.count(1)
                return name

    def reserve(self, names: Iterable[str]) -> None:
        """Keep `names` from being handed out by `unique_name`, which derives others from them instead."""
        for name in names:
            self._names.setdefault(name, itertools.count(1))

    def add_input(self, name: str, type_: Type) -> Value:
        """Declare a graph input."""
        value = Value(self.unique_name(name), type_)
        self.inputs.append(value)
        return value

    def add_output(self, value: Value, name: str | None = None) -> None:
        """Declare a graph output, called `name` or like its value. Several outputs may be one value."""
        self.output_names += [
            self.output_name(index) for index in range(len(self.output_names), len(self.outputs))
        ]
        self.outputs.append(value)
        self.output_names.append(value.name if name is None else name)

    def output_name(self, index: int) -> str:
        """The name of output `index`: the one given to `add_output`, else that of its value."""
        return self.output_names[index] if index < len(self.output_names) else self.outputs[index].name

    def output_uses(self, value: Value) -> bool:
        """Whether `value` is a graph output."""
        return any(output is value for output in self.outputs)

    def values(self) -> Iterator[Value]:
        """Every value once: inputs, constants in order of first use, node outputs."""
        seen: set[int] = set()
        stream: Iterable[Value] = itertools.chain(
            self.inputs, (v for node in self.nodes for v in (*node.operands, *node.outputs)), self.outputs
        )
        for value in stream:
            if id(value) not in seen:
                seen.add(id(value))
                yield value

    def constants(self) -> Iterator[Value]:
        """Every constant value that is read, in order of first use."""
        return (value for value in self.values() if value.is_constant)

    def replace_uses(self, old: Value, new: Value) -> None:
        """Let every reader of `old`, and the graph's outputs, read `new`."""
        for node in list(old.uses):
            node.replace_input(old, new)
        for symbol, source in self.symbols.items():
            if not isinstance(source, ShapeSource) and source.value == old.name:
                self.symbols[symbol] = dataclasses.replace(source, value=new.name)
        self.outputs = [new if value is old else value for value in self.outputs]

    def erase(self, nodes: Iterable[Node]) -> None:
        """Remove nodes whose outputs nobody outside the set reads; ValueError otherwise."""
        doomed = {id(node): node for node in nodes}
        for node in doomed.values():
            for value in node.outputs:
                if self.output_uses(value) or any(id(user) not in doomed for user in value.uses):
                    raise ValueError(f"%{value.name} is still read")
        for node in doomed.values():
            node.inputs = ()
        self.nodes = [node for node in self.nodes if id(node) not in doomed]

    def sort(self) -> None:
        """Order the nodes so that each comes after its producers; the order is stable and deterministic.

        What binds a symbol counts as a producer for the nodes that speak of the symbol.
        """
        done: set[int] = set()
        ordered: list[Node] = []
        position = {id(node): index for index, node in enumerate(self.nodes)}
        binders = self._binders()
        for root in self.nodes:
            stack = [root]
            while stack:
                node = stack[-1]
                if id(node) in done:
                    stack.pop()
                    continue
                sources = [value.producer for value in node.operands]
                if binders:
                    symbols = {symbol for dim in node.dims() for symbol in free_symbols(dim)}
                    sources += [
                        binders[symbol] for symbol in self.symbols if symbol in symbols & binders.keys()
                    ]
                waiting = [
                    source
                    for source in sources
                    if source is not None
                    and source is not node
                    and id(source) in position
                    and id(source) not in done
                ]
                if waiting:
                    stack.extend(reversed(waiting))
                    continue
                done.add(id(node))
                ordered.append(node)
                stack.pop()
        self.nodes = ordered

    def _binders(self) -> dict[Symbol, Node]:
        """The nodes from whose results symbols are bound."""
        if all(isinstance(source, ShapeSource) for source in self.symbols.values()):
            return {}
        producers = {value.name: node for node in self.nodes for value in node.outputs}
        return {
            symbol: producers[source.value]
            for symbol, source in self.symbols.items()
            if not isinstance(source, ShapeSource) and source.value in producers
        }
