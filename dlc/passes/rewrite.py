"""One engine for local rewrites: rules on a node, applied to a fixed point.

A rule is a function on a node of certain operators. It returns the values that shall replace the node's
outputs, having added what nodes it needs through the builder; None when the node is none of its business; or
a Decline when it recognised its pattern but a condition fails, which is reported. What becomes unused dies at
once, and the new nodes inherit the origins of all that they replace.
"""
from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

from dlc.errors import InternalError
from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Graph, Node, ShapeSource, Value
from dlc.ir.operator import Operator
from dlc.passes.match import same_type
from dlc.passes.pass_base import Declined, Pass, Statistics, declined

#: Rewrites a node of the original graph before the rules are said to run in circles.
REWRITES_A_NODE = 50


@dataclasses.dataclass(frozen=True)
class Decline:
    """A rule's pattern is there, but it does not apply."""

    reason: str


Outcome: TypeAlias = "Value | Sequence[Value] | Decline | None"


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rewrite of nodes whose operator is one of `roots`."""

    name: str
    roots: tuple[type[Operator], ...]
    apply: Callable[[Node, GraphBuilder], Outcome]


def rule(*roots: type[Operator]) -> Callable[[Callable[[Node, GraphBuilder], Outcome]], Rule]:
    """Make the decorated function a Rule on these operators, named after it."""

    def decorate(function: Callable[[Node, GraphBuilder], Outcome]) -> Rule:
        return Rule(function.__name__, roots, function)

    return decorate


@dataclasses.dataclass(frozen=True)
class RewritePass(Pass):
    """A pass that consists of rules."""

    def rules(self) -> Sequence[Rule]:
        """The rules, in the order in which they are tried on a node."""
        raise TypeError(f"{self.name} has no rules")

    def apply(self, graph: Graph) -> Statistics:
        return rewrite(graph, self.rules())


def rewrite(graph: Graph, rules: Sequence[Rule]) -> Statistics:
    """Apply `rules` to `graph` until none of them applies anywhere.

    Raises InternalError when the rules undo each other endlessly.
    """
    return _Rewriting(graph, rules).run()


class _Rewriting:
    """The state of one run: the worklist, what died, and the account."""

    def __init__(self, graph: Graph, rules: Sequence[Rule]) -> None:
        self.graph = graph
        self.rules: dict[type[Operator], list[Rule]] = {}
        for each in rules:
            for root in each.roots:
                self.rules.setdefault(root, []).append(each)
        self.queue: collections.deque[Node] = collections.deque()
        self.queued: set[Node] = set()
        self.dead: set[Node] = set()
        self.rewrites: collections.Counter[str] = collections.Counter()
        self.declines: dict[tuple[str, Node], Declined] = {}
        self.budget = REWRITES_A_NODE * (len(graph.nodes) + 10)

    def run(self) -> Statistics:
        """Sweep over the graph until a sweep changes nothing."""
        while True:
            before = self.rewrites.total()
            self._push(self.graph.nodes)
            while self.queue:
                node = self.queue.popleft()
                self.queued.discard(node)
                if node not in self.dead:
                    self._visit(node)
            self.graph.nodes = [node for node in self.graph.nodes if node not in self.dead]
            self.graph.sort()
            if self.rewrites.total() == before:
                break
        declines = [reason for (_, node), reason in self.declines.items() if node not in self.dead]
        return Statistics(self.rewrites, declines)

    def _push(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if type(node.op) in self.rules and node not in self.queued:
                self.queued.add(node)
                self.queue.append(node)

    def _visit(self, node: Node) -> None:
        """Try the rules on `node` until one applies."""
        for each in self.rules[type(node.op)]:
            start = len(self.graph.nodes)
            outcome = each.apply(node, GraphBuilder(self.graph, origin=node.origin))
            if isinstance(outcome, Value):
                outcome = (outcome,)
            if outcome is not None and not isinstance(outcome, Decline):
                problem = self._mismatch(node, outcome)
                if problem is None:
                    self._replace(each.name, node, outcome, self.graph.nodes[start:])
                    return
                outcome = Decline(problem)
            for added in self.graph.nodes[start:]:
                added.inputs = ()
            del self.graph.nodes[start:]
            if outcome is not None:
                self.declines[each.name, node] = declined(each.name, node, outcome.reason)

    def _mismatch(self, node: Node, values: Sequence[Value]) -> str | None:
        """Why `values` cannot stand for the outputs of `node`, or None."""
        if len(values) != len(node.outputs):
            raise InternalError(f"a rule returned {len(values)} values for the outputs of {node}")
        for old, new in zip(node.outputs, values, strict=True):
            if not same_type(old.type, new.type):
                return f"the replacement is {new.type}, which is not known to be {old.type}"
            if new.is_constant and self._symbols_of(old):
                return "a symbolic extent is bound from this value"
        return None

    def _symbols_of(self, value: Value) -> bool:
        return any(not isinstance(source, ShapeSource) and source.value == value.name
                   for source in self.graph.symbols.values())

    def _replace(self, name: str, node: Node, values: Sequence[Value], added: Sequence[Node]) -> None:
        self.rewrites[name] += 1
        if self.rewrites.total() > self.budget:
            raise InternalError(f"rewriting does not end; the last rule was {name} at {node}")
        users = [user for value in node.outputs for user in value.uses]
        for old, new in zip(node.outputs, values, strict=True):
            if old is not new:
                self.graph.replace_uses(old, new)
                rename_source(self.graph, old, new)
        gone, around = self._bury(node)
        if added:
            origin = tuple(dict.fromkeys(name for each in reversed(gone) for name in each.origin))
            for new_node in added:
                new_node.origin = origin
        self._push([*added, *users, *around])

    def _bury(self, node: Node) -> tuple[list[Node], list[Node]]:
        """Mark `node`, and what only it used, as dead; returns them and the live producers around them."""
        gone: list[Node] = []
        around: dict[Node, None] = {}
        pending = [node]
        while pending:
            each = pending.pop()
            if each in self.dead or not is_unused(self.graph, each):
                continue
            producers = [value.producer for value in each.operands if value.producer is not None]
            self.dead.add(each)
            gone.append(each)
            each.inputs = ()
            pending += producers
            around.update(dict.fromkeys(producers))
        return gone, [each for each in around if each not in self.dead]


def is_unused(graph: Graph, node: Node) -> bool:
    """Whether nothing reads an output of `node`: no node, graph output or symbol."""
    names = {value.name for value in node.outputs}
    return not any(value.uses or graph.output_uses(value) for value in node.outputs) and not any(
        not isinstance(source, ShapeSource) and source.value in names for source in graph.symbols.values())


def rename_source(graph: Graph, old: Value, new: Value) -> None:
    """Let the symbols that are bound from `old` be bound from `new`."""
    for symbol, source in graph.symbols.items():
        if not isinstance(source, ShapeSource) and source.value == old.name:
            graph.symbols[symbol] = dataclasses.replace(source, value=new.name)
