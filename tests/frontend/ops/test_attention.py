"""Attention and RotaryEmbedding against the ONNX reference and onnxruntime."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dlc.errors import IndexFault, InputError, ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from tests.helpers.onnx_cases import (
    TOLERANCES,
    backend_node_cases,
    check_backend_case,
    check_node,
    feeds_of,
    one_node_model,
    run_evaluator,
)

CASES = backend_node_cases(["Attention", "RotaryEmbedding"])
rng = np.random.default_rng(4)


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Numbers of a normal distribution."""
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    if case.name.endswith("bf16"):
        # The stored outputs were rounded to bfloat16 after every step, beyond the case's own tolerance.
        relative, absolute = TOLERANCES["bfloat16"]
        case = dataclasses.replace(case, rtol=relative, atol=absolute)
    check_backend_case(case)


def heads(queries: int, keys: int, query_heads: int = 4, key_heads: int = 4, width: int = 8,
          value_width: int = 8) -> list[np.ndarray[Any, Any] | None]:
    """q, k and v of rank 4."""
    return [draw(2, query_heads, queries, width), draw(2, key_heads, keys, width),
            draw(2, key_heads, keys, value_width)]


@pytest.mark.parametrize("attributes", [
    {}, {"scale": 0.2}, {"is_causal": 1}, {"softcap": 1.5}, {"is_causal": 1, "softcap": 2.0, "scale": 0.5},
])
@pytest.mark.parametrize("key_heads, value_width", [(4, 8), (2, 8), (1, 5)])
def test_heads_and_scores(attributes: dict[str, Any], key_heads: int, value_width: int) -> None:
    check_node("Attention", heads(3, 6, 4, key_heads, 8, value_width), 1, attributes, 23)


