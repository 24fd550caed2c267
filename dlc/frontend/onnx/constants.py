"""Values that are known while a model is imported: constants, and what follows from constants within a
budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.errors import Error
from dlc.ir.dims import Dim
from dlc.ir.graph import Node, Value
from dlc.ir.operator import Array
from dlc.ir.types import TensorType
from dlc.limits import Limits


class ConstantEvaluator:
    """Evaluates nodes whose operands are all constant, each at most once.

    `limits.folded_tensor_bytes`, `folded_bytes` and `folding_operations` bound the work; beyond them a value
    just counts as unknown. The graph is not changed.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[Value, Array | None] = {}
        self._bytes = 0
        self._operations = 0

    def constant(self, value: Value) -> Array | None:
        """The content of `value`; None if it depends on inputs, has a symbolic size or costs too much."""
        stack = [value]
        while stack:
            current = stack[-1]
            node = current.producer
            if current.data is not None or current in self._known:
                stack.pop()
            elif node is None:
                self._known[current] = None
            elif any(operand in self._known and self._known[operand] is None for operand in node.operands):
                self._record(node, None)
            else:
                missing = next(
                    (
                        operand
                        for operand in node.operands
                        if operand.data is None and operand not in self._known
                    ),
                    None,
                )
                if missing is not None:
                    stack.append(missing)
                else:
                    self._record(node, self._evaluated(node))
        return value.data if value.data is not None else self._known[value]

    def _record(self, node: Node, results: Sequence[Array] | None) -> None:
        for index, output in enumerate(node.outputs):
            self._known[output] = None if results is None else results[index]

    def _evaluated(self, node: Node) -> Sequence[Array] | None:
        """The outputs of a node with constant operands; None if their size is symbolic or over the budget."""
        if node.regions or not node.op.repeatable:
            return None
        nbytes = 0
        for output in node.outputs:
            if not isinstance(output.type, TensorType) or not isinstance(output.type.elements, int):
                return None
            size = output.type.elements * output.type.dtype.itemsize
            if size > self._limits.folded_tensor_bytes:
                return None
            nbytes += size
        operations = node.op.flops(
            [None if value is None else value.type for value in node.inputs],
            [value.type for value in node.outputs],
        )
        if (
            not isinstance(operations, int)
            or self._bytes + nbytes > self._limits.folded_bytes
            or self._operations + operations > self._limits.folding_operations
        ):
            return None
        operands = [None if value is None else self._content(value) for value in node.inputs]
        try:
            with np.errstate(all="ignore"):
                results = node.op.evaluate(operands, _number)
        except (Error, ArithmeticError):
            # What is out of range or divides by zero is reported when, and if, the node runs.
            return None
        self._bytes += nbytes
        self._operations += operations
        for result in results:
            result.flags.writeable = False
        return results

    def _content(self, value: Value) -> Array | None:
        return value.data if value.data is not None else self._known[value]


class _Symbolic(ArithmeticError):
    """An attribute has no number at compile time."""


def _number(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise _Symbolic(str(dim))
    return dim
