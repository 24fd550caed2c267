"""Evaluation at compile time of what depends on constants only, within a budget."""
from __future__ import annotations

import collections
import dataclasses
from typing import ClassVar

import numpy as np

from dlc.errors import Error
from dlc.ir import dtypes
from dlc.ir.dims import Dim, evaluate
from dlc.ir.graph import ElementSource, Graph, Node, Value
from dlc.ir.operator import Array, Operator, operator_dims
from dlc.ir.ops.quantization import DequantizeLinear
from dlc.ir.types import TensorType
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

    limits: Limits = Limits()
    growth: int = 4
    kept: tuple[type[Operator], ...] = (DequantizeLinear,)

    name: ClassVar[str] = "constant_folding"
    numerics: ClassVar[Numerics] = Numerics.EXACT
    ensures: ClassVar[frozenset[Property]] = frozenset({Property.FOLDED})
    keeps: ClassVar[frozenset[Property]] = frozenset({Property.FOLDED, Property.CANONICAL})

    def apply(self, graph: Graph) -> Statistics:
        rewrites: collections.Counter[str] = collections.Counter()
        declines: list[Declined] = []
        sources = {source.value for source in graph.symbols.values() if isinstance(source, ElementSource)}
        budget = _Budget(self.limits)
        for node in list(graph.nodes):
            if not all(value.is_constant for value in node.operands) or node.regions:
                continue
            reason = self._obstacle(node, sources, budget)
            results = None if reason else _evaluate(node)
            if isinstance(results, str):
                reason = results
            if reason or results is None or isinstance(results, str):
                declines += [declined("fold", node, reason)] if reason else []
                continue
            budget.spend(node)
            for old, data in zip(node.outputs, results, strict=True):
                graph.replace_uses(old, Value(graph.unique_name(old.name), old.type, data))
            rewrites["fold"] += 1
        folded = {node for node in graph.nodes
                  if node.operands and all(value.is_constant for value in node.operands)
                  and not any(value.uses or graph.output_uses(value) for value in node.outputs)}
        del folded
        return Statistics(rewrites, declines)

    def _obstacle(self, node: Node, sources: set[str], budget: _Budget) -> str | None:
        """Why `node` is not folded; the empty string when that is not worth a report."""
        raise NotImplementedError


class _Budget:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def spend(self, node: Node) -> None: ...


def _evaluate(node: Node) -> list[Array] | str:
    raise NotImplementedError
