"""The graph before and after each pass: which pass, and which of its rewrites, changes the meaning?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Graph, Node
from dlc.ir.text import to_text
from dlc.passes.pass_base import Numerics, Pass
from dlc.passes.rewrite import Decline, Outcome, RewritePass, Rule
from dlc.verify.bisection.allowance import EXACT, Allowance, allowance, different
from dlc.verify.bisection.report import Culprit, Level
from dlc.verify.bisection.subject import Counted, Subject, run_graph
from dlc.verify.compare import Array, Difference


def check_passes(subject: Subject, counted: Counted) -> Culprit | None:
    """Run the pipeline pass by pass, and compare the outputs before and after each one."""
    model = subject.import_model()
    graph, feeds = model.graph, subject.feeds(model)
    passes = subject.pipeline().passes
    allowed = allowance(graph, subject.options.precision)
    before = _outputs(graph, feeds)
    text = to_text(graph)
    for position, step in enumerate(passes):
        try:
            step.run(graph)
            text, old_text = to_text(graph), text
            counted.count += len(before)
            if text == old_text:
                continue
            after = _outputs(graph, feeds)
        except Exception as error:  # whatever a wrong rewrite leads to
            cause = f"after pass {step.name} the graph cannot be evaluated: {type(error).__name__}: {error}"
            return _located(subject, passes, position, Culprit(Level.PASS, cause, pass_name=step.name))
        found = _changed(step, before, after, allowed, counted.notes)
        if found is not None:
            cause = f"pass {step.name} ({step.numerics.value}) changes output {found.name}"
            culprit = Culprit(Level.PASS, cause, pass_name=step.name, value=found.name, difference=found)
            return _located(subject, passes, position, culprit)
        before = after
    return None


def _outputs(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by name, in order."""
    results = run_graph(graph, feeds)
    names = [graph.output_name(index) for index in range(len(graph.outputs))]
    return {name: results[name] for name in names}


def _changed(
    step: Pass,
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    allowed: Allowance,
    notes: list[str],
) -> Difference | None:
    """The first output that `step` changed more than it may.

    An exact pass leaves every bit, the sign of zero aside. Where only the last bits differ, that is noted:
    NumPy sums a product of other strides in another order.
    """
    for name, expected in before.items():
        if step.numerics is not Numerics.EXACT:
            found = allowed.difference(name, after[name], expected, notes)
        else:
            found = different(name, after[name], expected, EXACT)
            if found is not None and allowed.difference(name, after[name], expected, notes) is None:
                notes.append(
                    f"pass {step.name} is exact, but changes output {name} by up to {found.max_ulp} ulp"
                )
                found = None
        if found is not None:
            return found
    return None


# --- which rewrite


def _located(subject: Subject, passes: Sequence[Pass], position: int, culprit: Culprit) -> Culprit:
    """The culprit with the rewrite, or else the node, at which the pass at `position` goes wrong."""
    step = passes[position]
    if isinstance(step, RewritePass):
        return _locate_rewrite(subject, passes[:position], step, culprit)
    return _locate_node(subject, passes[:position], step, culprit)


def _prepared(subject: Subject, passes: Sequence[Pass]) -> tuple[Graph, dict[str, Array]]:
    """A fresh graph after `passes`, and the inputs."""
    model = subject.import_model()
    for each in passes:
        each.run(model.graph)
    return model.graph, subject.feeds(model)


def _locate_rewrite(subject: Subject, passes: Sequence[Pass], step: RewritePass, culprit: Culprit) -> Culprit:
    """Search the number of rewrites from which on the outputs differ; the last of them is the culprit."""
    graph, _ = _prepared(subject, passes)
    fuel = _Fuel(None)
    _Limited(step, fuel).run(graph)
    good, bad = 0, len(fuel.spent)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if _is_wrong(subject, passes, step, middle) else (middle, bad)
    if not fuel.spent:
        return culprit
    rule, node = fuel.spent[bad - 1]
    return dataclasses.replace(culprit, rewrite=f"{rule} (rewrite {bad})", nodes=node)


def _is_wrong(subject: Subject, passes: Sequence[Pass], step: RewritePass, rewrites: int) -> bool:
    """Whether the first `rewrites` of `step` change an output."""
    graph, feeds = _prepared(subject, passes)
    allowed = allowance(graph, subject.options.precision)
    before = _outputs(graph, feeds)
    try:
        _Limited(step, _Fuel(rewrites)).run(graph)
        return _changed(step, before, _outputs(graph, feeds), allowed, []) is not None
    except Exception:  # see check_passes
        return True


class _Fuel:
    """Lets rules apply a number of times (None: always), and keeps what they did: (rule, ONNX nodes)."""

    def __init__(self, amount: int | None) -> None:
        self.amount = amount
        self.spent: list[tuple[str, tuple[str, ...]]] = []

    def guard(self, rule: Rule) -> Rule:
        """`rule`, which does nothing when no fuel is left."""

        def apply(node: Node, builder: GraphBuilder) -> Outcome:
            if self.amount is not None and len(self.spent) >= self.amount:
                return None
            outcome = rule.apply(node, builder)
            if outcome is not None and not isinstance(outcome, Decline):
                self.spent.append((rule.name, node.origin))
            return outcome

        return dataclasses.replace(rule, apply=apply)


@dataclasses.dataclass(frozen=True)
class _Limited(RewritePass):
    """The rules of `inner` under a limit."""

    inner: RewritePass
    fuel: _Fuel

    name: ClassVar[str] = "limited"
    numerics: ClassVar[Numerics] = Numerics.APPROXIMATES

    def rules(self) -> Sequence[Rule]:
        return [self.fuel.guard(rule) for rule in self.inner.rules()]


def _locate_node(subject: Subject, passes: Sequence[Pass], step: Pass, culprit: Culprit) -> Culprit:
    """The first value, in the order of the nodes, that bears its old name but another number."""
    graph, feeds = _prepared(subject, passes)
    allowed = allowance(graph, subject.options.precision)
    names = {value.name for value in graph.values()}
    before = run_graph(graph, feeds, names)
    try:
        step.run(graph)
        after = run_graph(graph, feeds, names)
    except Exception:  # see check_passes; there are no values to compare
        return culprit
    for node in graph.nodes:
        for value in node.outputs:
            if value.name not in before or value.name not in after:
                continue
            found = _changed(step, {value.name: before[value.name]}, after, allowed, [])
            if found is not None:
                return dataclasses.replace(culprit, nodes=node.origin, value=value.name, difference=found)
    return culprit
