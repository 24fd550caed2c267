"""Which function writes the kernel of which operator."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeAlias

from dlc.ir.dtypes import DType
from dlc.ir.graph import Node
from dlc.ir.operator import Operator
from dlc.lowering.draft import Draft, LoweredKernel, Names, const

Rule: TypeAlias = Callable[[Draft, Node], None]
_RULES: dict[type[Operator], Rule] = {}
#: Element types that generated code does not hold.
_FOREIGN = frozenset({DType.STRING, DType.C64, DType.C128})


class NotLowered(Exception):
    """A rule does not cover this node; the message says why. The node then runs on the host."""


def rule(*operators: type[Operator]) -> Callable[[Rule], Rule]:
    """Register the decorated function as the lowering of the operator classes."""

    def register(function: Rule) -> Rule:
        for operator in operators:
            _RULES[operator] = function
        return function

    return register


@functools.cache
def _load() -> None:
    package = importlib.import_module("dlc.lowering.rules")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def lower_node(node: Node, names: Names) -> LoweredKernel:
    """The kernel of one node, unfused. Raises NotLowered where there is none."""
    _load()
    function = _RULES.get(type(node.op))
    if function is None:
        raise NotLowered(f"no kernel is written for {node.op.name}")
    for value in (*node.operands, *node.outputs):
        if value.tensor.dtype in _FOREIGN:
            raise NotLowered(f"kernels work on numbers and bool, not on {value.tensor.dtype.text}")
    draft = Draft(names, node)
    if all(0 in value.tensor.shape for value in node.outputs):
        _nothing(draft, node)
    else:
        function(draft, node)
    return draft.finish()


def _nothing(draft: Draft, node: Node) -> None:
    """Stores over no points, for results without elements."""
    for value in node.outputs:
        draft.store(value, draft.axes_of(value.tensor.shape), const(0, value.tensor.dtype))


def lowered_operators() -> frozenset[type[Operator]]:
    """The operator classes that have a rule."""
    _load()
    return frozenset(_RULES)
