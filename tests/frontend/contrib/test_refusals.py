"""Nodes of onnxruntime's operators that break their definition, and those that dlc does not honour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from tests.helpers.onnx_cases import Array, one_node_model

rng = np.random.default_rng(11)


def draw(*shape: int) -> Array:
    """Normal numbers."""
    return rng.standard_normal(shape).astype(np.float32)


def whole(*shape: int, dtype: Any = np.uint8) -> Array:
    """Integers."""
    return rng.integers(0, 100, shape).astype(dtype)


def imported(
    op_type: str,
    inputs: Sequence[Array | None],
    attributes: dict[str, Any],
    outputs: int = 1,
    constants: Sequence[int] = (),
) -> None:
    """Import one node."""
    import_model(
        one_node_model(op_type, inputs, outputs, attributes, domain="com.microsoft", constants=constants)
    )


PROJECTION = [draw(2, 5, 12), draw(12, 48), draw(48)]
HEADS = {"num_heads": 2}
STEP = [
    *(draw(1, 1, width) for width in (128, 64, 64)),
    *(draw(1, 2, 6, 32) for _ in range(2)),
    *(np.array([6], np.int32), np.array(7, np.int32)),
]
GROUPS = {"num_heads": 4, "kv_num_heads": 2}
BITS = [draw(3, 64), whole(8, 4, 8), draw(8, 4)]
BITS_FORM = {"N": 8, "K": 64, "bits": 4, "block_size": 16}
BNB = [draw(3, 64), whole(256), draw(32)]
BNB_FORM = {"N": 8, "K": 64, "block_size": 16, "quant_type": 1}
SCALES = [np.float32(0.5), np.uint8(3)]
LSTM = [
    *(draw(5, 2, 12), whole(1, 12, 32), whole(1, 8, 32), None, None, None, None, None),
    *(draw(1, 7), whole(1, 7), draw(1, 32), whole(1, 32)),
]


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "message"),
    [
        ("Gelu", [draw(3)], {"approximate": "tanh"}, "no attribute 'approximate'"),
        ("Gelu", [draw(3), draw(3)], {}, "at most 1"),
        ("BiasGelu", [draw(3)], {}, "operand 1 is missing"),
        ("BiasSplitGelu", [draw(2, 3, 5), draw(5)], {}, "features of a half"),
        ("FusedConv", [draw(1, 2, 3, 3), draw(2, 2, 1, 1)], {"activation": "LeakyRelu"}, "1 parameters"),
        ("FusedGemm", [draw(2, 3), draw(3, 4)], {"activation": "LeakyRelu"}, "has the parameters"),
        ("CDist", [draw(2, 3), draw(3, 4)], {}, "columns of both matrices"),
        ("CDist", [draw(2, 3), draw(3)], {}, "must be a matrix"),
        ("Attention", PROJECTION, {"num_heads": 5}, "not divisible"),
        ("Attention", PROJECTION, {}, "'num_heads' is missing"),
        ("MultiHeadAttention", [draw(2, 5, 16)], HEADS, "no key"),
        ("GroupQueryAttention", STEP, {**GROUPS, "kv_num_heads": 3}, "no multiple"),
        ("EmbedLayerNormalization", [whole(2, 9, dtype=np.int32), None, draw(10, 8), draw(6, 8), None,
                                     draw(8), draw(8)], {}, "longer than the table"),
        ("GroupNorm", [draw(1, 2, 2, 4), draw(4), draw(4)], {"groups": 2, "activation": 2}, "0 or 1"),
        ("SkipGroupNorm", [draw(1, 2, 2, 4), draw(4), draw(4), draw(2, 4)],
         {"groups": 2, "activation": 0}, "skip"),
        ("QLinearConcat", [*SCALES, whole(2), *SCALES, whole(2)], {"axis": 0}, "scale and a zero point"),
        ("MatMulBnb4", BNB, {**BNB_FORM, "quant_type": 2}, "neither 0"),
        ("MatMulBnb4", BNB, {**BNB_FORM, "K": 640}, "do not hold"),
        ("DynamicQuantizeLSTM", LSTM, {"hidden_size": 8}, "parameter of the weights"),
    ],
)  # fmt: skip
def test_malformed_nodes(
    op_type: str, inputs: list[Array | None], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        imported(op_type, inputs, attributes, constants=range(1, 3) if op_type == "MatMulBnb4" else ())


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "message"),
    [
        ("FusedGemm", [draw(2, 3), draw(3, 4)], {"activation": "Sin"}, "'Sin'"),
        ("BiasSoftmax", [draw(2, 3, 4), draw(2, 4)], {"axis": 2, "is_inner_broadcast": 1}, "inner axes"),
        ("CDist", [draw(2, 3), draw(4, 3)], {"metric": "cosine"}, "'cosine'"),
        ("ExpandDims", [draw(2), np.array(0, np.int32)], {}, "computed at run time"),
        ("Attention", PROJECTION, {**HEADS, "do_rotary": 1}, "'do_rotary'"),
        ("Attention", PROJECTION, {**HEADS, "past_present_share_buffer": 1}, "'past_present_share_buffer'"),
        ("Attention", [*PROJECTION, np.ones((2, 1, 5, 5), np.int32)], HEADS, "4 axes"),
        ("MultiHeadAttention", [draw(2, 5, 16)] * 3, {**HEADS, "scale": -1.0}, "scale is -1"),
        ("RotaryEmbedding", [draw(2, 5, 16), whole(2, 5, dtype=np.int64), draw(9, 8), draw(9, 8)],
         {"is_packed_batching": 1}, "'is_packed_batching'"),
        ("GroupQueryAttention", STEP, {**GROUPS, "k_quant_type": "PER_TENSOR"}, "'k_quant_type'"),
        ("GroupQueryAttention", STEP, {**GROUPS, "sliding_window_cache": 1}, "'sliding_window_cache'"),
        ("GroupQueryAttention", STEP, {**GROUPS, "kv_cache_bit_width": 4}, "cache is quantized"),
        ("GroupQueryAttention", [*STEP, *[None] * 5, draw(1)], GROUPS, "scale of a quantized cache"),
        ("MatMulNBits", BITS, {**BITS_FORM, "bits": 3}, "3 bits"),
        ("MatMulNBits", BITS, {**BITS_FORM, "weight_prepacked": 1}, "'weight_prepacked'"),
        ("MatMulBnb4", BNB, {**BNB_FORM, "training_mode": 1}, "'training_mode'"),
        ("GatherBlockQuantized", [whole(4, 16).astype(np.int8), whole(2, dtype=np.int64), draw(4, 1)], {},
         "quantize the table to integers"),
    ],
)  # fmt: skip
def test_refused_nodes(
    op_type: str, inputs: list[Array | None], attributes: dict[str, Any], message: str
) -> None:
    constants = {"MatMulNBits": (1, 2), "MatMulBnb4": (1, 2), "GatherBlockQuantized": (0, 2)}
    with pytest.raises(UnsupportedError) as caught:
        imported(op_type, inputs, attributes, constants=constants.get(op_type, ()))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "error", "message"),
    [
        ("MatMulNBits", BITS, {}, UnsupportedError, "weights are computed at run time"),
        ("MatMulBnb4", BNB, BNB_FORM, UnsupportedError, "weights are computed at run time"),
        ("MatMulNBits", BITS, {"block_size": 24}, ModelError, "block_size = 24"),
        ("MatMulNBits", BITS, {"K": 640}, ModelError, "do not hold"),
        ("MatMulNBits", BITS, {"accuracy_level": 7}, ModelError, "accuracy_level 7"),
    ],
)
def test_weights_in_blocks(
    op_type: str, inputs: list[Array], attributes: dict[str, Any], error: Any, message: str
) -> None:
    constants = (1, 2) if error is ModelError else ()
    with pytest.raises(error, match=message):
        imported(op_type, inputs, {**BITS_FORM, **attributes} if op_type == "MatMulNBits" else attributes,
                 constants=constants)  # fmt: skip


def test_mean_of_a_norm_without_one() -> None:
    inputs = [draw(2, 3, 16), draw(2, 3, 16), draw(16)]
    with pytest.raises(UnsupportedError, match="mean is wanted"):
        imported("SkipSimplifiedLayerNormalization", inputs, {}, outputs=2)
