"""Branches and loops with less in them: what is known, never read or never changed goes."""
from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from dlc.ir.graph import Graph, Node, Value
from dlc.ir.ops.control import If, Loop
from dlc.passes.dead_code import DeadCode
from dlc.passes.pass_base import Numerics, Pass, Statistics
from dlc.passes.regions import (
    erase_node,
    inline,
    is_read,
    keep_outputs,
    replace_node,
    same_extents,
    symbols_of,
    unread_results,
)


@dataclasses.dataclass(frozen=True)
class SimplifyRegions(Pass):
    """Inline an If whose condition is known, and let results, states and captures go that nobody needs.

    A result that no one reads goes, and with it what its regions compute for it; so does a state of a loop
    that only its own next value depends on. A state that no iteration changes, a result that both ways of an
    If take from the same value around it, and a loop that never runs are replaced by that value, unless its
    type says more of its extents. Constants are not captured, but stand in the regions; nothing is captured
    twice, or without being read.

    Example: with %c = constant true,

        %y = If(types=(f32[n],))(%c, %x) : f32[n] {then: output Unary(fn="exp")(%x), else: output %x}

    becomes

        %y = Unary(fn="exp")(%x) : f32[n]
    """

    name: ClassVar[str] = "simplify-regions"
    numerics: ClassVar[Numerics] = Numerics.EXACT

    def apply(self, graph: Graph) -> Statistics:
        rewrites: collections.Counter[str] = collections.Counter()
        for node in list(graph.nodes):
            match node.op:
                case If():
                    rewrites.update(_If(graph, node).run())
                case Loop():
                    rewrites.update(_Loop(graph, node).run())
        return Statistics(rewrites)


class _If:
    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph = graph
        self.node = node
        self.done: collections.Counter[str] = collections.Counter()

    def run(self) -> collections.Counter[str]:
        """Simplify the node; returns the rewrites."""
        condition, *captures = self.node.operands
        if condition.data is not None:
            region = self.node.regions[0 if condition.data.item() else 1]
            if all(same_extents(a.type, b.type) for a, b in zip(region.outputs, self.node.outputs)):
                inline(self.graph, self.node, region, captures)
                return collections.Counter({"constant condition": 1})
        self._common_results(captures)
        self._drop_results()
        _tidy_captures(self.graph, self.node, 1, (0, 0), self.done)
        return self.done

    def _common_results(self, captures: Sequence[Value]) -> None:
        """Results that are the same capture in both ways need no branch."""
        for index, result in enumerate(self.node.outputs):
            ways = [region.inputs.index(region.outputs[index]) if region.outputs[index] in region.inputs
                    else None for region in self.node.regions]
            if ways[0] is None or ways[0] != ways[1] or not is_read(self.graph, result):
                continue
            if same_extents(result.type, captures[ways[0]].type):
                self.graph.replace_uses(result, captures[ways[0]])
                self.done["common result"] += 1

    def _drop_results(self) -> None:
        dropped = unread_results(self.graph, self.node)
        if not dropped or not isinstance(self.node.op, If):
            return
        kept = [index for index in range(len(self.node.outputs)) if index not in dropped]
        for region in self.node.regions:
            keep_outputs(region, kept)
        op = If(tuple(self.node.op.types[index] for index in kept))
        outputs = [self.node.outputs[index] for index in kept]
        self.node = replace_node(self.graph, self.node, op, self.node.inputs, outputs)
        self.done["unread result"] += len(dropped)
        _clean(self.node)


