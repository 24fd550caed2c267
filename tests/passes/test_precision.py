# ruff: noqa: E501 - the text of operators is long
"""Models in another float type: what is converted, what stays, and how far results move."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dlc.errors import InternalError
from dlc.ir.dtypes import DType
from dlc.ir.evaluate import evaluate
from dlc.ir.graph import Graph
from dlc.ir.verify import verify
from dlc.lowering.lower import lower
from dlc.passes.pass_base import Statistics, graphs_within
from dlc.passes.pipeline import default_pipeline
from dlc.passes.precision import ConvertPrecision
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance
from tests.helpers.passes import body_of, graph_of, random_feeds

FP16, BF16, FP32 = (ConvertPrecision(dtype) for dtype in (DType.F16, DType.BF16, DType.F32))

MASKED = """
    input %q: f32[2, 5, 8]
    input %k: f32[2, 8, 5]
    input %m: bool[2, 1, 5]
    %zero = constant f32[] [0.0]
    %least = constant f32[] [-3.4028234663852886e+38]
    %mask = Where()(%m, %zero, %least) : f32[2, 1, 5]
    %s = MatMul()(%q, %k) : f32[2, 5, 5]
    %a = Binary(fn="add")(%s, %mask) : f32[2, 5, 5]
    %p = Softmax(axis=2)(%a) : f32[2, 5, 5]
    %y = MatMul()(%p, %q) : f32[2, 5, 8]
    output y = %y
"""

LOOP = """
    input %x: f32[2, 4]
    input %w: f32[4, 4]
    %y = Loop(trip=3, carried=1, stacked=0, types=(f32[2, 4],))(_, %x, %w) : f32[2, 4] {
      graph body {
        input %i: i64[]
        input %h: f32[2, 4]
        input %v: f32[4, 4]
        %c = constant f32[4, 4] [0.5, 0.0, 0.0, 0.1, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.25, 0.0, 0.5]
        %s = MatMul()(%h, %v) : f32[2, 4]
        %t = Unary(fn="tanh")(%s) : f32[2, 4]
        %m = MatMul()(%t, %c) : f32[2, 4]
        %always = constant bool[] [true]
        output on = %always
        output m = %m
      }
    }
    %z = Unary(fn="relu")(%y) : f32[2, 4]
    output z = %z
"""

BOXES = """
    input %x: f32[1, 6, 3]
    input %scores: f32[1, 1, 6]
    %w = constant f32[3, 4] [1.0, 0.5, 0.25, 0.125, 0.1, 0.2, 0.3, 0.4, 0.7, 0.6, 0.5, 0.4]
    %size = constant f32[] [1000.0]
    %overlap = constant f32[] [0.5]
    %least = constant f32[] [0.0]
    %r = Unary(fn="relu")(%x) : f32[1, 6, 3]
    %deltas = MatMul()(%r, %w) : f32[1, 6, 4]
    %boxes = Binary(fn="mul")(%deltas, %size) : f32[1, 6, 4]
    %kept, %count = NonMaxSuppression(limit=3, center_point_box=false)(%boxes, %scores, %overlap, %least) : i64[1, 1, 3], i64[1, 1]
    output kept = %kept
"""

PLACES = """
    input %x: f32[8, 4]
    input %at: f32[5]
    %three = constant f32[] [3.0]
    %w = constant f32[4, 2] [1.0, 0.5, 0.25, 0.125, 0.1, 0.2, 0.3, 0.4]
    %scaled = Binary(fn="mul")(%at, %three) : f32[5]
    %floor = Unary(fn="abs")(%scaled) : f32[5]
    %low = Clip(low=0.0, high=7.0)(%floor) : f32[5]
    %i = Cast(to=i64, saturate=true, round_mode="up")(%low) : i64[5]
    %rows = Gather(axis=0)(%x, %i) : f32[5, 4]
    %y = MatMul()(%rows, %w) : f32[5, 2]
    output y = %y
