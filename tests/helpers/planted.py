"""Faults planted in the lowering of one operator, for tests of what looks for faults."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from dlc.ir.graph import Node
from dlc.ir.operator import Operator
from dlc.ir.ops.pointwise import Unary
from dlc.lowering.draft import Draft
from dlc.lowering.rules import registry


def _wrong(node: Node) -> None:
    node.op = Unary("sigmoid")


def _error(node: Node) -> None:
    raise KeyError("planted")


def _crash(node: Node) -> None:
    os.abort()


def _hang(node: Node) -> None:
    time.sleep(60)


def _wrong_if_long(node: Node) -> None:
    """Where the last axis has more than 5 elements."""
    if node.output.tensor.static_shape[-1:] > (5,):
        _wrong(node)


FAULTS: dict[str, Callable[[Node], None]] = {
    "wrong": _wrong,
    "error": _error,
    "crash": _crash,
    "hang": _hang,
    "wrong if long": _wrong_if_long,
}


TANH = Unary("tanh")


def plant(monkeypatch: pytest.MonkeyPatch, name: str, op: Operator = TANH) -> None:
    """Let the lowering of an operator do something wrong, in this process and its children."""
    registry.lowered_operators()
    right = registry._RULES[type(op)]

    def rule(draft: Draft, node: Node) -> None:
        if node.op == op:
            FAULTS[name](node)
        right(draft, node)

    monkeypatch.setitem(registry._RULES, type(op), rule)
