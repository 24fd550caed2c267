"""Attention: values against the operator and onnxruntime, odd sizes, equal bits however the work is cut."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

import dlc
from dlc.ir.ops.attention import Attention
from dlc.target import CpuTarget, native
from dlc.verify.tolerances import Work
from tests.backends.cpu.templates.node_runner import (
    TARGETS,
    CompiledNode,
    assert_same_bits,
    each_target,
)
from tests.helpers.onnx_cases import assert_agrees, run_onnxruntime

Array = NDArray[Any]
Operands = list["Array | None"]

#: Extents of q, k and v that may be symbols: batch, queries, keys.
SYMBOLS = {
    (0, 0): "batch", (1, 0): "batch", (2, 0): "batch",
    (0, 2): "queries", (1, 2): "keys", (2, 2): "keys",
}  # fmt: skip


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Numbers of a normal distribution."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Extents of the operands."""

    queries: int
    keys: int
    batch: int = 2
    heads: int = 4
    key_heads: int = 2
    width: int = 16
    values: int = 16

    def operands(self) -> Operands:
        """q, k and v."""
        return [
            draw(self.batch, self.heads, self.queries, self.width, seed=1),
            draw(self.batch, self.key_heads, self.keys, self.width, seed=2),
            draw(self.batch, self.key_heads, self.keys, self.values, seed=3),
        ]


def check(op: Attention, operands: Operands, target: CpuTarget, template: str = "attention") -> list[Array]:
    """Compile for exactly these operands, run, compare; the last kernel is the template's."""
    node = CompiledNode(op, operands, target)
    assert node.templates[-1] == template
    return node.check(operands, Work.CONTRACTION)


# --- sizes


@each_target
def test_all_extents_at_run_time(target: CpuTarget) -> None:
    op = Attention(0.25)
    node = CompiledNode(op, Sizes(3, 5).operands(), target, SYMBOLS)
    assert node.templates == ["attention"]
    for batch, queries, keys in [
        (1, 1, 1), (2, 1, 40), (1, 2, 16), (3, 3, 17), (1, 4, 31), (2, 5, 48), (1, 7, 100), (1, 8, 64),
        (1, 9, 65), (2, 70, 130), (1, 140, 33),
    ]:  # fmt: skip
        node.check(Sizes(queries, keys, batch).operands(), Work.CONTRACTION)


@each_target
@pytest.mark.parametrize("width, values", [(1, 1), (5, 3), (16, 40), (40, 16), (64, 64), (80, 33)])
@pytest.mark.parametrize("queries, keys", [(1, 33), (6, 20), (13, 50)])
def test_fixed_extents(target: CpuTarget, width: int, values: int, queries: int, keys: int) -> None:
    check(Attention(0.3), Sizes(queries, keys, width=width, values=values).operands(), target)


@pytest.mark.parametrize("heads, key_heads", [(4, 4), (4, 1), (6, 2), (3, 3)])
@pytest.mark.parametrize("queries", [1, 4, 11])
def test_heads_that_share_keys(heads: int, key_heads: int, queries: int) -> None:
    check(Attention(0.3, causal=True), Sizes(queries, 21, 2, heads, key_heads).operands(), native())


@pytest.mark.parametrize("sizes", [Sizes(0, 3), Sizes(3, 0), Sizes(3, 4, batch=0), Sizes(0, 0)])
def test_nothing_to_do(sizes: Sizes) -> None:
    node = CompiledNode(Attention(0.3), Sizes(3, 5).operands(), native(), SYMBOLS)
    node.check(sizes.operands(), Work.CONTRACTION)


@each_target
@pytest.mark.parametrize("causal", [False, True])
def test_more_keys_than_a_block(target: CpuTarget, causal: bool) -> None:
    """With heads of 1024 features a block has 128 keys, so that three blocks are combined."""
    sizes = Sizes(5, 300, 1, 2, 1, width=1024, values=24)
    check(Attention(0.05, causal), sizes.operands(), target)
    symbolic = CompiledNode(Attention(0.05, causal), sizes.operands(), target, SYMBOLS)
    for keys in (1, 128, 129, 300):
        symbolic.check(dataclasses.replace(sizes, keys=keys).operands(), Work.CONTRACTION)


# --- options


@each_target
@pytest.mark.parametrize(
    "op",
    [
        Attention(0.3, causal=True),
        Attention(0.3, softcap=2.0),
        Attention(1.0, causal=True, softcap=0.7),
        Attention(0.3, left_window=3),
        Attention(0.3, right_window=0),
        Attention(0.3, causal=True, left_window=4),
        Attention(0.3, left_window=2, right_window=1),
    ],
)
@pytest.mark.parametrize("queries, keys", [(20, 20), (5, 37), (37, 5), (1, 1)])
def test_formulas_and_windows(target: CpuTarget, op: Attention, queries: int, keys: int) -> None:
    check(op, Sizes(queries, keys).operands(), target)


MASKS = [(20, 35), (1, 35), (20, 1), (4, 1, 35), (2, 1, 20, 35), (2, 4, 20, 35), (35,)]


@each_target
@pytest.mark.parametrize("shape", MASKS)
@pytest.mark.parametrize("causal", [False, True])
def test_masks(target: CpuTarget, shape: tuple[int, ...], causal: bool) -> None:
    operands = Sizes(20, 35).operands()
    if causal:
        check(Attention(0.3, causal), [*operands, draw(*shape, seed=7) > -0.5], target)
    else:
        check(Attention(0.3, causal), [*operands, draw(*shape, seed=8)], target)


