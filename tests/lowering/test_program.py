"""Programs: evaluated on bytes against the graph, their memory plans replayed, faults planted in both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.errors import IndexFault, InputError, InternalError, ShapeError
from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Guard, Relation, Symbol
from dlc.ir.dtypes import DType
from dlc.ir.evaluate import evaluate
from dlc.ir.graph import ElementSource, Graph, ShapeSource
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.convolution import Conv
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.layout import Relayout
from dlc.ir.ops.movement import Concat, Reshape, Slice, Transpose
from dlc.ir.ops.normalization import Softmax
from dlc.ir.ops.pointwise import Binary, Unary
from dlc.ir.ops.reduction import Reduce
from dlc.ir.types import ZERO, Halo, TensorType, blocked_channels
from dlc.lowering.lower import lower
from dlc.lowering.program import Buffer, Host, Launch, Program, Storage, StorageKind
from dlc.lowering.program_evaluate import evaluate_program
from dlc.lowering.program_text import decisions_text, program_text
from dlc.lowering.replay import replay
from dlc.verify.tolerances import Work
from tests.lowering.kernels import assert_same

Array: TypeAlias = "np.ndarray[Any, Any]"


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def symbol_graph(*shape: Symbol | int) -> tuple[Graph, GraphBuilder]:
    """A graph with one input x; its symbols come from there."""
    graph = Graph()
    graph.add_input("x", TensorType(DType.F32, shape))
    for axis, extent in enumerate(shape):
        if isinstance(extent, Symbol):
            graph.symbols.setdefault(extent, ShapeSource("x", axis))
    return graph, GraphBuilder(graph, origin=("node",))


def attention() -> Graph:
    """A head of attention over a symbolic sequence, with a reshape in place."""
    n = Symbol("n", 1)
    graph, b = symbol_graph(n, 12)
    (x,) = graph.inputs
    q, k, v = (b.add(MatMul(), x, b.constant(random(12, 12, seed=s))) for s in range(3))
    scores = b.add(Softmax(1), b.add(MatMul(), q, b.add(Transpose((1, 0)), k)))
    mixed = b.add(Reshape((n, 3, 4)), b.add(MatMul(), scores, v))
    total = b.add(Reduce("sum", (2,), False), b.add(Unary("tanh"), mixed))
    graph.add_output(b.add(Concat(1), total, b.add(Reshape((n, 12)), mixed)), "y")
    graph.add_output(b.add(Binary("add"), x, b.add(Reshape((n, 12)), mixed)), "z")
    return graph


def blocked_convolutions() -> Graph:
    """Two convolutions whose middle lies in blocks of channels within a halo."""
    graph, b = symbol_graph(2, 3, 6, 5)
    (x,) = graph.inputs
    same = Conv((1, 1), (1, 1), ((1, 1), (1, 1)))
    first = b.add(same, x, b.constant(random(20, 3, 3, 3, seed=1)))
    layout = blocked_channels(4, 16, (Halo(2, 1, 1, ZERO), Halo(3, 1, 1, ZERO)), ZERO)
    middle = b.add(Relayout(layout), b.add(Unary("relu"), first))
    graph.add_output(b.add(same, middle, b.constant(random(4, 20, 3, 3, seed=2))), "y")
    return graph


def chain() -> Graph:
    """A long chain of kernels that cannot be fused, of numbers for extents."""
    graph, b = symbol_graph(4, 6)
    value = graph.inputs[0]
    for index in range(6):
        value = b.add(Softmax(1), b.add(MatMul(), value, b.constant(random(6, 6, seed=index))))
    graph.add_output(value, "y")
    return graph


def plain_outputs() -> Graph:
    """An input, a constant and one value twice as outputs."""
    graph, b = symbol_graph(3, 2)
    (x,) = graph.inputs
    y = b.add(Unary("exp"), x)
    for name, value in (("a", x), ("b", b.constant(random(2))), ("c", y), ("d", y)):
        graph.add_output(value, name)
    return graph


def run_time_size() -> Graph:
    """A slice whose start is an element of a computed tensor."""
    graph, b = symbol_graph(8)
    (x,) = graph.inputs
    counts = graph.add_input("k", TensorType(DType.I64, (2,)))
    total = b.add(Reduce("sum", (0,), True), counts)
    start = Symbol("start")
    graph.symbols[start] = ElementSource(total.name, 0)
    graph.guards.append(Guard(Relation.LE, start, 5, "the slice leaves the tensor", "slice"))
    graph.add_output(b.add(Slice((start,), (3,), (1,)), x), "y")
    return graph


GRAPHS: dict[str, tuple[Callable[[], Graph], list[dict[str, Array]]]] = {
    "attention": (attention, [{"x": random(5, 12)}, {"x": random(1, 12)}, {"x": random(33, 12)}]),
    "blocked": (blocked_convolutions, [{"x": random(2, 3, 6, 5)}]),
    "chain": (chain, [{"x": random(4, 6)}]),
    "outputs": (plain_outputs, [{"x": random(3, 2)}]),
    "run time": (run_time_size, [{"x": random(8), "k": np.array([1, 2])}]),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_programs_mean_what_their_graphs_do(name: str) -> None:
    make, cases = GRAPHS[name]
    for feeds in cases:
        graph = make()
        expected = evaluate(graph, feeds)
        wanted = [expected[graph.output_name(index)] for index in range(len(graph.outputs))]
        program = lower(graph)
        outputs = evaluate_program(program, [feeds[buffer.name] for buffer in program.inputs])
        assert_same(outputs, wanted, Work.CONTRACTION)
        wide = evaluate_program(program, [feeds[buffer.name] for buffer in program.inputs], wide=True)
        assert_same(wide, wanted, Work.CONTRACTION)


def test_inputs_have_to_fit() -> None:
    program = lower(attention())
    with pytest.raises(ShapeError, match="input x is float64"):
        evaluate_program(program, [random(5, 12).astype(np.float64)])
    with pytest.raises(ShapeError, match="input x has shape"):
        evaluate_program(program, [random(5, 13)])
    with pytest.raises(InputError, match="2 inputs are given"):
        evaluate_program(program, [random(5, 12), random(5, 12)])


def test_guards_are_checked_when_their_symbols_are_bound() -> None:
    program = lower(run_time_size())
    with pytest.raises(InputError, match="the slice leaves the tensor"):
        evaluate_program(program, [random(8), np.array([3, 3])])


def test_an_index_out_of_range_names_the_node() -> None:
    graph, b = symbol_graph(4, 2)
    indices = graph.add_input("k", TensorType(DType.I64, (3,)))
    graph.add_output(b.add(Gather(0), graph.inputs[0], indices), "y")
    program = lower(graph)
    with pytest.raises(IndexFault, match="index 4 is outside") as caught:
        evaluate_program(program, [random(4, 2), np.array([0, 4, 1])])
    assert caught.value.node == "node"


# --- planted faults


def moved(program: Program, step: int, operand: int, **changes: Any) -> Program:
    """The program with one buffer of one launch changed."""
    launch = program.steps[step]
    assert isinstance(launch, Launch)
    buffers = list(launch.buffers)
    buffers[operand] = dataclasses.replace(buffers[operand], **changes)
    steps = list(program.steps)
    steps[step] = dataclasses.replace(launch, buffers=tuple(buffers))
    return dataclasses.replace(program, steps=tuple(steps))


def arena_writes(program: Program) -> list[tuple[int, int, Buffer]]:
    """(step, operand, buffer) of results in the arena."""
    found = []
    for number, step in enumerate(program.steps):
        if isinstance(step, Launch):
            kernel = program.kernels[step.kernel]
            for position, (param, buffer) in enumerate(zip(kernel.params, step.buffers)):
                if param in kernel.writes and buffer.storage.kind is StorageKind.ARENA:
                    found.append((number, position, buffer))
    return found


def test_the_plan_of_every_graph_is_sound() -> None:
    for make, cases in GRAPHS.values():
        program = lower(make())
        for feeds in cases:
            shapes = dict.fromkeys((s.name for s in program.symbols), len(feeds["x"]))
            replay(program, shapes)


def test_a_buffer_that_is_reused_too_early_is_found() -> None:
    """Each result is put over each other live one; the replay names the reader that finds foreign bytes."""
    program = lower(chain())
    writes = arena_writes(program)
    found = 0
    for step, operand, buffer in writes:
        for _, _, other in writes:
            if other.owner == buffer.owner or other.offset == buffer.offset:
                continue
            broken = moved(program, step, operand, offset=other.offset)
            with pytest.raises(InternalError, match="the memory plan is not sound"):
                replay(broken, {})
            found += 1
    assert found >= 10


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"offset": 8}, "no multiple of 64"),
        ({"offset": 1 << 20}, "to bytes 1048576 to"),
        ({"offset": -64}, "to bytes -64 to"),
        ({"storage": Storage(StorageKind.INPUT, 0, 96)}, "to input 0"),
        ({"storage": Storage(StorageKind.CONSTANT, 0, 144)}, "to constant 0"),
        ({"name": "other"}, "but step 0 wrote %other"),
    ],
)
def test_misplaced_results_are_found(changes: dict[str, Any], problem: str) -> None:
    program = lower(chain())
    step, operand, _ = arena_writes(program)[0]
    with pytest.raises(InternalError, match=problem):
        replay(moved(program, step, operand, **changes), {})


def test_a_step_left_out_is_found() -> None:
    program = lower(chain())
    for step in range(len(program.steps)):
        steps = (*program.steps[:step], *program.steps[step + 1 :])
        with pytest.raises(InternalError, match=r"never written|but step"):
            replay(dataclasses.replace(program, steps=steps), {})


def test_two_steps_exchanged_are_found() -> None:
    program = lower(chain())
    first, second, *rest = program.steps
    with pytest.raises(InternalError, match=r"never written|but step"):
        replay(dataclasses.replace(program, steps=(second, first, *rest)), {})


def test_a_result_over_its_own_operand_is_found_unless_it_may_be() -> None:
    program = lower(chain())
    for number, step in enumerate(program.steps):
        assert isinstance(step, Launch)
        kernel = program.kernels[step.kernel]
        if kernel.name.startswith("matmul") or step.buffers[0].storage.kind is not StorageKind.ARENA:
            continue
        read = next(
            b
            for p, b in zip(kernel.params, step.buffers)
            if p in kernel.reads and b.storage.kind is StorageKind.ARENA
        )
        target = next(i for i, p in enumerate(kernel.params) if p in kernel.writes)
        broken = moved(program, number, target, storage=read.storage, offset=read.offset)
        with pytest.raises(InternalError, match="which it also uses"):
            replay(broken, {})
        return
    raise AssertionError("no kernel between two arena buffers")


def test_a_halo_that_is_not_filled_is_found() -> None:
    program = lower(blocked_convolutions())
    feeds = [random(2, 3, 6, 5)]
    evaluate_program(program, feeds)
    fills = [
        number
        for number, step in enumerate(program.steps)
        if isinstance(step, Launch) and not program.kernels[step.kernel].reads
    ]
    assert len(fills) == 4
    for fill in fills:
        steps = (*program.steps[:fill], *program.steps[fill + 1 :])
        with pytest.raises(InternalError, match=r"the halo of axis [23] does not hold zero"):
            evaluate_program(dataclasses.replace(program, steps=steps), feeds)


def test_what_is_not_written_shows_as_nan() -> None:
    graph, b = symbol_graph(2, 3)
    x = graph.inputs[0]
    graph.add_output(b.add(Concat(0), b.add(Softmax(1), x), x), "y")
    program = lower(graph)
    kernels = list(program.kernels)
    last = kernels[-1]
    kernels[-1] = dataclasses.replace(last, body=(dataclasses.replace(last.body[0], axes=(), index=(0, 0)),))  # type: ignore[call-arg]
    steps = tuple(
        step for step in program.steps if isinstance(step, Launch) and step.kernel != len(kernels) - 1
    )
    outputs = evaluate_program(dataclasses.replace(program, steps=steps), [random(2, 3)])
    assert np.isnan(outputs[0]).any()


# --- text


def test_the_text_shows_memory_steps_and_kernels() -> None:
    text = program_text(lower(attention()))
    assert "  symbol n: 1..\n" in text
    assert "  input %x: f32[n, 12] @ input 0\n" in text
    assert "  constant 0 %const: float32[12, 12], 576 bytes\n" in text
    assert "@ arena" in text and '# "node"' in text
    assert "  kernel 0 " in text and "contract over" in text
    assert "contract over" not in program_text(lower(attention()), kernels=False)
    assert program_text(lower(attention())) == text


def test_the_text_shows_bound_symbols_and_checks() -> None:
    text = program_text(lower(run_time_size()))
    assert "symbol start, bound by a step" in text
    assert "bind start = element 0 of %reduce" in text
    assert "check start <= 5" in text


def test_host_steps_are_evaluated_and_shown() -> None:
    from dlc.ir.ops.pointwise import Cast

    graph = Graph()
    graph.add_input("x", TensorType(DType.STRING, (3,)))
    builder = GraphBuilder(graph, origin=("node",))
    graph.add_output(builder.add(Cast(DType.F32), graph.inputs[0]), "y")
    program = lower(graph)
    assert any(isinstance(step, Host) for step in program.steps)
    assert "host Cast(%x) -> %cast" in program_text(program)


def test_decisions_are_recorded() -> None:
    program = lower(attention())
    text = decisions_text(program)
    assert text.count("\n") == len(program.decisions) >= 3
    assert "fused: " in text and "apart: " in text
