"""The rewrite engine: fixed point, origins, declines, and its guards against wrong rules."""
from __future__ import annotations

import pytest

from dlc.errors import InternalError
from dlc.ir.builder import GraphBuilder
from dlc.ir.graph import Node
from dlc.ir.ops.movement import Reshape
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.passes.match import operand, unary, uniform
from dlc.passes.rewrite import Decline, Outcome, rewrite, rule
from tests.helpers.passes import body_of, graph_of


@rule(Unary)
def cancel_neg(node: Node, builder: GraphBuilder) -> Outcome:
    """neg(neg(x)) -> x."""
    return unary(unary(node.output, "neg"), "neg")


@rule(Unary)
def exp_as_power(node: Node, builder: GraphBuilder) -> Outcome:
    """sigmoid(x) -> reciprocal(exp(neg(x)) + 1), to see new nodes."""
    if node.op != Unary("sigmoid"):
        return None
    power = builder.add(Unary("exp"), builder.add(Unary("neg"), operand(node, 0)))
    return builder.add(Unary("reciprocal"), builder.add(Binary("add"), power, builder.constant(1.0)))


CHAIN = """
    input %x: f64[3]
    %a = Unary(fn="neg")(%x) : f64[3] @ "a"
    %b = Unary(fn="neg")(%a) : f64[3] @ "b"
    %c = Unary(fn="neg")(%b) : f64[3] @ "c"
    %y = Unary(fn="neg")(%c) : f64[3] @ "d"
    output y = %y
"""


def test_rules_apply_until_none_does() -> None:
    graph = graph_of(CHAIN)
    statistics = rewrite(graph, [cancel_neg])
    assert body_of(graph).splitlines() == ["input %x: f64[3]", "output y = %x"]
    assert statistics.rewrites == {"cancel_neg": 2}


def test_new_nodes_have_the_origins_of_what_they_replace() -> None:
    graph = graph_of("""
        input %x: f64[3]
        %a = Unary(fn="neg")(%x) : f64[3] @ "one"
        %y = Unary(fn="sigmoid")(%a) : f64[3] @ "two"
        output y = %y
    """)

    @rule(Unary)
    def swallow(node: Node, builder: GraphBuilder) -> Outcome:
        inner = unary(operand(node, 0), "neg") if node.op == Unary("sigmoid") else None
        return None if inner is None else builder.add(Unary("tanh"), inner)

    rewrite(graph, [swallow])
    (node,) = graph.nodes
    assert node.op == Unary("tanh") and node.origin == ("one", "two")


def test_nodes_are_sorted_after_rewriting() -> None:
    graph = graph_of("""
        input %x: f64[3]
        %s = Unary(fn="sigmoid")(%x) : f64[3]
        %y = Unary(fn="exp")(%s) : f64[3]
        output y = %y
    """)
    rewrite(graph, [exp_as_power])
    assert [node.op for node in graph.nodes] == [
        Unary("neg"), Unary("exp"), Binary("add"), Unary("reciprocal"), Unary("exp")]


def test_what_a_declining_rule_added_disappears() -> None:
    graph = graph_of(CHAIN)

    @rule(Unary)
    def hesitate(node: Node, builder: GraphBuilder) -> Outcome:
        builder.add(Unary("exp"), operand(node, 0))
        return Decline("second thoughts") if node.origin == ("b",) else None

    statistics = rewrite(graph, [hesitate])
    assert body_of(graph) == body_of(graph_of(CHAIN))
    (decline,) = statistics.declines
    assert (decline.rule, decline.nodes, decline.reason) == ("hesitate", ("b",), "second thoughts")
    assert all(len(value.uses) == 1 for value in graph.inputs)


def test_a_decline_that_a_later_rewrite_made_void_is_not_reported() -> None:
    graph = graph_of(CHAIN)

    @rule(Unary)
    def hesitate(node: Node, builder: GraphBuilder) -> Outcome:
        return Decline("not here")

    assert not rewrite(graph, [hesitate, cancel_neg]).declines


def test_a_replacement_of_another_type_is_declined() -> None:
    graph = graph_of(CHAIN)

    @rule(Unary)
    def flatten(node: Node, builder: GraphBuilder) -> Outcome:
        return builder.add(Reshape((1, 3)), operand(node, 0))

    statistics = rewrite(graph, [flatten])
    assert not statistics.total and "f64[1, 3]" in statistics.declines[0].reason


def test_rules_that_undo_each_other_are_found() -> None:
    graph = graph_of(CHAIN)

    @rule(Unary)
    def forth(node: Node, builder: GraphBuilder) -> Outcome:
        return builder.add(Unary("abs"), operand(node, 0)) if node.op == Unary("neg") else None

    @rule(Unary)
    def back(node: Node, builder: GraphBuilder) -> Outcome:
        return builder.add(Unary("neg"), operand(node, 0)) if node.op == Unary("abs") else None

    with pytest.raises(InternalError, match="does not end"):
        rewrite(graph, [forth, back])


def test_symbols_follow_the_value_that_they_are_bound_from() -> None:
    graph = graph_of("""
        symbol n = element(%b, 0)
        input %count: i64[1]
        %a = Unary(fn="neg")(%count) : i64[1]
        %b = Unary(fn="neg")(%a) : i64[1]
        %start = constant i64[] [0]
        %step = constant i64[] [1]
        %y = Range(extent=n)(%start, %step) : i64[n]
        output y = %y
    """)
    rewrite(graph, [cancel_neg])
    assert "symbol n = element(%count, 0)" in body_of(graph)


def test_uniform_sees_through_broadcasts() -> None:
    graph = graph_of("""
        symbol n = shape(%x, 0)
        input %x: f32[n]
        %half = constant f32[] [0.5]
        %e = Expand(shape=(n,))(%half) : f32[n]
        %y = Binary(fn="mul")(%x, %e) : f32[n]
        output y = %y
    """)
    assert uniform(graph.nodes[1].inputs[1]) == 0.5
    assert uniform(graph.inputs[0]) is None
