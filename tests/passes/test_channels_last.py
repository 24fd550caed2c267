# ruff: noqa: E501 - the text of operators is long
"""Channels-last regions: where they reach, what stands at their borders, and the same bits."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.ir.graph import Graph
from dlc.ir.ops.layout import Relayout
from dlc.ir.types import Layout, TensorType
from dlc.ir.verify import verify
from dlc.lowering.lower import lower
from dlc.lowering.program import Launch, walk
from dlc.lowering.program_evaluate import evaluate_program
from dlc.passes.channels_last import ChannelsLast, channels_last, permuted
from dlc.passes.pass_base import graphs_within
from dlc.passes.pipeline import gpu_pipeline
from tests.helpers.passes import body_of, graph_of, random_feeds, run_and_compare

RNG = np.random.default_rng(0)


def constant(name: str, *shape: int, dtype: str = "f32") -> str:
    """The line of a constant of random numbers."""
    numbers = ", ".join(f"{number:.3f}" for number in RNG.standard_normal(shape).reshape(-1))
    return f"%{name} = constant {dtype}[{', '.join(map(str, shape))}] [{numbers}]"


def conv(result: str, x: str, w: str, type_: str, taps: int = 3, groups: int = 1) -> str:
    """The line of a convolution of stride 1 that keeps the extents."""
    pad = taps // 2
    return (f"%{result} = Conv(strides=(1, 1), dilations=(1, 1), pads=(({pad}, {pad}), ({pad}, {pad})), groups={groups})"
            f"(%{x}, %{w}, _) : {type_}")


#: An image, two branches, a pool, their channels together, a gate from means, and a classifier.
NET = f"""
    symbol n = shape(%x, 0)
    input %x: f32[n, 3, 6, 4]
    {constant("w1", 8, 3, 3, 3)}
    {constant("w2", 8, 8, 1, 1)}
    {constant("w3", 8, 1, 3, 3)}
    {constant("w4", 16, 16, 1, 1)}
    {constant("m", 16, 5)}
    {conv("a", "x", "w1", "f32[n, 8, 6, 4]")}
    %r = Unary(fn="relu")(%a) : f32[n, 8, 6, 4]
    {conv("b", "r", "w2", "f32[n, 8, 6, 4]", 1)}
    {conv("c", "r", "w3", "f32[n, 8, 6, 4]", 3, 8)}
    %s = Binary(fn="add")(%b, %c) : f32[n, 8, 6, 4]
    %t = Concat(axis=1)(%s, %r) : f32[n, 16, 6, 4]
    %p = Pool(fn="max", kernel=(2, 2), strides=(2, 2), dilations=(1, 1), pads=((0, 0), (0, 0)), ceil_mode=false, count_include_pad=false, p=2, indices=false, column_major=false)(%t) : f32[n, 16, 3, 2]
    %g = Reduce(fn="mean", axes=(2, 3), keepdims=true)(%p) : f32[n, 16, 1, 1]
    {conv("h", "g", "w4", "f32[n, 16, 1, 1]", 1)}
    %k = Unary(fn="sigmoid")(%h) : f32[n, 16, 1, 1]
    %q = Binary(fn="mul")(%p, %k) : f32[n, 16, 3, 2]
    %e = Reduce(fn="mean", axes=(2, 3), keepdims=false)(%q) : f32[n, 16]
    %y = MatMul()(%e, %m) : f32[n, 5]
    output y = %y
"""

#: A shuffle of channels between convolutions, and an output of the region.
SHUFFLE = f"""
    input %x: f32[2, 8, 5, 3]
    {constant("w", 8, 8, 1, 1)}
    {conv("a", "x", "w", "f32[2, 8, 5, 3]", 1)}
    %b = Reshape(shape=(2, 2, 4, 5, 3))(%a) : f32[2, 2, 4, 5, 3]
    %c = Transpose(perm=(0, 2, 1, 3, 4))(%b) : f32[2, 4, 2, 5, 3]
    %d = Reshape(shape=(2, 8, 5, 3))(%c) : f32[2, 8, 5, 3]
    {conv("y", "d", "w", "f32[2, 8, 5, 3]", 1)}
    output y = %y
