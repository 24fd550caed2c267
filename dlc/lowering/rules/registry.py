"""Which function writes the kernel of which operator."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import TypeAlias

from dlc.ir.dtypes import DType, Kind
from dlc.ir.graph import Node
from dlc.ir.operator import Operator
from dlc.lowering import expr as e
from dlc.lowering.draft import Draft, LoweredKernel, Names, const
from dlc.lowering.inspect import roots, stages
from dlc.lowering.kernel import Contract, Kernel, Reduce, Store, StoreMode

Rule: TypeAlias = Callable[[Draft, Node], None]
_RULES: dict[type[Operator], Rule] = {}
#: Element types that generated code does not hold.
_FOREIGN = frozenset({DType.STRING})


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
    lowered = draft.finish()
    if any(value.tensor.dtype.kind is Kind.COMPLEX for value in (*node.operands, *node.outputs)):
        _require_movement(lowered.kernel)
    return lowered


def _require_movement(kernel: Kernel) -> None:
    """NotLowered if a kernel computes with complex numbers: generated code only moves them."""
    for stage in stages(kernel.body):
        combines = isinstance(stage, Reduce | Contract)
        combines = combines or (isinstance(stage, Store) and stage.mode is not StoreMode.SET)
        for node in e.walk(*roots(stage)):
            for operand in (node, *e.children(node)) if combines or _computes(node) else ():
                if operand.dtype.kind is Kind.COMPLEX:
                    raise NotLowered(f"kernels move {operand.dtype.text} numbers, but do not compute them")


def _computes(node: e.Expr) -> bool:
    """Whether an expression makes a number that none of its operands is."""
    match node:
        case e.Const(_, value):
            return value != 0
        case e.Cast(_, _, mode):
            return mode is not e.CastMode.BITS
    return isinstance(node, e.Unary | e.Binary | e.Compare)


def _nothing(draft: Draft, node: Node) -> None:
    """Stores over no points, for results without elements."""
    for value in node.outputs:
        draft.store(value, draft.axes_of(value.tensor.shape), const(0, value.tensor.dtype))


def lowered_operators() -> frozenset[type[Operator]]:
    """The operator classes that have a rule."""
    _load()
    return frozenset(_RULES)
