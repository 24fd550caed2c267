"""What onnxruntime does not compute, or not as it says: results from the definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import IndexFault, ShapeError
from dlc.verify.tolerances import Work
from tests.frontend.contrib.quantized_products import pack
from tests.helpers.extension_cases import check_contrib, run_native
from tests.helpers.onnx_cases import Array, feeds_of, one_node_model, run_evaluator, run_onnxruntime

DOMAIN = "com.microsoft"
HEADS = {"num_heads": 2}
rng = np.random.default_rng(16)


def draw(*shape: int, dtype: Any = np.float32) -> Array:
    """Normal numbers."""
    return rng.standard_normal(shape).astype(dtype)


def test_skip_statistics() -> None:
    # onnxruntime leaves them unset.
    x, skip, scale = draw(2, 3, 16), draw(2, 3, 16), draw(16)
    total = (x + skip).astype(np.float64)
    mean, variance = total.mean(-1, keepdims=True), total.var(-1, keepdims=True)
    y = (total - mean) / np.sqrt(variance + 1e-12) * scale
    expected = [array.astype(np.float32) for array in (y, mean, 1 / np.sqrt(variance + 1e-12), total)]
    check_contrib("SkipLayerNormalization", [x, skip, scale], Work.NORMALIZATION, 4, expected=expected)
    inverse = 1 / np.sqrt(np.square(total).mean(-1, keepdims=True) + 1e-12)
    expected = [array.astype(np.float32) for array in (total * inverse * scale, inverse, total)]
    outputs = ["y", "", "inverse", "sum"]
    check_contrib(
        "SkipSimplifiedLayerNormalization", [x, skip, scale], Work.NORMALIZATION, outputs, expected=expected
    )


def test_simplified_layer_normalization_with_another_scale() -> None:
    x, scale = draw(3, 8), draw(8, dtype=np.float16)
    check_contrib("SimplifiedLayerNormalization", [x, scale], Work.NORMALIZATION, domain="", opset=17)


def test_embedding_of_an_unknown_word() -> None:
    ids = np.array([[10]], np.int32)
    inputs = [ids, None, draw(10, 8), draw(6, 8), None, draw(8), draw(8)]
    model = one_node_model("EmbedLayerNormalization", inputs, domain=DOMAIN)
    with pytest.raises(IndexFault):
        run_evaluator(model, feeds_of(model, inputs))


def test_sequence_longer_than_the_table_of_positions() -> None:
    ids = np.zeros((1, 9), np.int32)
    inputs = [ids, None, draw(10, 8), draw(6, 8), None, draw(8), draw(8)]
    model = one_node_model(
        "EmbedLayerNormalization", inputs, 2, domain=DOMAIN, constants=(2, 3, 5, 6), symbolic=True
    )
    with pytest.raises(ShapeError, match="longer than the table"):
        run_native(model, {"x0": ids})


def test_gemm_fast_gelu() -> None:
    a, b, bias = draw(2, 5, 8), draw(8, 20), draw(20)
    x = a.astype(np.float64) @ b + bias
    expected = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    check_contrib("GemmFastGelu", [a, b, bias], Work.CONTRACTION, expected=[expected.astype(np.float32)])


def test_dropout_in_training() -> None:
    # No engine draws the same: what is kept is scaled, and tells the mask.
    x, bias, residual = np.ones((40, 50), np.float32), np.ones(50, np.float32), draw(40, 50)
    inputs = [x, bias, residual, np.float32(0.25), np.array(True)]
    model = one_node_model("BiasDropout", inputs, 2, {"seed": 5}, domain=DOMAIN)
    y, mask = run_native(model, feeds_of(model, inputs))
    np.testing.assert_allclose(y - residual, np.where(mask, 2 / 0.75, 0), atol=1e-6)
    assert 0.7 < mask.mean() < 0.8


def test_products_of_the_first_and_the_activated_form() -> None:
    a, b = draw(2, 5, 8), draw(2, 20, 8)
    check_contrib("TransposeMatMul", [a, b], Work.CONTRACTION, attributes={"transB": 1})
    product = a.astype(np.float64) @ b.swapaxes(1, 2)
    for name, more in (("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.5}), ("Tanh", {})):
        expected = {"Relu": np.maximum(product, 0), "Tanh": np.tanh(product)}.get(
            name, np.where(product < 0, product * 0.5, product)
        )
        attributes = {"transB": 1, "activation": name, **more}
        check_contrib("FusedMatMulActivation", [a, b], Work.CONTRACTION, attributes=attributes,
                      expected=[expected.astype(np.float32)])  # fmt: skip


def test_attention_without_bias() -> None:
    # onnxruntime crashes without a bias.
    x, w, zeros = draw(2, 5, 12), draw(12, 48) * 0.4, np.zeros(48, np.float32)
    model = one_node_model("Attention", [x, w, zeros], 1, HEADS, domain=DOMAIN)
    expected = run_onnxruntime(model, {"x0": x, "x1": w, "x2": zeros})
    check_contrib("Attention", [x, w], Work.CONTRACTION, attributes=HEADS, expected=expected)


def test_scores_of_attention() -> None:
    q, k, v = (draw(2, 5, 16) for _ in range(3))
    mask = rng.integers(0, 2, (2, 5)).astype(np.int32)
    split = [x.astype(np.float64).reshape(2, 5, 2, 8).transpose(0, 2, 1, 3) for x in (q, k, v)]
    scores = split[0] @ split[1].swapaxes(2, 3) / np.sqrt(8) + np.where(mask, 0, -10000.0)[:, None, None]
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    y = (powers / powers.sum(-1, keepdims=True)) @ split[2]
    y = y.transpose(0, 2, 1, 3).reshape(2, 5, 16)
    expected = [array.astype(np.float32) for array in (y, scores)]
    outputs = ["y", "", "", "scores"]
    check_contrib("MultiHeadAttention", [q, k, v, None, mask], Work.CONTRACTION, outputs, HEADS,
                  expected=expected)  # fmt: skip


def test_mask_with_starts_in_multi_head_attention() -> None:
    # onnxruntime has it in Attention only: the same as a mask of zeros and ones.
    q, k, v = (draw(2, 5, 16) for _ in range(3))
    vector = np.array([5, 4, 2, 0], np.int32)
    rows = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]], np.int32)
    model = one_node_model("MultiHeadAttention", [q, k, v, None, rows], 1, HEADS, domain=DOMAIN)
    expected = run_onnxruntime(model, feeds_of(model, [q, k, v, None, rows]))
    check_contrib("MultiHeadAttention", [q, k, v, None, vector], Work.CONTRACTION, 1, HEADS,
                  expected=expected)  # fmt: skip


GROUPS = {"num_heads": 4, "kv_num_heads": 2}


def continued(length: int, places: int, tokens: list[int]) -> list[Array]:
    """The operands of GroupQueryAttention for `length` new tokens and a cache of `places`."""
    batch = len(tokens)
    new = [draw(batch, length, width) for width in (128, 64, 64)]
    cache = [draw(batch, 2, places, 32) for _ in range(2)]
    return [*new, *cache, np.array(tokens, np.int32) - 1, np.array(max(tokens), np.int32)]


def test_norms_of_heads() -> None:
    # onnxruntime has them on GPUs only; the same as norms before the operator.
    inputs = continued(3, 6, [9])
    weights = [draw(32) for _ in range(2)]

    def normalized(x: Array, weight: Array) -> Array:
        heads = x.reshape(*x.shape[:2], -1, 32).astype(np.float64)
        y = heads / np.sqrt(np.square(heads).mean(-1, keepdims=True) + 1e-3) * weight
        return np.asarray(y.reshape(x.shape).astype(np.float32))

    plain = [normalized(inputs[0], weights[0]), normalized(inputs[1], weights[1]), *inputs[2:]]
    model = one_node_model("GroupQueryAttention", plain, 3, GROUPS, domain=DOMAIN)
    expected = run_onnxruntime(model, feeds_of(model, plain))
    attributes = {**GROUPS, "qk_norm_epsilon": 1e-3}
    operands = [*inputs, *[None] * 7, *weights]
    check_contrib("GroupQueryAttention", operands, Work.CONTRACTION, 3, attributes, expected=expected)


def test_several_sequences_that_continue() -> None:
    # onnxruntime refuses what one sequence after the other gives.
    tokens = [9, 8]
    inputs = continued(3, 20, tokens)
    model = one_node_model("GroupQueryAttention", inputs, 3, GROUPS, domain=DOMAIN)
    outputs = run_evaluator(model, feeds_of(model, inputs))
    for row, count in enumerate(tokens):
        alone = [*(x[row : row + 1] for x in inputs[:6]), np.array(count, np.int32)]
        single = one_node_model("GroupQueryAttention", alone, 3, GROUPS, domain=DOMAIN)
        expected = run_onnxruntime(single, feeds_of(single, alone)) or []
        for got, want in zip(outputs, expected, strict=True):
            got = got[row] if got.ndim == 3 else got[row][:, :count]
            np.testing.assert_allclose(got, want[0] if want.ndim == 3 else want[0][:, :count], 1e-5, 1e-6)


def test_order_of_blocks_with_zero_points() -> None:
    # onnxruntime overlooks the zero points where there is an order.
    stored, zero = rng.integers(0, 16, (8, 4, 16)), rng.integers(0, 16, (8, 4))
    scale, order = rng.uniform(0.01, 0.1, (8, 4)).astype(np.float32), rng.integers(0, 4, 64).astype(np.int32)
    a = draw(3, 64)
    weights = (stored.reshape(8, 64) - zero[:, order]) * scale[:, order].astype(np.float64)
    check_contrib(
        "MatMulNBits",
        [a, pack(stored, 4), scale, pack(zero, 4), order],
        Work.CONTRACTION,
        attributes={"N": 8, "K": 64, "bits": 4, "block_size": 16},
        constants=(1, 2, 3, 4),
        expected=[(a @ weights.T).astype(np.float32)],
    )


def test_weights_of_four_bits_that_are_not_transposed() -> None:
    # onnxruntime transposes all the same.
    codes, factors = rng.integers(0, 256, 180).astype(np.uint8), rng.uniform(0.1, 1, 23).astype(np.float32)
    attributes = {"N": 9, "K": 40, "block_size": 16, "quant_type": 1}
    model = one_node_model(
        "MatMulBnb4", [np.eye(40, dtype=np.float32), codes, factors], 1, attributes, domain=DOMAIN
    )
    feeds = {"x0": np.eye(40, dtype=np.float32), "x1": codes, "x2": factors}
    (transposed,) = run_onnxruntime(model, feeds) or []
    a = draw(3, 9)
    check_contrib("MatMulBnb4", [a, codes, factors], Work.CONTRACTION, attributes={**attributes, "transB": 0},
                  constants=(1, 2), expected=[a @ transposed.T])  # fmt: skip
