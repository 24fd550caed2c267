"""Common subexpressions: one node where several compute the same."""
from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Hashable
from typing import ClassVar

import numpy as np

from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops.pointwise import Binary
from dlc.ir.text import operator_text
from dlc.passes.match import COMMUTATIVE
from dlc.passes.pass_base import Numerics, Pass, Property, Statistics
from dlc.passes.rewrite import rename_source


@dataclasses.dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Let readers of a node read an earlier one with the same operator and operands instead.

    Constants with the same content count as one, up to `compared_bytes` each (larger ones only when they are
    the same array). Operands of commutative functions count in any order. Nodes with regions and random ones
    stay.

    Example:

        %a = Unary(fn="exp")(%x)
        %b = Unary(fn="exp")(%x)
        %y = Binary(fn="add")(%a, %b)

    becomes

        %a = Unary(fn="exp")(%x)
        %y = Binary(fn="add")(%a, %a)
    """

    compared_bytes: int = 1 << 20

    name: ClassVar[str] = "cse"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    keeps: ClassVar[frozenset[Property]] = frozenset(Property)

    def apply(self, graph: Graph) -> Statistics:
        known: dict[Hashable, Node] = {}
        constants: dict[Hashable, Value] = {}
        merged: list[Node] = []
        rewrites: collections.Counter[str] = collections.Counter()
        for value in list(graph.constants()):
            first = constants.setdefault(self._content(value), value)
            if first is not value:
                graph.replace_uses(value, first)
                rewrites["constant"] += 1
        for node in graph.nodes:
            if node.regions or not node.op.repeatable:
                continue
            first_node = known.setdefault(_key(node), node)
            if first_node is node:
                continue
            for old, new in zip(node.outputs, first_node.outputs, strict=True):
                graph.replace_uses(old, new)
                rename_source(graph, old, new)
            first_node.origin = tuple(dict.fromkeys((*first_node.origin, *node.origin)))
            merged.append(node)
        graph.erase(merged)
        rewrites.update({"node": len(merged)} if merged else {})
        return Statistics(rewrites)

    def _content(self, value: Value) -> Hashable:
        """Equal for constants of the same type and bits."""
        data = value.data
        if data is None or data.dtype == object or data.nbytes > self.compared_bytes:
            return id(data)
        digest = hashlib.sha256(np.ascontiguousarray(data).tobytes()).digest()
        return value.tensor.dtype, data.shape, digest


def _key(node: Node) -> Hashable:
    """Equal for nodes that compute the same."""
    operands = [0 if value is None else id(value) for value in node.inputs]
    match node.op:
        case Binary(fn=fn) if fn in COMMUTATIVE:
            operands.sort()
    # The text distinguishes 0.0 from -0.0 and 1 from true, which compare equal.
    return operator_text(node.op), *operands

