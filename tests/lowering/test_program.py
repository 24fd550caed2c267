"""Programs: evaluated on bytes against the graph, their memory plans replayed, faults planted in both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.errors import IndexFault, InputError, InternalError, LimitError, ShapeError
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
from dlc.lowering.parse import parse
from dlc.lowering.program import (
    Bind,
    Branch,
    Buffer,
    Check,
    Copy,
    Grow,
    Host,
    Launch,
    Program,
    Repeat,
    Set,
    Step,
    Storage,
    StorageKind,
    walk,
)
from dlc.lowering.program_evaluate import evaluate_program
from dlc.lowering.program_text import decisions_text, program_text
from dlc.lowering.replay import replay
from dlc.lowering.verify_program import verify_program
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


# --- branches and loops

F4 = TensorType(DType.F32, (4,))
X = Buffer("x", Storage(StorageKind.INPUT, 0, 64), 0, F4)
COUNT = Buffer("count", Storage(StorageKind.INPUT, 1, 64), 0, TensorType(DType.I64, (1,)))
FLAG = Buffer("flag", Storage(StorageKind.INPUT, 2, 64), 0, TensorType(DType.BOOL, ()))
Y = Buffer("y", Storage(StorageKind.OUTPUT, 0, 64), 0, F4)
A, B = (Buffer(name, Storage(StorageKind.ARENA, 0, 64), at, F4) for name, at in (("a", 0), ("b", 64)))
K, I = Symbol("k"), Symbol("i")  # noqa: E741

ADD = parse(
    "kernel add {\n symbol i\n read x: f32[4]\n write y: f32[4]\n axis j: 4\n"
    "for j: y[j] = x[j] + f32(iota(i))\n}"
)
COPY = parse("kernel copy {\n read x: f32[4]\n write y: f32[4]\n axis j: 4\n for j: y[j] = x[j]\n}")


def launch(kernel: int, *buffers: Buffer) -> Launch:
    return Launch(kernel, buffers, (), ("node",))


def repeat(trip: Symbol | int | None, *body: Step, limit: int = 100, **changes: Any) -> Repeat:
    plain = Repeat(trip, None, I, None, body, None, (), limit, ("loop",))
    return dataclasses.replace(plain, **changes)


def program_of(*steps: Step, storages: int = 0) -> Program:
    return Program((), (K,), (), (X, COUNT, FLAG), (Y,), (), (ADD, COPY), steps, 128, (), 0, storages)


def run_steps(*steps: Step, count: int = 0, flag: bool = False, storages: int = 0) -> Array:
    program = program_of(*steps, storages=storages)
    verify_program(program)
    inputs = [np.zeros(4, np.float32), np.array([count]), np.array(flag)]
    (y,) = evaluate_program(program, inputs)
    assert program_text(program).count("step ") == len(list(walk(program.steps)))
    return y


SUM = repeat(K, launch(0, A, B), Copy(B, A))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_loops_count(count: int) -> None:
    y = run_steps(Bind(K, COUNT, 0), launch(1, X, A), SUM, launch(1, A, Y), count=count)
    np.testing.assert_array_equal(y, np.full(4, sum(range(count))))


def test_loops_are_bounded() -> None:
    with pytest.raises(LimitError, match="more than 3 iterations") as caught:
        run_steps(launch(1, X, A), repeat(9, launch(0, A, B), limit=3), launch(1, B, Y))
    assert caught.value.node == "loop"


def test_loops_stop_when_their_condition_fails() -> None:
    body = (launch(0, A, B), Copy(B, A))
    start = launch(1, X, A)
    for flag, expected in ((False, 0), (True, 0 + 1 + 2)):
        once = repeat(3, *body, condition=FLAG, again=FLAG)
        np.testing.assert_array_equal(
            run_steps(start, once, launch(1, A, Y), flag=flag), np.full(4, expected)
        )


def test_symbols_pass_from_iteration_to_iteration() -> None:
    add = parse(
        "kernel add {\n symbol k\n read x: f32[4]\n write y: f32[4]\n axis j: 4\n"
        "for j: y[j] = x[j] + f32(iota(k))\n}"
    )
    loop = repeat(4, Set((K,), (2 * K,)), symbols=(K,))
    program = program_of(Bind(K, COUNT, 0), loop, launch(0, X, Y))
    program = dataclasses.replace(program, kernels=(add, COPY))
    verify_program(program)
    (y,) = evaluate_program(program, [np.zeros(4, np.float32), np.array([3]), np.array(True)])
    np.testing.assert_array_equal(y, np.full(4, 48))


def test_the_number_of_an_iteration_stands_in_memory_too() -> None:
    counter = Buffer("number", Storage(StorageKind.ARENA, 0, 64), 0, TensorType(DType.I64, ()))
    bind = Bind(K, dataclasses.replace(counter, type=TensorType(DType.I64, (1,))), 0)
    loop = repeat(5, bind, counter=counter, symbols=(K,))
    add = parse(
        "kernel add {\n symbol k\n read x: f32[4]\n write y: f32[4]\n axis j: 4\n"
        "for j: y[j] = x[j] + f32(iota(k))\n}"
    )
    program = dataclasses.replace(program_of(Bind(K, COUNT, 0), loop, launch(0, X, Y)), kernels=(add, COPY))
    (y,) = evaluate_program(program, [np.zeros(4, np.float32), np.array([9]), np.array(True)])
    np.testing.assert_array_equal(y, np.full(4, 4))


@pytest.mark.parametrize("flag", [False, True])
def test_branches(flag: bool) -> None:
    then = (Set((K,), (7,)), launch(1, X, A))
    otherwise = (Set((K,), (2,)), launch(1, X, A))
    branch = Branch(FLAG, then, otherwise, (K,))
    y = run_steps(branch, SUM, launch(1, A, Y), flag=flag)
    np.testing.assert_array_equal(y, np.full(4, sum(range(7 if flag else 2))))


def test_growing_storages_keep_what_they_hold() -> None:
    storage = Storage(StorageKind.GROWN, 0, 64)
    first, second = (Buffer(name, storage, at, F4) for name, at in (("first", 0), ("second", 64)))
    y = run_steps(
        *(Grow(storage, 64), launch(1, X, first), Grow(storage, 128), launch(1, first, second)),
        *(Grow(storage, 8), launch(1, second, Y)),
        storages=1,
    )
    np.testing.assert_array_equal(y, np.zeros(4))
    with pytest.raises(InternalError, match="to bytes 64 to 80 of grown"):
        run_steps(
            Grow(storage, 64), launch(1, X, first), launch(1, first, second), launch(1, second, Y), storages=1
        )


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ((launch(1, A, Y),), "never written"),
        ((repeat(1, launch(1, A, B)), launch(1, X, Y)), "never written"),
        ((launch(1, X, A), repeat(2, launch(0, A, B), launch(1, X, dataclasses.replace(B, name="c"))),
          launch(1, B, Y)), "but step"),
        ((Branch(FLAG, (launch(1, X, A),), (launch(1, X, B),)), launch(1, A, Y)), "never written"),
    ],
)  # fmt: skip
def test_faults_inside_of_branches_and_loops_are_found(steps: tuple[Step, ...], problem: str) -> None:
    with pytest.raises(InternalError, match=problem):
        run_steps(*steps)


def test_replaying_needs_a_run_where_data_chooses_the_steps() -> None:
    with pytest.raises(InternalError, match="only a run can be replayed"):
        replay(program_of(repeat(2, launch(1, X, A))), {})


UNSOUND = [
    ((SUM,), "the symbol k is not bound yet"),
    ((launch(0, X, Y),), "the symbol i is not bound yet"),
    ((repeat(2, Bind(K, COUNT, 0)), SUM), "the symbol k is not bound yet"),
    ((Branch(FLAG, (Set((K,), (1,)),), (), (K,)),), "the symbol k is not bound yet"),
    ((launch(2, X, Y),), "which does not exist"),
    ((launch(1, X),), "1 buffers are given to 2 parameters"),
    ((launch(1, COUNT, Y),), "copy takes f32\\[4\\] as x, but %count is i64\\[1\\]"),
]


@pytest.mark.parametrize(("steps", "problem"), UNSOUND)
def test_unsound_programs(steps: tuple[Step, ...], problem: str) -> None:
    with pytest.raises(InternalError, match=problem):
        verify_program(program_of(*steps))


def test_kernels_rely_on_guards_that_have_been_checked_only() -> None:
    kernel = parse(
        "kernel part {\n symbol k\n read x: f32[4]\n write y: f32[4]\n axis j: k\n for j: y[j] = x[j]\n}"
    )
    guard = Guard(Relation.LE, K, 4, "too many")
    for steps in ((Check(guard, 0), launch(0, X, Y)), (launch(0, X, Y), Check(guard, 0))):
        program = program_of(Bind(K, COUNT, 0), *steps)
        program = dataclasses.replace(program, kernels=(kernel,), guards=(guard,))
        if isinstance(steps[0], Check):
            verify_program(program)
        else:
            with pytest.raises(InternalError, match="is not proved"):
                verify_program(program)


def test_kernels_of_sound_programs() -> None:
    for make, _ in GRAPHS.values():
        verify_program(lower(make()))


def test_a_launched_kernel_reads_nothing_that_another_stage_stores() -> None:
    kernel = parse(
        "kernel two {\n read x: f32[4]\n update y: f32[4]\n axis j: 4\n for j: y[j] = x[j]\n"
        "for j: s: f32 = y[3 - j]\n for j: y[j] += s[j]\n}"
    )
    program = dataclasses.replace(program_of(launch(0, X, Y)), kernels=(kernel,))
    with pytest.raises(InternalError, match="y is read in one stage and stored in another"):
        verify_program(program)


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
    text = program_text(program)
    assert "host Cast(%x @ object 0) -> %cast" in text and 'string[3]  # "node"' in text


def test_decisions_are_recorded() -> None:
    program = lower(attention())
    text = decisions_text(program)
    assert text.count("\n") == len(program.decisions) >= 3
    assert "fused: " in text and "apart: " in text
