"""The verifier finds each kind of damage, and nothing in a sound graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dlc.errors import InternalError
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Guard, Relation, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.graph import ElementSource, Graph, Node, ShapeSource, Value
from dlc.ir.ops.movement import Expand, Reshape
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.ir.types import TensorType
from dlc.ir.verify import verify, violations

N, K = Symbol("n"), Symbol("k")
VECTOR = TensorType(DType.F32, (N,))


def sound() -> Graph:
    """y = x + c, spread to k rows, where k is the sum of an integer input."""
    graph = Graph()
    x = graph.add_input("x", VECTOR)
    size = graph.add_input("size", TensorType(DType.I64, ()))
    builder = GraphBuilder(graph)
    y = builder.add(Binary("add"), x, builder.constant(np.ones(1, np.float32), "c"), names=["y"])
    length = builder.add(Unary("abs"), size, names=["length"])
    graph.symbols = {N: ShapeSource("x", 0), K: ElementSource("length", 0)}
    graph.guards = [Guard(Relation.LE, K, N, "message", "origin")]
    z = builder.add(Expand((K, N)), y, names=["z"])
    graph.add_output(z)
    graph.add_output(length, "rows")
    return graph


def test_a_sound_graph_passes() -> None:
    verify(sound())


def node_of(graph: Graph, name: str) -> Node:
    return next(node for node in graph.nodes if node.outputs[0].name == name)


def rename(graph: Graph) -> None:
    node_of(graph, "y").output.name = "x"


def misorder(graph: Graph) -> None:
    graph.nodes.reverse()


def foreign(graph: Graph) -> None:
    node_of(graph, "z").inputs = (Value("stranger", VECTOR),)


def forget_use(graph: Graph) -> None:
    graph.inputs[0].uses.clear()


def stale_use(graph: Graph) -> None:
    graph.inputs[0].uses[node_of(graph, "z")] = None


def wrong_producer(graph: Graph) -> None:
    node_of(graph, "y").output.index = 1


def wrong_type(graph: Graph) -> None:
    node_of(graph, "y").output.type = TensorType(DType.F64, (N,))


def wrong_extent(graph: Graph) -> None:
    node_of(graph, "y").output.type = TensorType(DType.F32, (N + 1,))


def refuses(graph: Graph) -> None:
    node_of(graph, "y").op = Reshape((-1,))


def too_few_results(graph: Graph) -> None:
    node_of(graph, "y").outputs = ()


def wrong_constant(graph: Graph) -> None:
    next(graph.constants()).data = np.ones(2, np.float32)


def wrong_dtype(graph: Graph) -> None:
    next(graph.constants()).data = np.ones(1, np.float64)


def unbound(graph: Graph) -> None:
    del graph.symbols[K]


def bound_too_late(graph: Graph) -> None:
    graph.nodes.insert(0, graph.nodes.pop())
    graph.nodes[0].inputs = (next(graph.constants()),)


def no_source(graph: Graph) -> None:
    graph.symbols[K] = ElementSource("nothing", 0)


def beyond(graph: Graph) -> None:
    graph.symbols[K] = ElementSource("length", 1)


def not_an_integer(graph: Graph) -> None:
    graph.symbols[K] = ElementSource("c", 0)


def not_the_extent(graph: Graph) -> None:
    graph.symbols[K] = ShapeSource("x", 0)


def reserved(graph: Graph) -> None:
    graph.symbols[Symbol("f32")] = ElementSource("length", 0)


def stray_guard(graph: Graph) -> None:
    graph.guards.append(Guard(Relation.LT, Symbol("stray"), 3, "", ""))


def lost_output(graph: Graph) -> None:
    graph.outputs[0] = Value("lost", VECTOR)


def twice_an_output_name(graph: Graph) -> None:
    graph.output_names = ["same", "same"]


def names_without_outputs(graph: Graph) -> None:
    graph.outputs.pop()


def node_twice(graph: Graph) -> None:
    graph.nodes.append(graph.nodes[0])


def bad_region(graph: Graph) -> None:
    region = Graph("body")
    region.outputs = [graph.inputs[0]]
    node_of(graph, "y").regions = (region,)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (rename, "the name %x stands for two values"),
        (misorder, "reads %y, which is not defined before it"),
        (foreign, "reads %stranger, which is not defined"),
        (forget_use, "%x does not know that %y = Binary reads it"),
        (stale_use, "%x is said to be read by %z = Expand, which does not"),
        (wrong_producer, "%y is not known to be result 0"),
        (wrong_type, "is f64[n], but inference gives f32[n]"),
        (wrong_extent, "is f32[n + 1], but inference gives f32[n]"),
        (refuses, "does not accept its operands"),
        (too_few_results, "has 0 results where its operator gives 1"),
        (wrong_constant, "the constant %c holds float32[2], not f32[1]"),
        (wrong_dtype, "the constant %c holds float64[1], not f32[1]"),
        (unbound, "speaks of the symbol k, which is not bound there"),
        (bound_too_late, "an attribute of %z = Expand speaks of the symbol k, which is not bound there"),
        (no_source, "the symbol k comes from %nothing"),
        (beyond, "the symbol k is not element 1 of an integer tensor %length"),
        (not_an_integer, "the symbol k is not element 0 of an integer tensor %c"),
        (not_the_extent, "the symbol k is not extent 0 of an input %x"),
        (reserved, "the symbol name f32 is not unique, or a word"),
        (stray_guard, "the guard stray < 3 speaks of the symbol stray"),
        (lost_output, "the output %lost is not defined in this graph"),
        (twice_an_output_name, "two outputs have one name"),
        (names_without_outputs, "2 names are given to 1 outputs"),
        (node_twice, "a node stands twice in the list"),
        (bad_region, "in region body of %y = Binary: the output %x is not defined"),
    ],
    ids=lambda item: item.__name__ if callable(item) else "",
)
def test_each_kind_of_damage_is_found(damage: Callable[[Graph], None], problem: str) -> None:
    graph = sound()
    damage(graph)
    assert any(problem in found for found in violations(graph)), list(violations(graph))
    with pytest.raises(InternalError, match="not sound"):
        verify(graph)


def test_the_list_is_cut_and_escaped() -> None:
    graph = Graph()
    for index in range(40):
        graph.outputs.append(Value(f"v\x1b{index}", VECTOR))
    with pytest.raises(InternalError) as caught:
        verify(graph)
    assert "and 20 more" in caught.value.message and "\x1b" not in caught.value.message