class _Loop:
    """A loop with `carried` states. Region inputs and outputs, and the node's operands, are numbered alike:
    0 is the iteration or the condition, then come the states, then captures or stacked elements.
    """

    def __init__(self, graph: Graph, node: Node) -> None:
        assert isinstance(node.op, Loop)
        self.graph = graph
        self.node = node
        self.op = node.op
        self.done: collections.Counter[str] = collections.Counter()

    @property
    def body(self) -> Graph:
        """The region."""
        return self.node.regions[0]

    def run(self) -> collections.Counter[str]:
        """Simplify the node; returns the rewrites."""
        if self._never_runs():
            return self.done
        self._unchanged_states()
        self._drop_results()
        _tidy_captures(self.graph, self.node, 1 + self.op.carried, (1 + self.op.carried,), self.done)
        return self.done

    def _never_runs(self) -> bool:
        condition = self.node.inputs[0]
        stopped = condition is not None and condition.data is not None and not condition.data.item()
        none = stopped or (isinstance(self.op.trip, int) and self.op.trip <= 0)
        starts = [self._operand(1 + index) for index in range(self.op.carried)]
        finals = self.node.outputs[: self.op.carried]
        stacks = set(range(self.op.carried, len(self.node.outputs)))
        alike = all(same_extents(start.type, final.type) for start, final in zip(starts, finals))
        if not none or not alike or not stacks <= unread_results(self.graph, self.node):
            return False
        for start, final in zip(starts, finals):
            self.graph.replace_uses(final, start)
        erase_node(self.graph, self.node)
        self.done["loop that never runs"] += 1
        return True

    def _operand(self, position: int) -> Value:
        value = self.node.inputs[position]
        assert value is not None
        return value

    def _unchanged_states(self) -> None:
        """States that every iteration passes on become captures."""
        unchanged = [
            index for index in range(self.op.carried)
            if self.body.outputs[1 + index] is self.body.inputs[1 + index]
            and same_extents(self._operand(1 + index).type, self.node.outputs[index].type)
        ]
        for index in unchanged:
            self.graph.replace_uses(self.node.outputs[index], self._operand(1 + index))
        if unchanged:
            self._keep_states([index for index in range(self.op.carried) if index not in unchanged])
            self.done["unchanged state"] += len(unchanged)

    def _drop_results(self) -> None:
        """Stacks that nothing needs, and states that neither a reader nor the rest of the body needs."""
        unread = unread_results(self.graph, self.node)
        stacks = range(self.op.carried, len(self.node.outputs))
        results = {index for index in range(len(self.node.outputs)) if index not in unread}
        states = self._needed_states(results)
        kept_stacks = [index for index in stacks if index in results]
        kept_states = [index for index in range(self.op.carried) if index in states]
        if len(kept_stacks) == self.op.stacked and len(kept_states) == self.op.carried:
            return
        self.done["unread result"] += self.op.stacked - len(kept_stacks)
        self.done["unread state"] += self.op.carried - len(kept_states)
        keep_outputs(self.body, [0, *(1 + index for index in (*range(self.op.carried), *kept_stacks))])
        types = (*self.op.types[: self.op.carried], *(self.op.types[index] for index in kept_stacks))
        outputs = [*self.node.outputs[: self.op.carried], *(self.node.outputs[i] for i in kept_stacks)]
        self.op = dataclasses.replace(self.op, stacked=len(kept_stacks), types=types)
        self.node = replace_node(self.graph, self.node, self.op, self.node.inputs, outputs)
        gone = {value.name for index, value in enumerate(self._states()) if index not in states}
        self._keep_states(kept_states)
        # What speaks of the extents of a state that goes is dead, too.
        self.body.symbols = {s: source for s, source in self.body.symbols.items() if source.value not in gone}
        _clean(self.node)

    def _states(self) -> list[Value]:
        """The states at the start of an iteration."""
        return self.body.inputs[1 : 1 + self.op.carried]

    def _keep_states(self, kept: Sequence[int]) -> None:
        """Leave only these states carried; the others, whose results nothing reads, become captures."""
        body, carried = self.body, self.op.carried
        others = [index for index in range(carried) if index not in kept]
        states = self._states()
        starts = self.node.inputs[1 : 1 + carried]
        body.inputs = [
            body.inputs[0], *(states[i] for i in kept), *body.inputs[1 + carried :],
            *(states[i] for i in others),
        ]
        stacks = range(carried, carried + self.op.stacked)
        keep_outputs(body, [0, *(1 + index for index in (*kept, *stacks))])
        inputs = [
            self.node.inputs[0], *(starts[i] for i in kept), *self.node.inputs[1 + carried :],
            *(starts[i] for i in others),
        ]
        positions = (*kept, *stacks)
        self.op = dataclasses.replace(
            self.op, carried=len(kept), types=tuple(self.op.types[index] for index in positions)
        )
        outputs = [self.node.outputs[index] for index in positions]
        self.node = replace_node(self.graph, self.node, self.op, inputs, outputs)

    def _needed_states(self, results: set[int]) -> set[int]:
        """The states that the condition, the guards and these results depend on, over all iterations."""
        body = self.body
        position = {value: index for index, value in enumerate(self._states())}
        values = {value.name: value for value in body.values()}
        seen: set[Value] = set()
        needed: set[int] = set()
        pending = [body.outputs[0], *(body.outputs[1 + index] for index in results)]
        symbols = {symbol for guard in body.guards for symbol in guard.free_symbols()}
        while pending or symbols:
            pending += [values[body.symbols[symbol].value] for symbol in symbols if symbol in body.symbols]
            symbols = set()
            value = pending.pop() if pending else None
            if value is None or value in seen:
                continue
            seen.add(value)
            index = position.get(value)
            if index is not None and index not in needed:
                needed.add(index)
                pending.append(body.outputs[1 + index])
            if value.producer is not None:
                pending += value.producer.operands
                symbols = symbols_of(value.producer.dims())
        return needed | {index for index in results if index < self.op.carried}


def _clean(node: Node) -> None:
    """Take from the regions what only served results that are gone."""
    for region in node.regions:
        DeadCode().run(region)
        SimplifyRegions().run(region)


def _tidy_captures(graph: Graph, node: Node, first: int, starts: Sequence[int],
                   done: collections.Counter[str]) -> None:
    """Make constants local, and captures distinct and read. They begin at operand `first`, in the inputs of
    each region at its entry of `starts`.
    """
    known: dict[Value, int] = {}
    kept: list[int] = []
    for index, outer in enumerate(node.inputs[first:]):
        assert outer is not None
        inners = [region.inputs[start + index] for region, start in zip(node.regions, starts)]
        if outer.data is not None:
            for region, inner in zip(node.regions, inners):
                if is_read(region, inner):
                    constant = Value(region.unique_name(inner.name), inner.type, outer.data)
                    region.replace_uses(inner, constant)
                    done["constant capture"] += 1
        elif outer in known:
            for region, inner, start in zip(node.regions, inners, starts):
                region.replace_uses(inner, region.inputs[start + known[outer]])
        elif any(map(is_read, node.regions, inners)):
            known[outer] = index
            kept.append(index)
    if len(kept) == len(node.inputs) - first:
        return
    done["capture"] += len(node.inputs) - first - len(kept)
    for region, start in zip(node.regions, starts):
        region.inputs = [*region.inputs[:start], *(region.inputs[start + index] for index in kept)]
    node.inputs = [*node.inputs[:first], *(node.inputs[first + index] for index in kept)]