MASKS = {
    "bool": rng.random((3, 6)) < 0.7, "float": draw(3, 6), "per head": draw(4, 3, 6),
    "per batch": draw(2, 1, 3, 6), "nothing visible": np.zeros((3, 6), np.bool_),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("opset", [23, 24])
def test_masks(mask: np.ndarray[Any, Any], causal: int, opset: int) -> None:
    check_node("Attention", [*heads(3, 6, key_heads=2), mask], 1, {"is_causal": causal}, opset)


@pytest.mark.parametrize("causal", [0, 1])
def test_row_of_a_mask_is_broadcast(causal: int) -> None:
    # The reference takes the number of queries from the mask, onnxruntime refuses such a mask.
    row, operands = draw(1, 6), heads(3, 6)
    results = []
    for mask in (row, np.repeat(row, 3, axis=0)):
        model = one_node_model("Attention", [*operands, mask], 1, {"is_causal": causal}, 23)
        results.append(run_evaluator(model, feeds_of(model, [*operands, mask])))
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("softcap", [0.0, 1.0])
def test_scores_on_request(mode: int, causal: int, softcap: float) -> None:
    # The reference caps the scores of mode 0 too; onnxruntime writes the lowest float where a bias is -inf.
    check_node("Attention", [*heads(3, 6), draw(3, 6)], ["y", "", "", "scores"],
               {"qk_matmul_output_mode": mode, "softcap": softcap, "is_causal": causal}, 23,
               reference=not (mode == 0 and softcap), onnxruntime=not (mode == 2 and causal))


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("symbolic", [False, True])
def test_past_and_present(causal: int, symbolic: bool) -> None:
    past = [draw(2, 2, 5, 8), draw(2, 2, 5, 8)]
    y, present_k, _ = check_node("Attention", [*heads(3, 3, 4, 2), None, *past], 3,
                                 {"is_causal": causal, "scale": 0.3}, 23, symbolic=symbolic)
    assert y.shape == (2, 4, 3, 8) and present_k.shape == (2, 2, 8, 8)


@pytest.mark.parametrize("attributes", [{}, {"is_causal": 1}])
def test_packed_heads(attributes: dict[str, Any]) -> None:
    inputs = [draw(2, 3, 32), draw(2, 6, 16), draw(2, 6, 10)]
    check_node("Attention", inputs, 1, {"q_num_heads": 4, "kv_num_heads": 2, **attributes}, 23)
    check_node("Attention", inputs, 1, {"q_num_heads": 4, "kv_num_heads": 2, "scale": 0.3, **attributes}, 23,
               symbolic=True)


@pytest.mark.parametrize("attributes", [{}, {"is_causal": 1}])
def test_padded_cache(attributes: dict[str, Any]) -> None:
    check_node("Attention", [*heads(3, 6), None, None, None, np.array([2, 5], np.int64)], 1, attributes, 24)


def test_mask_shorter_than_the_keys() -> None:
    # onnxruntime refuses such masks.
    check_node("Attention", [*heads(3, 6), rng.random((3, 4)) < 0.8], 1, {}, 24, onnxruntime=False)
    check_node("Attention", [*heads(3, 6), draw(3, 4)], 1, {"scale": 0.5}, 24, onnxruntime=False,
               symbolic=True)


@pytest.mark.parametrize("left, right, causal", [(2, 0, 0), (1, 1, 0), (-1, 1, 0), (1, -1, 1)])
def test_sliding_window(left: int, right: int, causal: int) -> None:
    # onnxruntime knows no windows yet.
    check_node("Attention", heads(5, 7), 1,
               {"left_window_size": left, "right_window_size": right, "is_causal": causal}, 25,
               onnxruntime=False)


def test_softmax_in_float64() -> None:
    model = one_node_model("Attention", heads(3, 6), 1, {"softmax_precision": 11}, 23)
    names = [node.op.name for node in import_model(model).graph.nodes]
    assert names == ["Cast", "Cast", "Cast", "Attention", "Cast"]
    check_node("Attention", heads(3, 6), 1, {"softmax_precision": 11}, 23, onnxruntime=False)


@pytest.mark.parametrize("inputs, attributes, reason", [
    ([draw(2, 3, 32), draw(2, 6, 32), draw(2, 6, 32)], {}, "q_num_heads"),
    ([draw(2, 3, 30), draw(2, 6, 32), draw(2, 6, 32)], {"q_num_heads": 4, "kv_num_heads": 4}, "divisible"),
    (heads(3, 6, 4, 3), {}, "multiple"),
    ([*heads(3, 6), None, draw(2, 4, 2, 8)], {}, "together"),
    (heads(3, 6), {"softmax_precision": 6}, "softmax_precision"),
    ([*heads(3, 6), draw(3, 5)], {}, "broadcast"),
])
def test_impossible_attention_is_refused(inputs: list[Any], attributes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        import_model(one_node_model("Attention", inputs, 1, attributes, 23))


@pytest.mark.parametrize("key_heads", [0, 2, 6])
def test_symbolic_query_heads_are_a_multiple_of_key_heads(key_heads: int) -> None:
    model = one_node_model("Attention", heads(3, 3), 1, {"scale": 0.5}, 23, symbolic=True)
    inputs = [draw(2, 3, 4, 8), draw(2, key_heads, 5, 8), draw(2, key_heads, 5, 8)]
    with pytest.raises(InputError, match="no multiple of x1_1 key heads"):
        run_evaluator(model, {f"x{index}": array for index, array in enumerate(inputs)})


def test_a_symbolic_mask_is_no_longer_than_the_keys() -> None:
    inputs = [*heads(3, 3), draw(4, 6)]
    model = one_node_model("Attention", inputs, 1, {"scale": 0.5}, 24, symbolic=True)
    inputs[3] = draw(4, 9)
    with pytest.raises(InputError, match="longer than"):
        run_evaluator(model, {f"x{index}": array for index, array in enumerate(inputs)})


@pytest.mark.parametrize("constants", [(0,), (1,)])
def test_the_head_size_of_one_operand_is_that_of_all(constants: tuple[int, ...]) -> None:
    check_node("Attention", heads(3, 6), 1, {}, 23, constants=constants, symbolic=True)
    with pytest.raises(UnsupportedError, match="head size"):
        import_model(one_node_model("Attention", heads(3, 6), 1, {}, 23, symbolic=True))


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotated", [0, 4])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_rotary_embedding(interleaved: int, rotated: int, packed: bool, positions: bool) -> None:
    x = draw(2, 5, 24) if packed else draw(2, 3, 5, 8)
    half = (rotated or 8) // 2
    shape = (9, half) if positions else (2, 5, half)
    ids = rng.integers(0, 9, (2, 5)) if positions else None
    check_node("RotaryEmbedding", [x, draw(*shape), draw(*shape), *([ids] if positions else [])], 1,
               {"interleaved": interleaved, "rotary_embedding_dim": rotated, "num_heads": 3 if packed else 0},
               23, onnxruntime=False)


@pytest.mark.parametrize("constants", [(1,), (2,), (0,)])
def test_rotary_embedding_of_heads_of_open_size(constants: tuple[int, ...]) -> None:
    inputs = [draw(2, 3, 5, 8), draw(2, 5, 4), draw(2, 5, 4)]
    check_node("RotaryEmbedding", inputs, 1, {}, 23, constants=constants, symbolic=True, onnxruntime=False)


def test_rotary_embedding_of_too_small_heads() -> None:
    inputs = [draw(2, 3, 5, 8), draw(2, 5, 4), draw(2, 5, 4)]
    model = one_node_model("RotaryEmbedding", inputs, 1, {}, 23, symbolic=True)
    with pytest.raises(UnsupportedError, match="head size"):
        import_model(model)
    model = one_node_model("RotaryEmbedding", inputs, 1, {"rotary_embedding_dim": 8}, 23, symbolic=True)
    with pytest.raises(InputError, match="8 of x0_3 features"):
        run_evaluator(model, {"x0": draw(2, 3, 5, 6), "x1": inputs[1], "x2": inputs[2]})


def test_position_outside_the_table_is_a_fault() -> None:
    inputs = [draw(1, 1, 2, 4), draw(3, 2), draw(3, 2), np.array([[0, 3]])]
    model = one_node_model("RotaryEmbedding", inputs, 1, {}, 23)
    with pytest.raises(IndexFault):
        run_evaluator(model, {f"x{index}": array for index, array in enumerate(inputs)})