"""

DELICATE = """
    input %x: f32[3, 4]
    %w = constant f32[4, 4] [1.0, 0.5, 0.25, 0.125, 0.1, 0.2, 0.3, 0.4, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.9]
    %scale = constant f32[4] [1.0, 0.5, 0.25, 2.0]
    %shift = constant f32[4] [0.1, 0.2, 0.3, 0.4]
    %tiny = constant f32[] [1e-12]
    %m = MatMul()(%x, %w) : f32[3, 4]
    %n = LayerNorm(axis=1, epsilon=1e-05, statistics=false)(%m, %scale, %shift) : f32[3, 4]
    %p = Softmax(axis=1)(%n) : f32[3, 4]
    %square = Binary(fn="mul")(%m, %m) : f32[3, 4]
    %e = Unary(fn="exp")(%m) : f32[3, 4]
    %sum = Reduce(fn="sum", axes=(1,), keepdims=true)(%m) : f32[3, 1]
    %safe = Binary(fn="add")(%p, %tiny) : f32[3, 4]
    output p = %p
    output square = %square
    output e = %e
    output sum = %sum
    output safe = %safe
"""

CASES = {"masked": MASKED, "loop": LOOP, "boxes": BOXES, "places": PLACES, "delicate": DELICATE}


def converted(text: str, step: ConvertPrecision, feeds: Mapping[str, Any] | None = None) -> tuple[Graph, Statistics]:
    """The graph after `step`: sound, of the same interface, within the tolerance of 16 bits, and a fixed point."""
    graph = graph_of(text)
    before = [(value.name, value.type) for value in graph.inputs], [value.type for value in graph.outputs]
    given = random_feeds(graph) | dict(feeds or {})
    expected = evaluate(graph, given)
    statistics = step.run(graph)
    verify(graph)
    assert before == ([(value.name, value.type) for value in graph.inputs], [value.type for value in graph.outputs])
    got = evaluate(graph, given)
    kind = np.dtype(np.float16) if step.dtype is DType.F32 else step.dtype.numpy
    for name, array in expected.items():
        wanted = tolerance(kind if array.dtype.kind == "f" else array.dtype, Work.MODEL)
        assert compare_arrays(name, got[name], array, wanted).agrees, name
    text = body_of(graph)
    step.run(graph)
    assert body_of(graph) == text
    return graph, statistics


def types_of(graph: Graph) -> dict[str, DType]:
    """The element types of all results, those of regions too, by the names of values."""
    return {
        value.name: value.tensor.dtype for each in graphs_within(graph) for node in each.nodes for value in node.outputs
    }


def test_products_and_what_follows_are_narrow() -> None:
    graph, statistics = converted("""
        input %x: f32[2, 2]
        %w = constant f32[2, 2] [1.0, 2.0, 3.0, 0.1]
        %y = MatMul()(%x, %w) : f32[2, 2]
        %z = Unary(fn="relu")(%y) : f32[2, 2]
        %t = MatMul()(%z, %w) : f32[2, 2]
        output t = %t
    """, FP16)
    assert body_of(graph) == body_of(graph_of("""
        input %x: f32[2, 2]
        %x.1 = Cast(to=f16, saturate=true, round_mode="up")(%x) : f16[2, 2]
        %w.1 = constant f16[2, 2] [1.0, 2.0, 3.0, 0.1]
        %y = MatMul()(%x.1, %w.1) : f16[2, 2]
        %z = Unary(fn="relu")(%y) : f16[2, 2]
        %t = MatMul()(%z, %w.1) : f16[2, 2]
        %t.1 = Cast(to=f32, saturate=true, round_mode="up")(%t) : f32[2, 2]
        output t = %t.1
    """))
    assert dict(statistics.rewrites) == {"f16": 3, "constant": 1, "cast": 2}


@pytest.mark.parametrize("step", [FP16, BF16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_results_agree_within_16_bits(name: str, step: ConvertPrecision) -> None:
    converted(CASES[name], step)


def test_norms_follow_and_delicate_results_stay() -> None:
    types = types_of(converted(DELICATE, FP16)[0])
    assert [types[name] for name in ("m", "n", "p")] == [DType.F16] * 3
    assert [types[name] for name in ("square", "e", "sum")] == [DType.F32] * 3
    assert types["safe"] is DType.F32  # 1e-12 would be 0
    assert types_of(converted(DELICATE, BF16)[0])["safe"] is DType.BF16


def test_a_mask_beyond_the_range_stays() -> None:
    """Rows that are masked throughout stay what they were: no -inf, and so no NaN, comes in."""
    graph, _ = converted(MASKED, FP16, {"m": np.zeros((2, 1, 5), np.bool_)})
    types = types_of(graph)
    assert types["s"] is DType.F16 and types["mask"] is types["a"] is types["p"] is DType.F32


def test_attention_adds_its_mask_in_f32() -> None:
    graph, _ = converted("""
        input %q: f32[1, 2, 3, 4]
        input %mask: f32[1, 1, 1, 3]
        %y = Attention(scale=0.5, causal=false, softcap=0.0, qk_output=none, left_window=-1, right_window=-1)(%q, %q, %q, %mask, _, _, _) : f32[1, 2, 3, 4]
        output y = %y
    """, FP16, {"mask": np.float32([-3.4e38, 0, 0]).reshape(1, 1, 1, 3)})
    (attention,) = [node for node in graph.nodes if node.op.name == "Attention"]
    assert [value.tensor.dtype for value in attention.operands] == [DType.F16] * 3 + [DType.F32]


def test_weights_beyond_the_range_decline() -> None:
    text = """
        input %x: f32[2, 2]
        %w = constant f32[2, 2] [1.0, 2.0, 100000.0, 0.1]
        %y = MatMul()(%x, %w) : f32[2, 2]
        output y = %y
    """
    graph, statistics = converted(text, FP16)
    assert body_of(graph) == body_of(graph_of(text))
    assert "does not hold" in str(statistics.declines[0])
    assert types_of(converted(text, BF16)[0])["y"] is DType.BF16


def test_boxes_and_places_stay() -> None:
    types = types_of(converted(BOXES, FP16)[0])
    assert types["deltas"] is types["boxes"] is DType.F32
    types = types_of(converted(PLACES, FP16)[0])
    assert types["scaled"] is types["low"] is DType.F32 and types["y"] is DType.F16


def test_angles_stay() -> None:
    """The product of positions and frequencies sums nothing: it is no contraction, and its digits count."""
    types = types_of(converted("""
        input %positions: f32[2, 1]
        input %x: f32[2, 3]
        %frequencies = constant f32[1, 3] [1.0, 0.1, 0.01]
        %w = constant f32[3, 2] [1.0, 2.0, 3.0, 0.1, 0.2, 0.3]
        %angles = MatMul()(%positions, %frequencies) : f32[2, 3]
        %c = Unary(fn="cos")(%angles) : f32[2, 3]
        %y = MatMul()(%c, %w) : f32[2, 2]
        output y = %y
    """, FP16, {"positions": np.float32([[4097], [9999]])})[0])
    assert types["angles"] is types["c"] is DType.F32 and types["y"] is DType.F16


def test_bodies_of_loops_keep_their_interface() -> None:
    graph, _ = converted(LOOP, FP16)
    types = types_of(graph)
    assert types["s"] is types["t"] is types["m"] is DType.F16
    assert types["y"] is types["z"] is DType.F32
    (loop,) = [node for node in graph.nodes if node.regions]
    assert [value.tensor.dtype for value in loop.regions[0].outputs] == [DType.BOOL, DType.F32]
    # The pipeline then converts what does not change in the loop before it.
    graph = graph_of(LOOP)
    default_pipeline(precision="fp16").run(graph, check=True)
    (loop,) = [node for node in graph.nodes if node.regions]
    assert [value.tensor.dtype for value in loop.operands] == [DType.F32, DType.F16]


def test_quantized_weights_are_narrow_and_quantized_products_stay() -> None:
    text = """
        input %x: f32[2, 4]
        %q = constant i8[4, 2] [1, 2, 3, 4, 5, 6, 7, 8]
        %scale = constant f32[] [0.1]
        %w = DequantizeLinear(axis=0, block_size=0, to=f32)(%q, %scale, _) : f32[4, 2]
        {operand}
        %y = MatMul()(%x{name}, %w) : f32[2, 2]
        output y = %y
    """
    types = types_of(converted(text.format(operand="", name=""), FP16)[0])
    assert types["w"] is types["y"] is DType.F16
    quantized = """%i = QuantizeLinear(axis=0, block_size=0, to=i8, saturate=true, precision=none)(%x, %scale, _) : i8[2, 4]
        %xq = DequantizeLinear(axis=0, block_size=0, to=f32)(%i, %scale, _) : f32[2, 4]"""
    types = types_of(converted(text.format(operand=quantized, name="q"), FP16)[0])
    assert types["w"] is types["xq"] is types["y"] is DType.F32


#: A layer in f16, with a constant of more than the size that is folded in any case.
NARROW = f"""
    input %x: f16[3, 64]
    %w = constant f16[64, 48] {[0.25] * 64 * 48}
    %b = constant f16[48] {[0.5] * 48}
    %m = MatMul()(%x, %w) : f16[3, 48]
    %a = Binary(fn="add")(%m, %b) : f16[3, 48]
    %wide = Cast(to=f32, saturate=true, round_mode="up")(%a) : f32[3, 48]
    %n = Cast(to=f16, saturate=true, round_mode="up")(%wide) : f16[3, 48]
    %y = Unary(fn="tanh")(%n) : f16[3, 48]
    output y = %y
