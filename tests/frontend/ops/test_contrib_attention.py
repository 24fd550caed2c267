"""onnxruntime's attention with as many heads of keys as of queries, and its rotary embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model, run_onnxruntime

rng = np.random.default_rng(16)
BATCH, LENGTH, HEADS, SIZE = 2, 5, 2, 8
HIDDEN = HEADS * SIZE
DOMAIN = "com.microsoft"


def draw(*shape: int, dtype: Any = np.float32) -> Array:
    """Normal numbers."""
    return rng.standard_normal(shape).astype(dtype)


def projection(columns: int = 3 * HIDDEN) -> list[Array]:
    """An input, weights and their bias."""
    return [draw(BATCH, LENGTH, 12), draw(12, columns) * 0.4, draw(columns)]


def masks(total: int) -> dict[str, Array]:
    """A mask of each form."""
    return {
        "ends": np.array([total - 2, total], np.int32),
        "ends and starts": np.array([total, total - 1, 2, 0], np.int32),
        "rows": rng.integers(0, 2, (BATCH, total)).astype(np.int32),
        "matrices": rng.integers(0, 2, (BATCH, LENGTH, total)).astype(np.int32),
        "cumulated": np.array([total, total - 1, *np.arange(6)], np.int32),
    }


def check(op_type: str, inputs: list[Array | None], outputs: int = 1, **options: Any) -> None:
    attributes = {"num_heads": HEADS, **options.pop("attributes", {})}
    check_contrib(op_type, inputs, Work.CONTRACTION, outputs, attributes, **options)


@pytest.mark.parametrize("mask", [None, *masks(5)])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention(mask: str | None, causal: int) -> None:
    index = None if mask is None else masks(LENGTH)[mask]
    for more in ({}, {"scale": 0.2, "mask_filter_value": -3.0}):
        attributes = {"unidirectional": causal, **more}
        check("Attention", [*projection(), index], attributes=attributes, constants=(1, 2), native=bool(more))


@pytest.mark.parametrize("mask", [None, "rows", "matrices"])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("fixed", [False, True])
def test_attention_with_a_past(mask: str | None, causal: int, fixed: bool) -> None:
    past = draw(2, BATCH, HEADS, 3, SIZE)
    index = None if mask is None else masks(LENGTH + 3)[mask]
    attributes = {"unidirectional": causal}
    constants = (1, 2) if fixed else ()
    check("Attention", [*projection(), index, past], 2, attributes=attributes, constants=constants)


def test_attention_with_bias_and_sizes() -> None:
    for shape in ((1, 1, LENGTH, LENGTH), (BATCH, HEADS, LENGTH, LENGTH), (1, HEADS, LENGTH, LENGTH)):
        check("Attention", [*projection(), None, None, draw(*shape)], 2)
        check("Attention", [*projection(), masks(LENGTH)["rows"], None, draw(*shape)])
    attributes = {"qkv_hidden_sizes": [HIDDEN, HIDDEN, 24]}
    check("Attention", [*projection(2 * HIDDEN + 24)], attributes=attributes, constants=(1, 2))


def test_attention_without_bias() -> None:
    # onnxruntime crashes without a bias.
    x, w, _ = projection()
    model = one_node_model("Attention", [x, w, np.zeros(48, np.float32)], 1, {"num_heads": 2}, domain=DOMAIN)
    expected = run_onnxruntime(model, {"x0": x, "x1": w, "x2": np.zeros(48, np.float32)})
    check("Attention", [x, w], expected=expected)


@pytest.mark.parametrize("mask", [None, "ends", "rows", "matrices", "cumulated"])
@pytest.mark.parametrize("biased", [False, True])
def test_multi_head_attention(mask: str | None, biased: bool) -> None:
    inputs = [draw(BATCH, LENGTH, HIDDEN), draw(BATCH, 7, HIDDEN), draw(BATCH, 7, 24)]
    index = None if mask is None else masks(7)[mask]
    bias = draw(2 * HIDDEN + 24) if biased else None
    for more in ({}, {"scale": 0.2, "mask_filter_value": -3.0}):
        check(
            "MultiHeadAttention", [*inputs, bias, index], 3, attributes=more, constants=(3,), native=not more
        )
    extra = draw(1, HEADS, LENGTH, 7)
    check(
        "MultiHeadAttention",
        [*inputs, bias, index, extra],
        attributes={"scale": 0.5},
        symbolic=not biased and mask != "cumulated",
    )


@pytest.mark.parametrize("mask", [None, "rows", "matrices", "ends"])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("length", [1, 5])
def test_multi_head_attention_with_a_past(mask: str | None, causal: int, length: int) -> None:
    inputs = [draw(BATCH, length, HIDDEN) for _ in range(3)]
    past = [draw(BATCH, HEADS, 3, SIZE) for _ in range(2)]
    index = None if mask is None else masks(length + 3)[mask]
    if mask == "matrices" and index is not None:
        index = np.ascontiguousarray(index[:, :length])
    attributes = {"unidirectional": causal}
    check("MultiHeadAttention", [*inputs, None, index, None, *past], 3, attributes=attributes)


@pytest.mark.parametrize("biased", [False, True])
def test_multi_head_attention_of_a_complete_state(biased: bool) -> None:
    state = [draw(BATCH, HEADS, 7, SIZE) for _ in range(2)]
    bias = draw(3 * HIDDEN) if biased else None
    check("MultiHeadAttention", [draw(BATCH, LENGTH, HIDDEN), *state, bias])


@pytest.mark.parametrize("biased", [False, True])
def test_packed_operands(biased: bool) -> None:
    # onnxruntime knows packed operands on GPUs only.
    q, k, v = (draw(BATCH, LENGTH, HIDDEN) for _ in range(3))
    bias = [draw(3 * HIDDEN)] if biased else []
    plain = one_node_model("MultiHeadAttention", [q, k, v, *bias], 1, {"num_heads": HEADS}, domain=DOMAIN)
    feeds = {f"x{index}": array for index, array in enumerate([q, k, v, *bias])}
    expected = run_onnxruntime(plain, feeds)
    parts = [x.reshape(BATCH, LENGTH, HEADS, 1, SIZE) for x in (q, k, v)]
    check(
        "MultiHeadAttention", [np.concatenate(parts, 3), None, None, *bias], expected=expected, symbolic=False
    )
    check("MultiHeadAttention", [q, np.concatenate(parts[1:], 3), None, *bias], expected=expected)


def test_scores() -> None:
    q, k, v = (draw(BATCH, LENGTH, HIDDEN) for _ in range(3))
    mask = masks(LENGTH)["rows"]
    split = [
        x.astype(np.float64).reshape(BATCH, LENGTH, HEADS, SIZE).transpose(0, 2, 1, 3) for x in (q, k, v)
    ]
    scores = split[0] @ split[1].swapaxes(2, 3) / np.sqrt(SIZE) + np.where(mask, 0, -10000.0)[:, None, None]
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    y = (powers / powers.sum(-1, keepdims=True)) @ split[2]
    y = y.transpose(0, 2, 1, 3).reshape(BATCH, LENGTH, HIDDEN)
    expected = [array.astype(np.float32) for array in (y, scores)]
    outputs = ["y", "", "", "scores"]
    check_contrib("MultiHeadAttention", [q, k, v, None, mask], Work.CONTRACTION, outputs,
                  {"num_heads": HEADS}, expected=expected)  # fmt: skip


def test_half_precision() -> None:
    for length in (1, 4, 9):
        q, k, v = (draw(BATCH, length, HIDDEN, dtype=np.float16) for _ in range(3))
        check("MultiHeadAttention", [q, k, v])


@pytest.mark.parametrize("weight", [np.uint8, np.int8])
@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("mask", [None, "ends", "rows"])
def test_qattention(weight: Any, columns: bool, mask: str | None) -> None:
    x = rng.integers(0, 255, (BATCH, LENGTH, 12)).astype(np.uint8)
    w = rng.integers(*(0, 255) if weight is np.uint8 else (-127, 127), (12, 3 * HIDDEN)).astype(weight)
    w_zero = np.full((3 * HIDDEN,) if columns else (), 128 if weight is np.uint8 else 0, weight)
    w_scale = rng.uniform(0.003, 0.004, w_zero.shape).astype(np.float32)
    zeros = [np.array(120, np.uint8), w_zero]
    for past in (None, draw(2, BATCH, HEADS, 3, SIZE)):
        index = None if mask is None else masks(LENGTH + (0 if past is None else 3))[mask]
        if past is not None and mask == "ends":
            continue
        inputs = [x, w, draw(3 * HIDDEN), np.float32(0.02), w_scale, index, *zeros, past]
        attributes = {"unidirectional": int(columns)}
        check("QAttention", inputs, 2, attributes=attributes, constants=(1, 2, 3, 4, 6, 7))


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("form", ["offset", "each"])
@pytest.mark.parametrize("shape", [(2, 5, 16), (2, 3, 5, 16), (1, 1, 24)], ids=str)
def test_rotary_embedding(interleaved: int, form: str, shape: tuple[int, ...]) -> None:
    batch, length = shape[0], shape[-2]
    at = np.array([3]) if form == "offset" else rng.integers(0, 10, (batch, length))
    attributes = {"interleaved": interleaved}
    check_contrib("RotaryEmbedding", [draw(*shape), at, draw(10, 4), draw(10, 4)] if len(shape) == 3
                  else [draw(*shape), at, draw(10, 8), draw(10, 8)],
                  Work.POINTWISE, attributes=attributes, constants=(2, 3))  # fmt: skip
    partial = {**attributes, "num_heads": 2 if len(shape) == 3 else 3, "rotary_embedding_dim": 4}
    check_contrib("RotaryEmbedding", [draw(*shape), at, draw(10, 2), draw(10, 2)], Work.POINTWISE,
                  attributes=partial)  # fmt: skip


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "message"),
    [
        ("Attention", projection(), {"do_rotary": 1}, "'do_rotary'"),
        ("Attention", projection(), {"past_present_share_buffer": 1}, "'past_present_share_buffer'"),
        ("Attention", [*projection(), np.ones((2, 1, 5, 5), np.int32)], {}, "4 axes"),
        ("MultiHeadAttention", [draw(2, 5, 16)] * 3, {"scale": -1.0}, "scale is -1"),
    ],
)
def test_refusals(op_type: str, inputs: list[Array], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match="1 thing") as caught:
        import_model(one_node_model(op_type, inputs, 1, {"num_heads": 2, **attributes}, domain=DOMAIN))
    assert message in caught.value.findings[0].reason


def test_malformed_nodes() -> None:
    x, w, b = projection()
    for attributes, message in (({"num_heads": 5}, "not divisible"), ({}, "'num_heads' is missing")):
        with pytest.raises(ModelError, match=message):
            import_model(one_node_model("Attention", [x, w, b], 1, attributes, domain=DOMAIN))
    with pytest.raises(ModelError, match="no key"):
        import_model(
            one_node_model("MultiHeadAttention", [draw(2, 5, 16)], 1, {"num_heads": 2}, domain=DOMAIN)
        )
