"""What the assignments of layouts share: regions that grow from convolutions, and Relayouts at their borders.

A region grows forward, in the order of the nodes: an operator's results belong to it if the family of layouts
says so, given which of its operands do. Then every value inside gets its layout, and where a node reads a
value in another layout than it wants, a Relayout is put between.
"""

from __future__ import annotations

import abc
import dataclasses

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, known_equal
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops.layout import Relayout
from dlc.ir.types import Layout, is_object


class Regions(abc.ABC):
    """The assignment of one family of layouts to one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.inside: set[Value] = set()
        self._relaid: dict[tuple[Value, Layout | None], Value] = {}

    def run(self) -> int:
        """Assign layouts in place; returns the number of values inside regions."""
        for node in self.graph.nodes:
            objects = any(is_object(value.type) for value in (*node.operands, *node.outputs))
            if not objects and self.takes(node):
                self.inside.update(node.outputs)
        if not self.inside:
            return 0
        for value in self.inside:
            value.type = dataclasses.replace(value.tensor, layout=self.layout(value))
        for node in list(self.graph.nodes):
            self._fit_operands(node)
        self._restore_outputs()
        return len(self.inside)

    @abc.abstractmethod
    def takes(self, node: Node) -> bool:
        """Whether the node's results belong to a region, given `inside` for its operands."""

    @abc.abstractmethod
    def layout(self, value: Value) -> Layout | None:
        """The layout of a value inside."""

    @abc.abstractmethod
    def wanted(self, node: Node, position: int, value: Value, is_inside: bool) -> Layout | None:
        """The layout in which `node`, whose results are or are not inside, reads operand `position`."""

    def _fit_operands(self, node: Node) -> None:
        """Insert a Relayout before each operand that is not in the layout that the node reads."""
        is_inside = bool(node.outputs) and node.outputs[0] in self.inside
        for position, value in enumerate(node.inputs):
            if value is None or value.is_constant or is_object(value.type):
                continue
            wanted = self.wanted(node, position, value, is_inside)
            if wanted == value.tensor.layout:
                continue
            replacement = self._relaid.get((value, wanted))
            if replacement is None:
                builder = GraphBuilder(self.graph, before=node, origin=node.origin)
                replacement = builder.add(Relayout(wanted), value, names=[value.name])
                self._relaid[value, wanted] = replacement
            node.inputs = tuple(replacement if i == position else v for i, v in enumerate(node.inputs))

    def _restore_outputs(self) -> None:
        """Graph outputs are row-major."""
        for index, value in enumerate(self.graph.outputs):
            if not is_object(value.type) and value.tensor.layout is not None:
                builder = GraphBuilder(self.graph, origin=value.producer.origin if value.producer else ())
                self.graph.outputs[index] = builder.add(Relayout(None), value, names=[value.name])


def same_shape(left: tuple[Dim, ...], right: tuple[Dim, ...]) -> bool:
    """Whether two shapes are known to be the same."""
    return len(left) == len(right) and all(known_equal(a, b) for a, b in zip(left, right, strict=True))