"""

#: As exported from a framework with channels last: transpositions around each part.
TRANSPOSED = f"""
    input %x: f32[2, 5, 3, 8]
    {constant("w", 8, 8, 1, 1)}
    {constant("scale", 8)}
    {constant("shift", 8)}
    %t = Transpose(perm=(0, 3, 1, 2))(%x) : f32[2, 8, 5, 3]
    {conv("a", "t", "w", "f32[2, 8, 5, 3]", 1)}
    %u = Transpose(perm=(0, 2, 3, 1))(%a) : f32[2, 5, 3, 8]
    %y = LayerNorm(axis=3, epsilon=1e-05, statistics=false)(%u, %scale, %shift) : f32[2, 5, 3, 8]
    output y = %y
"""

#: What leaves the region for the rows of a product, and comes back.
ATTENDED = f"""
    input %x: f32[2, 8, 4, 4]
    {constant("w", 8, 8, 1, 1)}
    {constant("m", 16, 16)}
    {conv("a", "x", "w", "f32[2, 8, 4, 4]", 1)}
    %r = Reshape(shape=(2, 8, 16))(%a) : f32[2, 8, 16]
    %p = MatMul()(%r, %m) : f32[2, 8, 16]
    %b = Reshape(shape=(2, 8, 4, 4))(%p) : f32[2, 8, 4, 4]
    %s = Binary(fn="add")(%b, %a) : f32[2, 8, 4, 4]
    {conv("c", "s", "w", "f32[2, 8, 4, 4]", 1)}
    %y = MatMul()(%c, %a) : f32[2, 8, 4, 4]
    output y = %y
"""

LOOP = f"""
    input %x: f32[1, 8, 3, 4]
    %y = Loop(trip=2, carried=1, stacked=0, types=(f32[1, 8, 3, 4],))(_, %x) : f32[1, 8, 3, 4] {{
      graph body {{
        input %i: i64[]
        input %h: f32[1, 8, 3, 4]
        {constant("w", 8, 8, 3, 3)}
        {conv("a", "h", "w", "f32[1, 8, 3, 4]")}
        %t = Unary(fn="tanh")(%a) : f32[1, 8, 3, 4]
        %always = constant bool[] [true]
        output on = %always
        output t = %t
      }}
    }}
    output y = %y
"""

TRANSPOSED_CONV = f"""
    input %x: f16[1, 16, 3, 4]
    {constant("w", 16, 8, 2, 2, dtype="f16")}
    %y = ConvTranspose(strides=(2, 2), dilations=(1, 1), pads=((0, 0), (0, 0)), output_padding=(0, 0), groups=1)(%x, %w, _) : f16[1, 8, 6, 8]
    %z = Unary(fn="relu")(%y) : f16[1, 8, 6, 8]
    output z = %z
