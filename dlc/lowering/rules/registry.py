"""Which function writes the kernel of which operator."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeAlias

from dlc.ir.graph import Node
from dlc.ir.operator import Operator
from dlc.lowering.draft import Draft, LoweredKernel, Names

Rule: TypeAlias = Callable[[Draft, Node], None]
_RULES: dict[type[Operator], Rule] = {}


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
    draft = Draft(names, node)
    function(draft, node)
    return draft.finish()


def lowered_operators() -> frozenset[type[Operator]]:
    """The operator classes that have a rule."""
    _load()
    return frozenset(_RULES)
