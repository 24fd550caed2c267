"""Appending typed nodes to a graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dlc.errors import ModelError
from dlc.ir import dtypes
from dlc.ir.dims import Guard
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.obligations import obligations
from dlc.ir.operator import Array, InferenceError, Operator
from dlc.ir.types import TensorType


class GraphBuilder:
    """Adds nodes at the end of `graph`, or before `before` if given, inferring the types of results.

    With `guarded`, what inference has to believe of symbols becomes guards of the graph.
    """

    def __init__(
        self,
        graph: Graph,
        before: Node | None = None,
        origin: tuple[str, ...] = (),
        guarded: bool = False,
    ) -> None:
        self.graph = graph
        self.before = before
        self.origin = origin
        self.guarded = guarded

    def add(
        self,
        op: Operator,
        *inputs: Value | None,
        origin: tuple[str, ...] | None = None,
        names: Sequence[str] = (),
        regions: Sequence[Graph] = (),
    ) -> Value:
        """Add `op` and return its first output."""
        return self.add_all(op, *inputs, origin=origin, names=names, regions=regions)[0]

    def add_all(
        self,
        op: Operator,
        *inputs: Value | None,
        origin: tuple[str, ...] | None = None,
        names: Sequence[str] = (),
        regions: Sequence[Graph] = (),
    ) -> tuple[Value, ...]:
        """Add `op` and return all of its outputs. `names` are wishes for the outputs' names.

        Raises ModelError, naming the node, when the operator does not accept the operands.
        """
        origin = self.origin if origin is None else origin
        try:
            with obligations() as open_:
                types = op.infer([None if value is None else value.type for value in inputs])
        except InferenceError as error:
            operands = ", ".join("absent" if value is None else str(value.type) for value in inputs)
            message = f"{op.name}: {error} (operands: {operands})"
            raise ModelError(message, node=", ".join(origin) or None, code="model/type") from None
        if self.guarded:
            self._guard(open_, ", ".join(origin))
        wishes = [*names[: len(types)], *([op.name.lower()] * (len(types) - len(names)))]
        outputs = [
            Value(self.graph.unique_name(wish), type_) for wish, type_ in zip(wishes, types, strict=True)
        ]
        node = Node(op, inputs, outputs, origin, regions)
        if self.before is None:
            self.graph.nodes.append(node)
        else:
            self.graph.nodes.insert(self.graph.nodes.index(self.before), node)
        return node.outputs

    def _guard(self, open_: Sequence[Guard], origin: str) -> None:
        """Have the obligations of a node checked, unless the graph checks the same already."""
        guards = self.graph.guards
        known = {(guard.relation, guard.left, guard.right) for guard in guards} if open_ else set()
        for guard in open_:
            if (guard.relation, guard.left, guard.right) not in known:
                guards.append(dataclasses.replace(guard, origin=origin))

    def constant(
        self, data: Array | float | int, name: str = "const", dtype: dtypes.DType | None = None
    ) -> Value:
        """A constant value holding `data` (of type `dtype` when given)."""
        array = np.asarray(data, dtype=dtype.numpy if dtype else None)
        type_ = TensorType(dtypes.from_numpy(array.dtype), tuple(array.shape))
        return Value(self.graph.unique_name(name), type_, array)