"""


def test_to_f32_weights_stay_narrow() -> None:
    graph = graph_of(NARROW)
    x = {"x": np.random.default_rng(0).standard_normal((3, 64)).astype(np.float16)}
    expected = evaluate(graph, x)["y"]
    default_pipeline(precision="fp32").run(graph, check=True)
    assert {name: dtype for name, dtype in types_of(graph).items() if name != "y.1"} == dict.fromkeys(
        types_of(graph).keys() - {"y.1"}, DType.F32)
    assert [value.tensor.dtype for value in (*graph.inputs, *graph.outputs)] == [DType.F16, DType.F16]
    np.testing.assert_allclose(evaluate(graph, x)["y"].astype(np.float32), expected.astype(np.float32), atol=2e-3)
    (weights,) = [value for value in graph.constants() if value.tensor.rank == 2]
    assert weights.tensor.dtype is DType.F16
    # Lowering reads the weights where they are multiplied: no kernel converts them into memory.
    program = lower(graph)
    contracting = [kernel for kernel in program.kernels if "contract" in str(kernel.body).lower()]
    assert [[p.type.dtype for p in kernel.params if p.constant and p.type.rank == 2] for kernel in contracting] == [[DType.F16]]


def test_to_f32_is_a_fixed_point() -> None:
    graph = graph_of(NARROW)
    FP32.run(graph)
    text = body_of(graph)
    FP32.run(graph)
    assert body_of(graph) == text


def test_other_types_are_refused() -> None:
    with pytest.raises(InternalError, match="not to i8"):
        ConvertPrecision(DType.I8)


@pytest.mark.parametrize("level", range(3))
def test_every_level_converts(level: int) -> None:
    graph = graph_of(DELICATE)
    default_pipeline(level, precision="bf16").run(graph, check=True)
    assert DType.BF16 in types_of(graph).values()
