"""Attention in one launch or two, under Triton's interpreter, against operators and kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

pytest.importorskip("triton")

from dlc.backends.triton.binary import compile_function
from dlc.backends.triton.emulate import emulate_kernel, emulate_program
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.resources import measure
from dlc.backends.triton.select import GpuKernel, emit_kernel
from dlc.backends.triton.templates import attention
from dlc.backends.triton.templates.attention_config import Config
from dlc.backends.triton.templates.attention_form import Form
from dlc.frontend.onnx.importer import import_model
from dlc.ir.dims import Symbol, evaluate
from dlc.ir.ops.attention import Attention
from dlc.lowering.draft import Names
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.kernel import Access, Kernel
from dlc.lowering.parse import parse
from dlc.lowering.program_evaluate import evaluate_program
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.verify import verify_kernel
from dlc.passes.pipeline import default_pipeline
from dlc.target import GpuTarget, resolve_gpu
from dlc.verify.tolerances import Work
from tests.helpers.gpu_nodes import GpuNode, assert_agrees, gpu_program, templates
from tests.lowering.kernels import OneNode, poisoned

Array: TypeAlias = "np.ndarray[Any, Any]"
BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float32), np.dtype(np.float16), BF16]
SM_80, SM_90 = resolve_gpu("cuda:sm_80"), resolve_gpu("cuda:sm_90")
ONE, TWO = ["attention"], ["attention_part", "attention_combine"]
#: Where the number of queries is not known: one of the two ways has no programs.
EITHER = [*ONE, *TWO]
GOLDEN = Path(__file__).parents[2] / "lowering" / "golden" / "grouped_query_attention.txt"


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Numbers of a normal distribution."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32).astype(dtype)


def heads(
    queries: int,
    keys: int,
    *,
    batch: int = 1,
    count: int = 2,
    key_heads: int = 1,
    width: int = 16,
    values: int = 16,
    dtype: Any = np.float32,
) -> list[Array]:
    """q, k and v."""
    return [
        draw(batch, count, queries, width, seed=1, dtype=dtype),
        draw(batch, key_heads, keys, width, seed=2, dtype=dtype),
        draw(batch, key_heads, keys, values, seed=3, dtype=dtype),
    ]


def check(op: Attention, *operands: Array | None, calls: Sequence[str] = ONE, **options: Any) -> GpuNode:
    """Generate, interpret, compare; the last calls are those of attention."""
    node = GpuNode(op, *operands, **options)
    assert node.templates[-len(calls) :] == list(calls)
    assert_agrees(node.run(), node.expected(), Work.CONTRACTION)
    return node


# --- sizes and types


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("queries, keys", [(127, 63), (128, 64), (129, 129), (1, 1), (65, 17)])
def test_sizes_around_blocks(dtype: Any, causal: bool, queries: int, keys: int) -> None:
    check(Attention(0.25, causal), *heads(queries, keys, key_heads=2, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width, values", [(1, 1), (5, 20), (64, 40), (80, 33), (130, 16), (16, 257)])
def test_heads_of_any_size(dtype: Any, width: int, values: int) -> None:
    check(Attention(0.2, causal=True), *heads(19, 70, width=width, values=values, dtype=dtype))


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BF16], ids=str)
def test_extents_at_run_time(dtype: Any) -> None:
    node = check(Attention(0.25, causal=True), *heads(31, 37, dtype=dtype), symbolic=(31, 37), calls=EITHER)
    for queries, keys in [(1, 1), (129, 64), (5, 200), (17, 520), (3, 520)]:
        operands = heads(queries, keys, dtype=dtype)
        expected = GpuNode(Attention(0.25, causal=True), *operands).expected()
        assert_agrees(node.run(operands), expected, Work.CONTRACTION)
    (nothing,) = node.run(heads(0, 3, dtype=dtype))
    assert nothing.size == 0
    (zero,) = node.run(heads(3, 0, dtype=dtype))
    assert not zero.any()


def test_operands_of_different_types() -> None:
    """A mask of other floats; float64 is left to other templates."""
    operands = heads(17, 40, dtype=np.float16)
    check(Attention(0.25), *operands, draw(17, 40, dtype=np.float16))
    node = GpuNode(Attention(0.25), *heads(17, 40, dtype=np.float64))
    assert "attention" not in node.templates


# --- formulas and masks


@pytest.mark.parametrize(
    "op",
    [
        Attention(0.3, softcap=2.0),
        Attention(1.0, causal=True, softcap=0.7),
        Attention(0.3, left_window=3),
        Attention(0.3, right_window=0),
        Attention(0.3, causal=True, left_window=40),
        Attention(0.3, left_window=70, right_window=20),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("queries, keys", [(20, 150), (150, 20)])
def test_formulas_and_windows(op: Attention, dtype: Any, queries: int, keys: int) -> None:
    check(op, *heads(queries, keys, dtype=dtype))


@pytest.mark.parametrize("shape", [(20, 75), (1, 75), (20, 1), (4, 1, 75), (2, 1, 20, 75), (75,)])
@pytest.mark.parametrize("causal", [False, True])
def test_masks(shape: tuple[int, ...], causal: bool) -> None:
    operands = heads(20, 75, batch=2, count=4, key_heads=2)
    check(Attention(0.3, causal), *operands, draw(*shape, seed=7) > -0.5)
    check(Attention(0.3, causal), *operands, draw(*shape, seed=8))


@pytest.mark.parametrize("op", [Attention(0.3), Attention(0.3, causal=True), Attention(0.3, left_window=3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_lengths_of_padded_keys(op: Attention, dtype: Any) -> None:
    operands = heads(6, 140, batch=5, dtype=dtype)
    check(op, *operands, None, None, None, np.array([0, 1, 70, 140, 6], np.int64))


@pytest.mark.parametrize("count, key_heads", [(4, 4), (4, 1), (6, 2)])
@pytest.mark.parametrize("symbolic", [(), (37, 41)])
def test_heads_that_share_keys(count: int, key_heads: int, symbolic: tuple[int, ...]) -> None:
    operands = heads(37, 41, count=count, key_heads=key_heads, dtype=np.float16)
    check(Attention(0.3, causal=True), *operands, symbolic=symbolic, calls=EITHER if symbolic else ONE)


@pytest.mark.parametrize("past", [1, 70])
@pytest.mark.parametrize("queries", [1, 7])
def test_keys_after_a_past(past: int, queries: int) -> None:
    held = [draw(1, 1, past, 16, seed=4), draw(1, 1, past, 16, seed=5)]
    check(Attention(0.3, causal=True), *heads(queries, queries), None, *held)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("keys", [20, 700])
def test_nothing_visible_gives_zeros(dtype: Any, keys: int) -> None:
    operands = heads(9, keys, dtype=dtype)
    mask = draw(9, keys, seed=6) > 0
    mask[3:5] = False
    for hidden in (mask, np.where(mask, 0, -np.inf).astype(dtype)):
        node = check(Attention(0.3), *operands, hidden, calls=ONE if keys < 512 else TWO)
        (y,) = node.run()
        assert not y[:, :, 3:5].any() and y[:, :, 5].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_bad_number_stays_in_its_row(dtype: Any) -> None:
    operands = heads(9, 100, dtype=dtype)
    operands[0][0, 1, 4, 2], operands[0][0, 0, 0, 0] = np.nan, np.inf
    (y,) = GpuNode(Attention(0.3), *operands).run()
    bad = np.isnan(y).any(axis=-1)
    assert bad[0, 1, 4] and bad[0, 0, 0] and bad.sum() == 2


@pytest.mark.parametrize("op", [Attention(0.3, causal=True), Attention(0.3, left_window=10, right_window=9)])
def test_keys_that_nobody_sees_are_not_read(op: Attention) -> None:
    """They would make everything NaN."""
    operands = heads(200, 700, count=1, dtype=np.float16)
    (expected,) = GpuNode(op, *operands).expected()
    for operand in operands[1:]:
        operand[:, :, 320:] = np.nan
    (y,) = GpuNode(op, *operands).run()
    assert_agrees([y], [expected], Work.CONTRACTION)


@pytest.mark.parametrize("output", [0, 3])
def test_scores_that_are_results_are_left_to_other_templates(output: int) -> None:
    node = GpuNode(Attention(0.3, qk_output=output), *heads(17, 20))
    assert "attention" not in node.templates
    assert_agrees(node.run(), node.expected(), Work.CONTRACTION)


# --- few queries


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("queries, keys", [(1, 512), (3, 801)])
def test_keys_are_divided_among_programs(dtype: Any, queries: int, keys: int) -> None:
    operands = heads(queries, keys, count=2, values=24, dtype=dtype)
    check(Attention(0.3, causal=True), *operands, calls=TWO)
    bias = draw(1, 2, queries, keys, dtype=dtype)
    node = check(Attention(0.3), *operands, bias, calls=TWO)
    (first,), (second,) = node.run(), node.run()
    assert first.tobytes() == second.tobytes()


def test_divided_keys_of_any_number() -> None:
    op = Attention(0.3)
    node = check(op, *heads(1, 37), symbolic=(37,), calls=TWO)
    for keys in (1, 65):
        operands = heads(1, keys)
        assert_agrees(node.run(operands), GpuNode(op, *operands).expected(), Work.CONTRACTION)
    (zero,) = node.run(heads(1, 0))
    assert not zero.any()


def test_a_launch_divides_its_keys_or_not() -> None:
    node = check(Attention(0.3), *heads(9, 37), symbolic=(9, 37), calls=EITHER)
    (kernel,) = node.code.kernels
    assert isinstance(kernel, GpuKernel)
    queries, keys = (Symbol(name) for name in node.one.env)
    # Both heads share their keys.
    for few, many, divides in [(8, 512, True), (9, 512, False), (8, 511, False), (1, 10000, True)]:
        numbers = {queries.name: few, keys.name: many}
        programs = [evaluate(call.function.grid[0], numbers) for call in kernel.calls]
        assert [count > 0 for count in programs] == [not divides, divides, divides]


# --- the kernel language


def emulated(
    kernel: Kernel, code: GpuKernel, arrays: Mapping[str, Array], symbols: Mapping[str, int]
) -> tuple[list[Array], list[Array]]:
    """What the functions and the evaluator store."""
    verify_kernel(kernel)
    results: tuple[list[Array], list[Array]] = ([], [])
    for result, is_code in zip(results, (True, False)):
        held = {
            p.name: arrays[p.name].copy() if p.name in arrays else poisoned(p.type, symbols)
            for p in kernel.params
        }
        if is_code:
            emulate_kernel(code, {name: array.reshape(-1) for name, array in held.items()}, symbols)
        else:
            evaluate_kernel(kernel, held, symbols)
        result += [held[p.name] for p in kernel.params if p.access is not Access.READ]
    return results


def contents(kernel: Kernel, symbols: Mapping[str, int]) -> dict[str, Array]:
    """Numbers for what is read, and conditions that are met by most points."""
    arrays = {}
    for number, param in enumerate(kernel.params):
        shape = tuple(evaluate(extent, symbols) for extent in param.type.shape)
        if param.access is Access.READ:
            array = draw(*shape, seed=number)
            kind = param.type.dtype.numpy
            arrays[param.name] = array > -0.7 if kind == np.bool_ else array.astype(kind)
    return arrays


def configured(kernel: Kernel, target: GpuTarget = SM_90, **choices: int) -> GpuKernel:
    """The functions with other block sizes than those that would be chosen."""
    form = attention.match(kernel)
    assert isinstance(form, Form), form
    config = dataclasses.replace(attention.candidates(form, target)[0], **choices)
    written = attention.emit(kernel, form, target, config)
    if isinstance(written, Call):
        return GpuKernel(kernel, (written,), ())
    return GpuKernel(kernel, written.calls, written.workspaces)


@pytest.mark.parametrize("choices", [{}, {"rows": 16, "keys": 16}, {"splits": 4}, {"keys": 64, "splits": 2}])
@pytest.mark.parametrize("past, new", [(0, 17), (70, 1), (63, 2), (3, 5)])
def test_a_past_that_is_read_in_place(choices: dict[str, int], past: int, new: int) -> None:
    kernel = parse(GOLDEN.read_text())
    symbols = {"batch": 2, "new": new, "past": past, "queries": 5}
    arrays = contents(kernel, symbols)
    arrays["mask"][0, 0, 1] = False
    got, expected = emulated(kernel, configured(kernel, **choices), arrays, symbols)
    assert_agrees(got, expected, Work.CONTRACTION)


PLAIN = """
kernel plain {
  read q: f16[3, 40, 24]
  read k: f16[3, 90, 24]
  read v: f16[3, 90, 16]
  read sink: f32[3]
  read gain: f32[3, 90]
  read seen: bool[40, 90]
  write y: f16[3, 40, 16]
  axis h: 3
  axis i: 40
  axis j: 90
  axis d: 24 reduce
  axis e: 16
  for h, i, j: s: f32 = contract over d of f32(q[h, i, d]) * 0.5, f32(k[h, j, d]) * gain[h, j] with batch(h) rows(i) columns(j)
  for h, i, j: x: f32 = SCORE
  for h, i: top: f32 = max over j of x[h, i, j]
  for h, i, j: w: f32 = exp(x[h, i, j] - SHIFT)
  for h, i: total: f32 = sum over j of w[h, i, j]
  for h, i, e: mixed: f32 = contract over j of w[h, i, j], f32(v[h, j, e]) with batch(h) rows(i) columns(e)
  for h, i, e: y[h, i, e] = f16(mixed[h, i, e] / (total[h, i] + EXTRA))
}
"""  # noqa: E501
SCORES = {
    "plain": "s[h, i, j]",
    "seen": "select(seen[i, j], s[h, i, j], -inf)",
    "causal": "select(iota(i) + 20 >= iota(j), s[h, i, j], -inf)",
    "strictly": "select(and(iota(j) < iota(i), iota(j - 3) > iota(i) - 20), s[h, i, j] + gain[h, j], -inf)",
}


def plain(score: str, shift: str = "top[h, i]", extra: str = "0.0") -> Kernel:
    text = PLAIN.replace("SCORE", SCORES[score]).replace("SHIFT", shift).replace("EXTRA", extra)
    lines = text.splitlines()
    unused = [line for line in lines if line.startswith("  read") and f"{line.split()[1][:-1]}[" not in text]
    return parse("\n".join(line for line in lines if line not in unused))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("shift", ["top[h, i]", "max(top[h, i], sink[h])", "max(top[h, i], -1e+30)"])
@pytest.mark.parametrize("choices", [{}, {"splits": 2}])
def test_softmax_of_any_shift(score: str, shift: str, choices: dict[str, int]) -> None:
    """A row that sees nothing is what the kernel says: NaN where nothing guards it, too."""
    extra = "exp(sink[h] - 1.0)" if "sink" in shift else "0.0"
    kernel = plain(score, shift, extra)
    arrays = contents(kernel, {})
    if "seen" in arrays:
        arrays["seen"][7] = False
    got, expected = emulated(kernel, configured(kernel, **choices), arrays, {})
    assert np.isnan(expected[0]).any() == (score in ("seen", "strictly") and "sink" not in shift)
    assert_agrees(got, expected, Work.CONTRACTION)


def test_narrow_operands_stay_narrow() -> None:
    """Factors are taken out of them."""
    (call,) = emit_kernel(plain("causal")).calls
    assert "tl.float16" in call.function.text and "ieee" not in call.function.text


def test_what_is_no_attention() -> None:
    text = PLAIN.replace("SCORE", SCORES["plain"]).replace("EXTRA", "0.0")
    for shift, changed in [
        ("0.5 * s[h, i, j]", text),
        ("top[h, i]", text.replace("/ (", "/ (s[h, i, 3] + ")),
    ]:
        calls = emit_kernel(parse(changed.replace("SHIFT", shift))).calls
        assert "attention" not in [call.template for call in calls]


# --- models


def model(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, Sequence[Any]], dtype: int
) -> onnx.ModelProto:
    """A model of opset 23 or 24 with what the nodes need."""
    infos = [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()]
    graph = helper.make_graph(nodes, "attention", infos, [onnx.ValueInfoProto(name="y")])
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=11)


def check_model(proto: onnx.ModelProto, feeds: Mapping[str, Array], launches: int = 1) -> None:
    """The model's attention is one launch; values agree with the program's meaning."""
    imported = import_model(proto)
    default_pipeline().without("assign-layouts").run(imported.graph)
    code = gpu_program(imported.graph)
    assert templates(code).count("attention") == launches
    arrays = [feeds[spec.name] for spec in imported.inputs]
    expected = evaluate_program(code.program, arrays)
    assert_agrees(emulate_program(code, arrays), expected, Work.CONTRACTION)


SHAPES: dict[str, tuple[Any, ...]] = {"q": ("b", "s", 48), "k": ("b", "t", 48), "v": ("b", "t", 48)}
FEEDS = {"q": (2, 21, 48), "k": (2, 70, 48), "v": (2, 70, 48)}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_models_of_one_operator(dtype: Any) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    feeds = {name: draw(*shape, seed=n, dtype=dtype) for n, (name, shape) in enumerate(FEEDS.items())}
    standard = helper.make_node(
        "Attention", ["q", "k", "v"], ["y"], q_num_heads=3, kv_num_heads=3, is_causal=1
    )
    contrib = helper.make_node(
        "MultiHeadAttention", ["q", "k", "v"], ["y"], domain="com.microsoft", num_heads=3
    )
    for node in (standard, contrib):
        check_model(model([node], SHAPES, kind), feeds)


def test_a_chain_of_an_exporter() -> None:
    shapes = {"q": (2, 3, 21, 16), "k": (2, 3, 70, 16), "v": (2, 3, 70, 16), "mask": (2, 1, 1, 70)}
    nodes = [
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["q", "kt"], ["a"]),
        helper.make_node("Add", ["a", "mask"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    feeds = {name: draw(*shape, seed=n) for n, (name, shape) in enumerate(shapes.items())}
    check_model(model(nodes, shapes, onnx.TensorProto.FLOAT), feeds)


# --- binaries


def compiled(dtype: Any, target: GpuTarget, width: int, queries: int, biased: bool) -> list[Any]:
    """The resources of the functions, the keys being any number."""
    operands: list[Array | None] = [*heads(queries, 77, width=width, values=width, dtype=dtype)]
    if biased:
        operands.append(draw(queries, 77, dtype=dtype))
    one = OneNode(Attention(0.125, causal=True), operands, symbolic=(77,))
    kernel = lower_node(one.node, Names(one.env)).kernel
    calls = emit_kernel(kernel, target).calls
    return [measure(compile_function(call.function, target)) for call in calls]


@pytest.mark.parametrize("target", [SM_80, SM_90], ids=lambda t: t.name)
@pytest.mark.parametrize(
    "dtype, width, queries, biased",
    [
        (np.float16, 64, 1000, False),
        (BF16, 128, 1000, False),
        (BF16, 128, 1000, True),
        (np.float16, 256, 1000, False),
        (BF16, 128, 1, True),
        (np.float32, 64, 1000, False),
    ],
    ids=str,
)
def test_binaries_use_matrix_instructions_and_do_not_spill(
    target: GpuTarget, dtype: Any, width: int, queries: int, biased: bool
) -> None:
    found = compiled(dtype, target, width, queries, biased)
    assert all(r.spill_bytes == 0 and r.shared_bytes <= target.shared_bytes for r in found)
    assert not any("wgmma" in note for r in found for note in r.notes)
    if dtype != np.float32:
        assert (found[0].wgmma if target.has_wgmma and queries > 64 else found[0].mma) > 0
        assert found[0].async_copies > 0


def test_candidates_fit_the_gpu() -> None:
    """Every one covers its tile with warps, and the first is taken."""
    kernel = plain("causal")
    form = attention.match(kernel)
    assert isinstance(form, Form)
    for target in (SM_80, SM_90):
        found = attention.candidates(form, target)
        assert found and len(set(found)) == len(found)
        assert all(isinstance(config, Config) and config.rows >= 16 and config.keys >= 16 for config in found)
