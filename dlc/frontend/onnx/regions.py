"""Subgraphs as regions: a graph of its own for each, whose inputs are what it reads from outside."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.settling import settle
from dlc.ir.dims import Dim, Symbol, free_symbols, known_equal
from dlc.ir.graph import Graph, Value
from dlc.ir.types import ElementType, TensorType, Type, join, opened, without

if TYPE_CHECKING:
    from onnx import GraphProto


#: What to do about a result whose rank depends on data.
SAME_RANK = "let both branches give the same rank; where sizes decide, fix them with shapes={...}"


class Region:
    """A subgraph of `ctx`'s node while it is imported.

    `captured` maps values of the graph around to what stands for them in the region: an input, or the
    constant itself where the value is known.
    """

    def __init__(self, ctx: NodeContext, name: str) -> None:
        self.ctx = ctx
        self.graph = Graph(name)
        self.importer = ctx.importer.of_region(self.graph)
        self.importer.known.capture = self.capture
        self.captured: dict[Value, Value] = {}
        self.scope = ctx.scope.inner(f"{ctx.name}/{name}", self.capture)
        ctx.importer.limits.check("depth", self.scope.depth, "nesting of subgraphs", node=ctx.name)

    def context(self, names: Sequence[str] = ()) -> NodeContext:
        """For adding operators to the region, results called `names`, on behalf of the node."""
        ctx = self.ctx
        return NodeContext(
            self.importer, ctx.op_type, ctx.domain, ctx.opset, ctx.name, (), {}, names, self.scope
        )

    def capture(self, outer: Value) -> Value:
        """What stands in the region for a value of the graph around it."""
        known = self.captured.get(outer)
        if known is not None:
            return known
        data = self.ctx.importer.constant(outer) if isinstance(outer.type, TensorType) else None
        if data is not None:
            known = Value(self.graph.unique_name(outer.name), outer.type, data)
        else:
            known = self.graph.add_input(outer.name, outer.type)
            self.importer.symbolic.captured[known] = outer
        self.captured[outer] = known
        origin = self.ctx.importer.open_scalars.origin([outer])
        if origin is not None:
            self.importer.open_scalars.origins[known] = origin
        return known

    def define(self, name: str, value: Value) -> None:
        """Let `name` stand for `value` in the subgraph, as one of its inputs."""
        self.scope.define(name, value)

    def run(self, proto: GraphProto, open_scalars: bool = False) -> list[Value]:
        """Import the nodes of the subgraph, whose inputs are defined; returns the values of its outputs.

        Among these there may be scalars of open rank where `open_scalars` says so.
        """
        self.importer.define_initializers(proto, self.scope)
        self.importer.import_nodes(proto.node, self.scope)
        outputs = list(self.importer.read(self.scope, [info.name for info in proto.output]))
        if not open_scalars:
            self.importer.open_scalars.refuse(outputs)
        return outputs

    def finish(self, outputs: Sequence[Value]) -> Graph:
        """The region with these outputs."""
        for index, value in enumerate(outputs):
            self.graph.add_output(value, f"{value.name}.out{index}")
        settle(self.graph, self.importer.symbolic)
        return self.graph

    @property
    def symbols(self) -> set[Symbol]:
        """The symbols that mean something within the region only."""
        contents = self.importer.symbolic
        return {*self.graph.symbols, *contents.sources, *contents.extents}

    @property
    def captures(self) -> list[Value]:
        """The values around that the region reads as inputs, in the order of the inputs."""
        outer = self.importer.symbolic.captured
        return [outer[value] for value in self.graph.inputs if value in outer]


def share_captures(regions: Sequence[Region]) -> list[Value]:
    """The captures of several regions together; afterwards each region has them all as inputs, in this order.
    """
    every = list(dict.fromkeys(itertools.chain.from_iterable(region.captures for region in regions)))
    for region in regions:
        inputs = [region.captured.get(value) for value in every]
        region.graph.inputs = [
            region.graph.add_input(value.name, value.type) if known is None or known.is_constant else known
            for value, known in zip(every, inputs, strict=True)
        ]
    return every


class OpenExtents:
    """Symbols for the extents of results that the regions do not have in common.

    `inner` tells the symbols that mean something within a region only; `names` are those of the results.
    """

    def __init__(self, ctx: NodeContext, inner: Callable[[Symbol], bool], names: Sequence[str]) -> None:
        self._ctx = ctx
        self._inner = inner
        self._names = names
        self._open: dict[tuple[int, int], Symbol] = {}

    def join(self, index: int, types: Sequence[Type]) -> Type:
        """The type of result `index`, which may have any of `types`."""
        first = types[0]
        if not isinstance(first, TensorType):
            joined = self._joined(types)
            if joined is None:
                self._ctx.fail(f"output {index} is {' or '.join(map(str, types))}", "model/type")
            return joined
        shapes = [type_.shape if isinstance(type_, TensorType) else None for type_ in types]
        if any(type_.dtype is not first.dtype for type_ in types if isinstance(type_, TensorType)):
            self._ctx.fail(f"output {index} is {' or '.join(map(str, types))}", "model/type")
        if any(shape is None or len(shape) != first.rank for shape in shapes):
            self._ctx.unsupported(
                f"the rank of output {index} depends on data: it is {' or '.join(map(str, types))}",
                SAME_RANK,
            )
        extents = [self._extent(index, axis, column) for axis, column in enumerate(zip(*shapes))]
        return first.with_shape(extents)

    def _joined(self, types: Sequence[Type]) -> ElementType | None:
        """The type of sequences or optionals that may be any of `types`."""
        joined: ElementType | None = opened(types[0])
        for type_ in types[1:]:
            joined = None if joined is None else join(joined, opened(type_))
        return None if joined is None else without(joined, self._is_inner)

    def _is_inner(self, dim: Dim) -> bool:
        return any(map(self._inner, free_symbols(dim)))

    def _extent(self, index: int, axis: int, dims: Sequence[Dim]) -> Dim:
        first = dims[0]
        if all(known_equal(first, dim) for dim in dims) and not self._is_inner(first):
            return first
        return self.open(index, axis)

    def open(self, index: int, axis: int) -> Symbol:
        """A new symbol for extent `axis` of result `index`."""
        symbol = self._ctx.importer.symbolic.fresh(f"{self._names[index]}_{axis}", 0)
        self._open[index, axis] = symbol
        return symbol

    def bind(self, results: Sequence[Value]) -> None:
        """Let the symbols stand for the extents of `results`, which now exist."""
        for (index, axis), symbol in self._open.items():
            self._ctx.importer.symbolic.extents[symbol] = (results[index], axis)
