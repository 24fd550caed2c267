"""Maps from pairs to pairs: rotary embedding of interleaved features, its tails and faults."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import dlc
from dlc.errors import IndexFault
from dlc.ir.ops.attention import RotaryEmbedding
from dlc.target import CpuTarget
from dlc.verify.tolerances import Work
from tests.backends.cpu.templates.node_runner import (
    TARGETS,
    CompiledNode,
    assert_same_bits,
    each_target,
)
from tests.helpers.onnx_cases import assert_agrees, feeds_of, one_node_model, run_evaluator

Array = NDArray[Any]

SYMBOLS = {
    (0, 0): "batch",
    (0, 2): "length",
    (1, 0): "batch",
    (1, 1): "length",
    (2, 0): "batch",
    (2, 1): "length",
}


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Numbers of a normal distribution."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def operands(batch: int, length: int, width: int, dim: int, heads: int = 3) -> list[Array | None]:
    """x, cos and sin of each position."""
    tables = [draw(batch, length, dim // 2, seed=seed) for seed in (1, 2)]
    return [draw(batch, heads, length, width), *tables]


@each_target
@pytest.mark.parametrize("width, dim", [(2, 2), (32, 32), (40, 40), (64, 30), (35, 34), (96, 96)])
def test_interleaved_features(target: CpuTarget, width: int, dim: int) -> None:
    node = CompiledNode(RotaryEmbedding(True, dim), operands(2, 3, width, dim), target, SYMBOLS)
    assert node.templates == ["pairs"] + ["nest"] * (width != dim)
    for batch, length in [(1, 1), (2, 7), (0, 3), (3, 40)]:
        arrays = operands(batch, length, width, dim)
        node.check(arrays, Work.POINTWISE)
        assert_same_bits(node.run(arrays), node.run(arrays, backwards=True))


@pytest.mark.parametrize("target", TARGETS)
def test_rows_of_a_table_are_chosen_by_position(target: str) -> None:
    x, tables = draw(2, 3, 5, 20), [draw(9, 10, seed=seed) for seed in (1, 2)]
    positions = np.random.default_rng(3).integers(0, 9, (2, 5))
    arrays = [x, *tables, positions]
    model = one_node_model("RotaryEmbedding", arrays, 1, {"interleaved": 1}, 23)
    with dlc.compile(model, target=target, strict=True, cache=False) as compiled:
        assert [kernel.template for kernel in compiled.report().kernels] == ["pairs"]
        assert_agrees(list(compiled(feeds_of(model, arrays))), run_evaluator(model, feeds_of(model, arrays)))


@pytest.mark.parametrize("interleaved, dtype", [(False, np.float32), (True, np.float16)])
def test_halves_and_other_types_go_to_the_general_template(interleaved: bool, dtype: Any) -> None:
    arrays: list[Array | None] = [
        array.astype(dtype) for array in operands(2, 3, 24, 24) if array is not None
    ]
    node = CompiledNode(RotaryEmbedding(interleaved, 24), arrays, dlc.target.resolve("native"))
    assert node.templates == ["nest"]
    node.check(arrays, Work.POINTWISE)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("bad", [-1, 9])
def test_a_position_outside_the_table_is_a_fault(interleaved: int, bad: int) -> None:
    x, tables = draw(1, 2, 4, 20), [draw(9, 10, seed=seed) for seed in (1, 2)]
    positions = np.array([[0, 3, bad, 8]])
    model: onnx.ModelProto = one_node_model(
        "RotaryEmbedding", [x, *tables, positions], 1, {"interleaved": interleaved}, 23
    )
    with dlc.compile(model, strict=True, cache=False) as compiled, pytest.raises(IndexFault):
        compiled({"x0": x, "x1": tables[0], "x2": tables[1], "x3": positions})