"""

CASES = {
    "net": NET, "shuffle": SHUFFLE, "transposed": TRANSPOSED, "attended": ATTENDED, "loop": LOOP,
    "transposed_conv": TRANSPOSED_CONV,
}


def assigned(text: str) -> Graph:
    """The graph with layouts: sound, the same results, and a fixed point."""
    graph = graph_of(text)
    run_and_compare(ChannelsLast(), graph)
    once = body_of(graph)
    assert not ChannelsLast().run(graph).rewrites["weight"]
    assert body_of(graph) == once
    return graph


def layouts(graph: Graph) -> dict[str, Layout | None]:
    """The layouts of all tensors by the names of values, those of regions too."""
    values = (value for each in graphs_within(graph) for value in each.values())
    return {value.name: value.type.layout for value in values if isinstance(value.type, TensorType)}


def relayouts(graph: Graph) -> list[tuple[str, Layout | None]]:
    """The names of the values that are moved into another layout, and that layout."""
    nodes = (node for each in graphs_within(graph) for node in each.nodes)
    return [(node.operands[0].name, node.op.layout) for node in nodes if isinstance(node.op, Relayout)]


def launches(graph: Graph) -> int:
    """The launches of the program of a graph."""
    return sum(isinstance(step, Launch) for step in walk(lower(graph).steps))


LAST = Layout(((0, None), (2, None), (3, None), (1, None)))


def test_a_region_reaches_from_the_image_to_the_means() -> None:
    graph = assigned(NET)
    found = layouts(graph)
    assert [found[name] for name in ("a", "r", "b", "c", "s", "t", "p", "q")] == [LAST] * 8
    # One position has its channels together in any layout; the image is read as it is.
    assert [found[name] for name in ("x", "g", "h", "k", "e", "y")] == [None] * 6
    assert relayouts(graph) == []


def test_weights_lie_with_the_channels_that_are_summed() -> None:
    graph = assigned(NET)
    weights = {value.tensor.shape: value for value in graph.constants() if value.tensor.rank == 4}
    assert weights[8, 3, 3, 3].tensor.layout == LAST
    assert weights[8, 8, 1, 1].tensor.layout is None  # it does so anyway
    depthwise = weights[8, 1, 3, 3]
    assert depthwise.tensor.layout == Layout(((2, None), (3, None), (1, None), (0, None)))
    # In memory they are permuted, at compile time.
    stored = [c.data for c in lower(graph).constants if c.data.size == 72]
    assert depthwise.data is not None
    np.testing.assert_array_equal(stored[0], depthwise.data.transpose(2, 3, 1, 0))


def test_a_shuffle_stays_inside() -> None:
    graph = assigned(SHUFFLE)
    assert relayouts(graph) == [("x", LAST)]
    found = layouts(graph)
    assert found["d"] == LAST and found["y"] is None  # an output is stored row-major at once
    assert launches(graph) == 4


def test_transpositions_into_and_out_of_channels_last_move_nothing() -> None:
    graph = assigned(TRANSPOSED)
    assert relayouts(graph) == [] and layouts(graph)["t"] == LAST
    assert launches(graph) == launches(graph_of(TRANSPOSED))


def test_products_of_matrices_read_rows() -> None:
    graph = assigned(ATTENDED)
    assert relayouts(graph) == [("x", LAST), ("c", None), ("a", None)]
    # A Reshape reads the region as it is, and one that a region reads puts its elements there.
    found = layouts(graph)
    assert found["r"] is None and found["b"] == found["s"] == LAST


def test_bodies_of_loops_have_regions_of_their_own() -> None:
    graph = assigned(LOOP)
    assert [name for name, _ in relayouts(graph)] == ["h"]
    assert layouts(graph)["a"] == LAST and layouts(graph)["t"] is None


def test_transposed_convolutions_of_16_bits() -> None:
    graph = assigned(TRANSPOSED_CONV)
    found = layouts(graph)
    assert found["y"] == LAST and relayouts(graph) == [("x", LAST)]
    assert found["w.1"] == Layout(((1, None), (2, None), (3, None), (0, None)))


@pytest.mark.parametrize("name", CASES)
def test_programs_give_the_same_bits(name: str) -> None:
    plain, graph = graph_of(CASES[name]), graph_of(CASES[name])
    gpu_pipeline().without("channels-last").run(plain, check=True)
    gpu_pipeline().run(graph, check=True)
    assert body_of(plain) != body_of(graph)
    feeds = list(random_feeds(plain).values())
    for expected, got in zip(evaluate_program(lower(plain), feeds), evaluate_program(lower(graph), feeds)):
        assert expected.tobytes() == got.tobytes()


@pytest.mark.parametrize("name", ["net", "shuffle", "transposed_conv"])
def test_gpu_code_of_layouts(name: str) -> None:
    pytest.importorskip("triton")
    from dlc.backends.triton.backend import generate
    from dlc.backends.triton.emulate import emulate_program

    graph = graph_of(CASES[name])
    feeds: list[Any] = list(random_feeds(graph).values())
    gpu_pipeline().run(graph)
    program = lower(graph)
    for expected, got in zip(evaluate_program(program, feeds), emulate_program(generate(program), feeds)):
        limit = 1e-5 if expected.dtype == np.float32 else 4e-3
        np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), limit, limit)


def test_graphs_without_convolutions_stay() -> None:
    graph = graph_of("""
        input %x: f32[2, 3, 4]
        %t = Transpose(perm=(0, 2, 1))(%x) : f32[2, 4, 3]
        %y = Unary(fn="exp")(%t) : f32[2, 4, 3]
        output y = %y
    """)
    before = body_of(graph)
    assert not ChannelsLast().run(graph).total
    verify(graph)
    assert body_of(graph) == before


def test_layouts_that_are_row_major_are_none() -> None:
    assert channels_last((2, 3, 1, 1)) is None and channels_last((2, 1, 5, 6)) is None
    assert channels_last((2, 3, 5, 6)) == LAST
    assert permuted((1, 0), (1, 5)) is None
