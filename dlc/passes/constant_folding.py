"""Evaluation at compile time of what depends on constants only, within a budget."""
from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.errors import Error
from dlc.ir.dims import Dim, evaluate, free_symbols
from dlc.ir.graph import Graph, Node, ShapeSource, Value
from dlc.ir.operator import Array, Operator, operator_dims
from dlc.ir.ops.quantization import DequantizeLinear
from dlc.ir.types import TensorType
from dlc.ir.widening import is_widening
from dlc.limits import Limits
from dlc.passes.pass_base import Declined, Numerics, Pass, Property, Statistics, declined

#: Results of up to this many bytes are folded whatever they are computed from.
SMALL = 4096


@dataclasses.dataclass(frozen=True)
class ConstantFolding(Pass):
    """Replace nodes whose operands are all constants by their results, as the evaluator computes them.

    Not folded: a result, or a sum of all results, beyond the limits; a result of more than `growth` times the
    bytes of its operands (an Expand is cheaper at run time); operators in `kept`, whose operands are the
    compact form that later passes want; nodes with regions, symbolic attributes or random results; and what
    faults, so that the fault happens, with the node's name, at run time.

    Example:

        %a = Binary(fn="add")(%two, %three)
        %y = Binary(fn="mul")(%x, %a)

    becomes, with %five = constant 5.0,

        %y = Binary(fn="mul")(%x, %five)
    """

    limits: Limits = dataclasses.field(default_factory=Limits)
    growth: int = 4
    kept: tuple[type[Operator], ...] = (DequantizeLinear,)

    name: ClassVar[str] = "constant-folding"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    ensures: ClassVar[frozenset[Property]] = frozenset({Property.FOLDED})
    keeps: ClassVar[frozenset[Property]] = frozenset({Property.FOLDED, Property.CANONICAL})

    def apply(self, graph: Graph) -> Statistics:
        declines: list[Declined] = []
        folded: list[Node] = []
        sources = {source.value for source in graph.symbols.values() if not isinstance(source, ShapeSource)}
        spent = _Spent()
        for node in graph.nodes:
            if node.regions or not all(value.is_constant for value in node.operands):
                continue
            outcome = self._obstacle(node, sources, spent) or _evaluated(node)
            if isinstance(outcome, str):
                declines.append(declined("fold", node, outcome))
                continue
            spent.add(node)
            for old, data in zip(node.outputs, outcome, strict=True):
                graph.replace_uses(old, Value(graph.unique_name(old.name), old.type, data))
            folded.append(node)
        graph.erase(folded)
        return Statistics(collections.Counter({"fold": len(folded)} if folded else {}), declines)

    def _obstacle(self, node: Node, sources: set[str], spent: _Spent) -> str | None:
        """Why `node` is not folded, if it is not."""
        if isinstance(node.op, self.kept):
            return f"{node.op.name} is kept for later passes"
        if is_widening(node):
            return "a product reads the 8-bit numbers"
        if not node.op.repeatable:
            return "its results are random"
        if any(free_symbols(dim) for dim in operator_dims(node.op)):
            return "an attribute is symbolic"
        if any(value.name in sources for value in node.outputs):
            return "a symbolic extent is bound from its result"
        before, after = total_bytes(node.operands), total_bytes(node.outputs)
        if before is None or after is None:
            return "an operand or result is no tensor of known size"
        if after > max(SMALL, self.growth * before):
            return f"the result is larger than the operands: {after:,} bytes, not {before:,}"
        if after > self.limits.folded_tensor_bytes or spent.bytes + after > self.limits.folded_bytes:
            return f"{after:,} bytes exceed what folding may keep"
        if spent.operations + operations(node) > self.limits.folding_operations:
            return f"{operations(node):,} operations exceed what folding may spend"
        return None


@dataclasses.dataclass
class _Spent:
    """Bytes kept and operations spent so far."""

    bytes: int = 0
    operations: int = 0

    def add(self, node: Node) -> None:
        """Account for one folded node."""
        self.bytes += total_bytes(node.outputs) or 0
        self.operations += operations(node)


def total_bytes(values: Sequence[Value]) -> int | None:
    """Bytes of tensors of static shape together; None when one is not such."""
    total = 0
    for value in values:
        if not isinstance(value.type, TensorType) or not isinstance(value.type.elements, int):
            return None
        total += value.type.elements * value.type.dtype.itemsize
    return total


def operations(node: Node) -> int:
    """Scalar operations of a node of static shapes."""
    types = [None if value is None else value.type for value in node.inputs]
    count = node.op.flops(types, [value.type for value in node.outputs])
    return count if isinstance(count, int) else 0


def _evaluated(node: Node) -> Sequence[Array] | str:
    """The results of a node of constants; a sentence when evaluation fails."""
    def number(dim: Dim) -> int:
        return evaluate(dim, {})

    operands = [None if value is None else value.data for value in node.inputs]
    try:
        with np.errstate(all="ignore"):
            results = node.op.evaluate(operands, number)
    except Error as error:
        return f"evaluation fails: {error.message}"
    return [data if data.flags.c_contiguous else data.copy() for data in results]