@each_target
@pytest.mark.parametrize("op", [Attention(0.3), Attention(0.3, causal=True), Attention(0.3, left_window=3)])
def test_lengths_of_padded_keys(target: CpuTarget, op: Attention) -> None:
    """Lengths below 0 and beyond the keys count as none and all of them."""
    operands = Sizes(6, 40, batch=5).operands()
    lengths = np.array([0, 1, 17, 40, 6], np.int64)
    check(op, [*operands, None, None, None, lengths], target)


@each_target
@pytest.mark.parametrize("past", [1, 16, 30])
@pytest.mark.parametrize("queries", [1, 7])
def test_keys_after_a_past(target: CpuTarget, past: int, queries: int) -> None:
    sizes = Sizes(queries, queries)
    held: Operands = [draw(2, 2, past, 16, seed=4), draw(2, 2, past, 16, seed=5)]
    check(Attention(0.3, causal=True), [*sizes.operands(), None, *held], target)


@each_target
def test_nothing_visible_gives_zeros(target: CpuTarget) -> None:
    operands = Sizes(9, 20).operands()
    mask = draw(9, 20, seed=6) > 0
    mask[3:5] = False
    for hidden in (mask, np.where(mask, 0, -np.inf).astype(np.float32)):
        (y,) = check(Attention(0.3), [*operands, hidden], target)
        assert not y[:, :, 3:5].any() and y[:, :, 5].any()


@each_target
def test_a_bad_number_stays_in_its_row(target: CpuTarget) -> None:
    operands = Sizes(9, 20).operands()
    assert operands[0] is not None
    operands[0][0, 1, 4, 2], operands[0][1, 0, 0, 0] = np.nan, np.inf
    node = CompiledNode(Attention(0.3), operands, target)
    (y,) = node.run(operands)
    bad = np.isnan(y).any(axis=-1)
    assert bad[0, 1, 4] and bad.sum() <= 2


@each_target
@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_narrow_types_are_computed_in_f32(target: CpuTarget, dtype: Any) -> None:
    import ml_dtypes

    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    wide = Sizes(9, 37, width=24).operands()
    operands: Operands = [array.astype(dtype) for array in wide if array is not None]
    check(Attention(0.3, causal=True), operands, target)


# --- bits


@each_target
def test_bits_do_not_depend_on_batch_queries_or_chunks(target: CpuTarget) -> None:
    node = CompiledNode(Attention(0.3), Sizes(3, 5).operands(), target, SYMBOLS)
    operands = Sizes(37, 90, batch=3).operands()
    (whole,) = node.run(operands)
    assert_same_bits([whole], node.run(operands, backwards=True))
    q, k, v = operands
    assert q is not None and k is not None and v is not None
    for batch in range(3):
        part = slice(batch, batch + 1)
        assert_same_bits([whole[part]], node.run([q[part], k[part], v[part]]))
    for first, last in [(0, 1), (5, 7), (9, 37)]:
        assert_same_bits([whole[:, :, first:last]], node.run([q[:, :, first:last], k, v]))


@each_target
def test_work_is_cut_into_chunks_by_shape(target: CpuTarget) -> None:
    node = CompiledNode(Attention(0.3), Sizes(3, 5).operands(), target, SYMBOLS)
    (case,) = node.cases
    assert case.chunks({"batch": 1, "queries": 1, "keys": 8}) == 1
    assert case.chunks({"batch": 8, "queries": 512, "keys": 512}) > 8


# --- in whole models


def projected_heads(batch: Any, length: Any, heads: int = 3, width: int = 16) -> onnx.ModelProto:
    """Heads taken from [batch, length, heads * width] by reshape and transpose, as exporters write them."""
    nodes = []
    for name in "qkv":
        nodes.append(helper.make_node("Reshape", [f"{name}", "split"], [f"{name}r"]))
        nodes.append(helper.make_node("Transpose", [f"{name}r"], [f"{name}t"], perm=[0, 2, 1, 3]))
    nodes.append(helper.make_node("Attention", ["qt", "kt", "vt"], ["a"], is_causal=1))
    nodes.append(helper.make_node("Transpose", ["a"], ["at"], perm=[0, 2, 1, 3]))
    nodes.append(helper.make_node("Reshape", ["at", "join"], ["y"]))
    shape = [batch, length, heads * width]
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "qkv"]
    constants = [
        onnx.numpy_helper.from_array(np.array([0, 0, heads, width]), "split"),
        onnx.numpy_helper.from_array(np.array([0, 0, heads * width]), "join"),
    ]
    graph = helper.make_graph(nodes, "heads", inputs, [onnx.ValueInfoProto(name="y")], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("length, width", [(19, 16), (45, 112)])
def test_transposes_of_heads_are_part_of_the_kernel(
    target: str, symbolic: bool, length: int, width: int
) -> None:
    """Values of many features that lie apart are copied for many queries."""
    model = projected_heads(*(("batch", "length") if symbolic else (2, length)), width=width)
    feeds = {name: draw(2, length, 3 * width, seed=number) for number, name in enumerate("qkv")}
    expected = run_onnxruntime(model, feeds)
    assert expected is not None
    with dlc.compile(model, target=target, strict=True, cache=False) as compiled:
        assert [kernel.template for kernel in compiled.report().kernels] == ["attention"]
        assert_agrees(list(compiled(feeds)), expected)
