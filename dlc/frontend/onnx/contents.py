"""What is known, symbolically, about the elements of small tensors: the arithmetic on shapes that models do.

A content is an object array with the shape of its value. An element is

    int or DimExpr   an integer
    bool             a truth value
    Fraction         a float that is known
    Ratio            a float that is an extent times a constant
    None             run-time data

The rules of `content_rules` carry contents through operators; elements that a shape depends on but that are
run-time data become symbols of the graph, bound from an element of a value when the graph runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from dlc.frontend.onnx.content_elements import array_of, fits, is_integer
from dlc.frontend.onnx.content_rules import apply_rule, is_transparent
from dlc.frontend.onnx.context import DimArray
from dlc.ir.dims import Guard, Symbol, known_le
from dlc.ir.dtypes import DType, Kind
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.operator import Array
from dlc.ir.types import TensorType

#: The most elements that a tensor with a content may have.
MOST_ELEMENTS = 1024
#: The most elements of run-time data that become symbols because they meet a symbolic content.
_MOST_LIFTED = 16
#: The longest chain of movements followed back to the producer of run-time data.
_MOST_MOVEMENTS = 64


class Contents:
    """The contents of the values of `graph`, brought up to date with its nodes whenever one is asked for.

    `fresh` makes a symbol from a wish for its name and its least value. `known` maps values to contents and
    may be added to by importers. `outer` are the contents of the graph around a region: what the region
    captures has the content that it has there.
    """

    def __init__(
        self, graph: Graph, fresh: Callable[[str, int | None], Symbol], outer: Contents | None = None
    ) -> None:
        self.known: dict[Value, DimArray] = {}
        #: Symbol -> the element of a value that it stands for.
        self.sources: dict[Symbol, tuple[Value, int]] = {}
        #: Symbol -> the extent (value, axis) of a result that it stands for.
        self.extents: dict[Symbol, tuple[Value, int]] = {}
        #: Input of a region -> the value around it that it stands for.
        self.captured: dict[Value, Value] = {}
        self.fresh = fresh
        self._graph = graph
        self._outer = outer
        self._propagated = 0
        self._assumed: list[Guard] = []

    def of(self, value: Value) -> DimArray | None:
        """The content of `value` as far as known; None when nothing is."""
        self.update()
        return self._stored(value)

    def update(self) -> None:
        """Take in the nodes that the graph has got since."""
        while self._propagated < len(self._graph.nodes):
            self._propagated += 1
            self._propagate(self._graph.nodes[self._propagated - 1])

    def dims(self, value: Value) -> DimArray | None:
        """The content of an integer value whose elements are all known; None otherwise."""
        content = self.of(value)
        known = content is not None and all(map(is_integer, content.reshape(-1).tolist()))
        return content if known else None

    def numbers(self, value: Value) -> Array | None:
        """The content of a value whose elements are all plain numbers, as an array of its element type."""
        content = self.of(value)
        if content is None or not isinstance(value.type, TensorType):
            return None
        if not all(isinstance(item, (int, Fraction)) for item in content.flat):
            return None
        if value.type.dtype.is_float:
            return (
                np.array([float(item) for item in content.flat])
                .astype(value.type.dtype.numpy)
                .reshape(content.shape)
            )
        return content.astype(value.type.dtype.numpy)

    def bound(self, value: Value) -> DimArray:
        """The content of an integer value of static shape, with symbols for what is run-time data."""
        self.update()
        return self._lifted(value)

    def is_run_time(self, symbol: Symbol) -> bool:
        """Whether `symbol` stands for what only the run tells, here or in a graph around."""
        own = symbol in self.sources or symbol in self.extents
        return own or (self._outer is not None and self._outer.is_run_time(symbol))

    def count(self, value: Value) -> Symbol:
        """The symbol of an integer scalar that is not negative, a number of elements say."""
        known = self.dims(value)
        element = None if known is None else known.item()
        if isinstance(element, Symbol):
            return element
        symbol = self._symbol(value, 0, 0)
        self.known[value] = array_of([symbol], value.tensor.static_shape)
        return symbol

    def _stored(self, value: Value) -> DimArray | None:
        content = self.known.get(value)
        if content is None and self._outer is not None and value in self.captured:
            content = self._outer.of(self.captured[value])
            if content is not None:
                self.known[value] = content
            return content
        if content is None and value.data is not None and value.data.size <= MOST_ELEMENTS:
            content = _of_constant(value.data, value.tensor.dtype)
            if content is not None:
                self.known[value] = content
        return content

    def _symbol(self, value: Value, index: int, least: int | None = None) -> Symbol:
        symbol = self.fresh(f"{value.name}_{index}" if value.tensor.rank else value.name, least)
        self.sources[symbol] = (value, index)
        return symbol

    def _assume(self, guard: Guard) -> bool:
        """Whether `guard` may be assumed, which makes it one of the graph.

        Not of run-time data: those may be no extents at all.
        """
        known = guard.known()
        if known is not None or any(map(self.is_run_time, guard.free_symbols())):
            return known is True
        implied = any(
            old.relation is guard.relation and old.right == guard.right and known_le(guard.left, old.left)
            for old in self._assumed
        )
        if not implied:
            self._assumed.append(guard)
            self._graph.guards.append(guard)
        return True

    def _propagate(self, node: Node) -> None:
        """Enter the contents of the outputs of `node` that follow from those of its operands."""
        if any(output in self.known for output in node.outputs) or not all(map(_is_small, node.outputs)):
            return
        contents = [None if value is None else self._stored(value) for value in node.inputs]
        if any(
            value is not None and value.data is None and content is not None
            for value, content in zip(node.inputs, contents)
        ):
            contents = [
                content
                if content is not None or value is None or not _is_liftable(value)
                else self._lifted(value)
                for value, content in zip(node.inputs, contents)
            ]
        for output, content in zip(node.outputs, apply_rule(node, contents, self._assume)):
            if content is not None and any(item is not None for item in content.flat):
                self.known[output] = _fitting(content, output.tensor.dtype)

    def _lifted(self, value: Value) -> DimArray:
        """The content of an integer value, with symbols for what is run-time data.

        Data that were only moved get the symbols of where they came from, so that an element that reaches two
        shapes through Unsqueeze and the like is one symbol in both.
        """
        path: list[Node] = []
        source = value
        while self._stored(source) is None and len(path) < _MOST_MOVEMENTS:
            node = source.producer
            operand = None if node is None or not is_transparent(node.op) else node.inputs[0]
            if node is None or operand is None or not _is_liftable(operand):
                break
            path.append(node)
            source = operand
        content = self._with_symbols(source, self._stored(source))
        for node in reversed(path):
            (moved,) = apply_rule(node, [content], self._assume)
            content = self._with_symbols(node.output, moved)
        return content

    def _with_symbols(self, value: Value, content: DimArray | None) -> DimArray:
        """`content` with a new symbol for each unknown element of `value`; it becomes that of `value`."""
        if self._outer is not None and value in self.captured:
            complete = self.known[value] = self._outer.bound(self.captured[value])
            return complete
        shape = value.tensor.static_shape
        elements = [None] * math.prod(shape) if content is None else content.reshape(-1).tolist()
        complete = array_of(
            [
                self._symbol(value, index) if element is None else element
                for index, element in enumerate(elements)
            ],
            shape,
        )
        self.known[value] = complete
        return complete


def _is_small(value: Value) -> bool:
    type_ = value.type
    return (
        isinstance(type_, TensorType) and type_.is_static and math.prod(type_.static_shape) <= MOST_ELEMENTS
    )


def _is_liftable(value: Value) -> bool:
    type_ = value.type
    return (
        isinstance(type_, TensorType)
        and type_.is_static
        and type_.dtype in (DType.I64, DType.I32)
        and math.prod(type_.static_shape) <= _MOST_LIFTED
    )


def _of_constant(data: Array, dtype: DType) -> DimArray | None:
    """A constant as a content; None when its type has no symbolic elements."""
    if dtype.kind in (Kind.SIGNED, Kind.UNSIGNED, Kind.BOOL):
        return data.astype(object) if dtype.bits >= 8 else data.astype(np.int64).astype(object)
    if dtype in (DType.F32, DType.F64):
        content = np.empty(data.shape, dtype=object)
        content.reshape(-1)[:] = [
            Fraction(item) if math.isfinite(item) else None for item in data.reshape(-1).tolist()
        ]
        return content
    return None


def _fitting(content: DimArray, dtype: DType) -> DimArray:
    """`content` without the integers that the element type wraps around."""
    if not dtype.is_integer:
        return content
    elements = content.reshape(-1).tolist()
    return array_of([element if fits(element, dtype) else None for element in elements], content.shape)
