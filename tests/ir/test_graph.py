"""The graph: names, uses, order, dead nodes; the builder and the evaluator on it."""

from __future__ import annotations

import numpy as np
import pytest

from dlc.errors import InputError, ModelError, ShapeError
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Guard, Relation, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.evaluate import bind_symbols, evaluate
from dlc.ir.graph import ElementSource, Graph, ShapeSource, Value
from dlc.ir.liveness import remove_dead_nodes
from dlc.ir.ops.movement import DimTensor, Expand, Reshape
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.ir.types import TensorType
from dlc.ir.verify import verify

N, K = Symbol("n"), Symbol("k", None)
VECTOR = TensorType(DType.F32, (N,))


def vector_graph() -> tuple[Graph, GraphBuilder, Value]:
    graph = Graph()
    x = graph.add_input("x", VECTOR)
    graph.symbols[N] = ShapeSource("x", 0)
    return graph, GraphBuilder(graph), x


def test_names_are_unique_and_derived() -> None:
    graph = Graph()
    graph.reserve(["kept"])
    names = [graph.unique_name(base) for base in ("a", "a", "a.1", "a", "kept", "a.1.1")]
    assert names == ["a", "a.1", "a.1.1", "a.2", "kept.1", "a.1.1.1"]
    assert len(set(names)) == len(names)


def test_uses_follow_the_setters() -> None:
    graph, builder, x = vector_graph()
    y = builder.add(Binary("add"), x, x)
    z = builder.add(Unary("neg"), y)
    graph.add_output(z)
    assert list(x.uses) == [y.producer] and list(y.uses) == [z.producer]
    graph.replace_uses(y, x)
    assert list(x.uses) == [y.producer, z.producer] and not y.uses
    assert z.producer is not None and z.producer.inputs == (x,)
    verify(graph)


def test_replacing_an_output_keeps_its_name() -> None:
    graph, builder, x = vector_graph()
    y = builder.add(Unary("neg"), x, names=["y"])
    graph.add_output(y)
    graph.replace_uses(y, x)
    assert graph.outputs == [x] and graph.output_name(0) == "y"
    assert remove_dead_nodes(graph) == 1
    result = evaluate(graph, {"x": np.ones(2, np.float32)})
    np.testing.assert_array_equal(result["y"], [1, 1])


def test_outputs_that_were_set_directly_are_called_like_their_values() -> None:
    graph, builder, x = vector_graph()
    y = builder.add(Unary("neg"), x, names=["y"])
    graph.outputs = [y]
    graph.add_output(y, "again")
    assert [graph.output_name(index) for index in range(2)] == ["y", "again"]


def test_erase_refuses_what_is_read() -> None:
    graph, builder, x = vector_graph()
    y = builder.add(Unary("neg"), x)
    z = builder.add(Unary("abs"), y)
    graph.add_output(z)
    assert y.producer is not None and z.producer is not None
    with pytest.raises(ValueError, match="still read"):
        graph.erase([y.producer])
    with pytest.raises(ValueError, match="still read"):
        graph.erase([y.producer, z.producer])
    graph.outputs.clear()
    graph.erase([y.producer, z.producer])
    assert not graph.nodes and not x.uses


def run_time_graph() -> Graph:
    """x spread to k rows, k = |size|."""
    graph, builder, x = vector_graph()
    size = graph.add_input("size", TensorType(DType.I64, (2,)))
    builder.add(Unary("abs"), size, names=["length"])
    graph.symbols[K] = ElementSource("length", 1)
    graph.add_output(builder.add(Expand((K, N)), x, names=["y"]))
    return graph


def test_sort_respects_uses_and_symbols() -> None:
    graph = run_time_graph()
    graph.nodes.reverse()
    graph.sort()
    assert [node.outputs[0].name for node in graph.nodes] == ["length", "y"]
    verify(graph)


def test_what_binds_a_symbol_is_alive_as_long_as_the_symbol_is_spoken_of() -> None:
    graph = run_time_graph()
    assert remove_dead_nodes(graph) == 0
    graph.outputs = [graph.inputs[0]]
    assert remove_dead_nodes(graph) == 2
    assert list(graph.symbols) == [N]


def test_a_guard_keeps_its_symbols_alive() -> None:
    graph = run_time_graph()
    graph.outputs = [graph.inputs[0]]
    graph.guards.append(Guard(Relation.LT, K, 9, "too many", "here"))
    assert remove_dead_nodes(graph) == 1
    assert list(graph.symbols) == [N, K]


def test_replacing_the_source_of_a_symbol_moves_the_symbol() -> None:
    graph = run_time_graph()
    length = graph.nodes[0].output
    graph.replace_uses(length, graph.inputs[1])
    assert graph.symbols[K] == ElementSource("size", 1)
    assert remove_dead_nodes(graph) == 1
    verify(graph)


# --- builder


def test_the_builder_infers_types_and_names_the_node_in_errors() -> None:
    graph, _, x = vector_graph()
    builder = GraphBuilder(graph, origin=("the node",))
    assert builder.add(Reshape((N, 1)), x).type == TensorType(DType.F32, (N, 1))
    with pytest.raises(ModelError, match="holds 3 elements") as caught:
        builder.add(Reshape((3,)), builder.constant(np.ones(2, np.float32)))
    assert caught.value.node == "the node"


def test_the_builder_inserts_before_a_node() -> None:
    graph, builder, x = vector_graph()
    last = builder.add(Unary("neg"), x)
    before = GraphBuilder(graph, before=last.producer).add(Unary("abs"), x)
    assert graph.nodes == [before.producer, last.producer]


def test_constants_take_the_type_that_is_asked_for() -> None:
    builder = GraphBuilder(Graph())
    assert builder.constant(1.5).type == TensorType(DType.F64, ())
    value = builder.constant([1, 2], dtype=DType.BF16)
    assert value.type == TensorType(DType.BF16, (2,)) and value.is_constant


# --- evaluator


def test_evaluation_binds_symbols_from_shapes_and_elements() -> None:
    graph = run_time_graph()
    feeds = {"x": np.arange(3, dtype=np.float32), "size": np.array([7, -2])}
    assert bind_symbols(graph, feeds) == {"n": 3}
    result = evaluate(graph, feeds, keep=["length"])
    assert result["y"].shape == (2, 3) and result["length"].tolist() == [7, 2]


def test_a_symbol_may_come_from_an_element_of_an_input() -> None:
    graph = run_time_graph()
    graph.symbols[K] = ElementSource("size", 0)
    feeds = {"x": np.arange(3, dtype=np.float32), "size": np.array([4, 0])}
    assert bind_symbols(graph, feeds) == {"n": 3, "k": 4}
    assert evaluate(graph, feeds)["y"].shape == (4, 3)


def test_guards_are_checked_once_their_symbols_are_bound() -> None:
    graph = run_time_graph()
    graph.guards = [
        Guard(Relation.LE, N, 4, "at most four columns", "first"),
        Guard(Relation.LT, K, N, "fewer rows than columns", "second"),
    ]
    ones = np.ones(4, np.float32)
    assert evaluate(graph, {"x": ones, "size": np.array([0, 3])})["y"].shape == (3, 4)
    with pytest.raises(InputError, match=r"at most four columns \(node 'first'\)"):
        evaluate(graph, {"x": np.ones(5, np.float32), "size": np.array([0, 3])})
    with pytest.raises(InputError, match="fewer rows than columns"):
        evaluate(graph, {"x": ones, "size": np.array([0, -4])})


def test_inputs_are_checked() -> None:
    graph, builder, x = vector_graph()
    graph.add_input("z", TensorType(DType.F32, (N, 2)))
    graph.add_output(builder.add(DimTensor((N,), ()), names=["count"]))
    ones = np.ones(3, np.float32)
    with pytest.raises(InputError, match="input 'z' is missing"):
        evaluate(graph, {"x": ones})
    for shape in ((3, 3), (3,), (2, 2)):
        with pytest.raises(ShapeError, match="input 'z' has shape"):
            evaluate(graph, {"x": ones, "z": np.ones(shape, np.float32)})
    assert evaluate(graph, {"x": ones, "z": np.ones((3, 2), np.float32)})["count"] == 3
    assert x.tensor.rank == 1


def test_zero_size_is_legal() -> None:
    graph, builder, x = vector_graph()
    graph.add_output(builder.add(Unary("exp"), x, names=["y"]))
    assert evaluate(graph, {"x": np.ones(0, np.float32)})["y"].shape == (0,)
