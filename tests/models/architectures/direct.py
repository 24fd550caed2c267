"""Models written in ONNX itself: what the exporters of PyTorch do not produce."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from tests.helpers.drafts import FLOAT, HALF, INT64, UINT8, Draft
from tests.models.architectures.registry import Operand, architecture


@architecture(
    [Operand("image", ("batch", 1, 29, 31))], ({"batch": 2}, {"batch": 1}, {"batch": 7}), exporter="none"
)
def lenet() -> onnx.ModelProto:
    """Automatic padding, local response normalization, pooling with ceil, Gemm with a transposed matrix."""
    d = Draft()
    x = d.add("Conv", ["image", d.weight("w1", 20, 1, 5, 5), d.weight("b1", 20)], "c1", auto_pad="SAME_UPPER")
    x = d.add("LRN", [x], "n1", size=5, alpha=0.01, beta=0.75, bias=1.0)
    x = d.add("MaxPool", [d.add("Relu", [x], "r1")], "p1", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = d.add("Conv", [x, d.weight("w2", 24, 20, 3, 3)], "c2", strides=[2, 2], auto_pad="SAME_LOWER")
    x = d.add(
        "AveragePool",
        [d.add("Tanh", [x], "t2")],
        "p2",
        kernel_shape=[2, 2],
        pads=[1, 1, 0, 0],
        count_include_pad=1,
    )
    x = d.add("Flatten", [d.add("GlobalMaxPool", [x], "g")], "flat")
    d.add("Gemm", [x, d.weight("w3", 10, 24), d.weight("b3", 10)], "y", transB=1, alpha=0.5, beta=2.0)
    return d.model([("image", FLOAT, ["batch", 1, 29, 31])], [("y", FLOAT, ["batch", 10])], 17)


@architecture(
    [
        Operand("series", ("length", "batch", 6)),
        Operand("lengths", ("batch",), {"kind": "integers", "low": 1, "high": 4}, "int32"),
    ],
    ({"batch": 3, "length": 5}, {"batch": 1, "length": 12}, {"batch": 8, "length": 4}),
    exporter="none",
    outputs=("all", "last"),
)
def rnn() -> onnx.ModelProto:
    """A plain recurrent layer whose sequences have lengths of their own."""
    d = Draft()
    shared = [d.weight("w", 2, 10, 6), d.weight("r", 2, 10, 10), d.weight("b", 2, 20), "lengths"]
    d.add(
        "RNN",
        ["series", *shared],
        ["raw", "last"],
        hidden_size=10,
        direction="bidirectional",
        activations=["Tanh", "Relu"],
    )
    d.add("Transpose", ["raw"], "all", perm=[2, 0, 1, 3])
    return d.model(
        [("series", FLOAT, ["length", "batch", 6]), ("lengths", TensorProto.INT32, ["batch"])],
        [("all", FLOAT, ["batch", "length", 2, 10]), ("last", FLOAT, [2, "batch", 10])],
        17,
    )


@architecture(
    [Operand("x", ("batch", "length", 32))],
    ({"batch": 2, "length": 6}, {"batch": 1, "length": 15}, {"batch": 3, "length": 1}),
    exporter="none",
    opset=23,
)
def modern() -> onnx.ModelProto:
    """Whole operators of opset 23: RMS normalization, rotary embedding, attention with grouped heads."""
    d = Draft()
    normed = d.add("RMSNormalization", ["x", d.weight("gain", 32)], "normed", epsilon=1e-6)
    query, key, value = (
        d.add("MatMul", [normed, d.weight(f"w_{name}", 32, size)], name)
        for name, size in (("query", 32), ("key", 16), ("value", 16))
    )
    angles = np.arange(32)[:, None] * 100.0 ** (-np.arange(4) / 4)
    tables = [d.constant("cosine", np.cos(angles)), d.constant("sine", np.sin(angles))]
    count = d.add("Gather", [d.add("Shape", ["x"], "shape"), d.constant("one", 1, np.int64)], "count")
    places = d.add("Range", [d.constant("zero", 0, np.int64), count, "one"], "places")
    size = d.add("Shape", ["x"], "pair", start=0, end=2)
    places = d.add("Expand", [places, size], "positions")
    query = d.add("RotaryEmbedding", [query, *tables, places], "turned_query", num_heads=4)
    key = d.add("RotaryEmbedding", [key, *tables, places], "turned_key", num_heads=2)
    attended = d.add("Attention", [query, key, value], "attended", is_causal=1, q_num_heads=4, kv_num_heads=2)
    out = d.add("MatMul", [attended, d.weight("w_out", 32, 32)], "out")
    d.add("Gelu", [d.add("Add", ["x", out], "sum")], "y", approximate="tanh")
    return d.model([("x", FLOAT, ["batch", "length", 32])], [("y", FLOAT, ["batch", "length", 32])], 23)


@architecture(
    [Operand("x", ("batch", 40), dtype="float16")],
    ({"batch": 3}, {"batch": 1}, {"batch": 18}),
    exporter="none",
)
def half() -> onnx.ModelProto:
    """A network in float16."""
    d = Draft()
    x = d.add(
        "Gemm", ["x", d.weight("w1", 40, 56, dtype=np.float16), d.weight("b1", 56, dtype=np.float16)], "h"
    )
    x = d.add("LayerNormalization", [x, d.weight("gain.weight", 56, dtype=np.float16)], "n")
    x = d.add("MatMul", [d.add("Sigmoid", [x], "s"), d.weight("w2", 56, 9, dtype=np.float16)], "m")
    d.add("Softmax", [x], "y")
    return d.model([("x", HALF, ["batch", 40])], [("y", HALF, ["batch", 9])], 17)


@architecture(
    [Operand("image", ("batch", 3, 15, 17))],
    ({"batch": 2}, {"batch": 1}, {"batch": 3}),
    exporter="none",
    outputs=("y", "codes"),
)
def quantized() -> onnx.ModelProto:
    """Convolution and dense layer in 8 bits: Q/DQ pairs, then dynamic quantization with integer products."""
    d = Draft()
    d.constant("scale", 0.03)
    d.constant("zero", 131, np.uint8)
    rng = np.random.default_rng(7)
    taps = rng.integers(-90, 90, (24, 3, 3, 3))
    d.constant("taps", taps, np.int8)
    d.constant("tap_scales", rng.uniform(0.002, 0.01, 24))
    d.constant("tap_zeros", np.zeros(24), np.int8)
    x = d.add("QuantizeLinear", ["image", "scale", "zero"], "q0")
    x = d.add("DequantizeLinear", [x, "scale", "zero"], "d0")
    w = d.add("DequantizeLinear", ["taps", "tap_scales", "tap_zeros"], "dw", axis=0)
    x = d.add("Conv", [x, w, d.weight("bias", 24)], "c", pads=[1, 1, 1, 1], strides=[2, 2])
    x = d.add("QuantizeLinear", [d.add("Relu", [x], "r"), "scale", d.constant("low", 3, np.uint8)], "q1")
    x = d.add("DequantizeLinear", [x, "scale", "low"], "d1")
    x = d.add("Flatten", [d.add("GlobalAveragePool", [x], "g")], "flat")
    d.add("DynamicQuantizeLinear", [x], ["codes", "codes_scale", "codes_zero"])
    d.constant("matrix", rng.integers(0, 255, (24, 10)), np.uint8)
    product = d.add(
        "MatMulInteger", ["codes", "matrix", "codes_zero", d.constant("middle", 127, np.uint8)], "product"
    )
    real = d.add("Cast", [product], "real", to=FLOAT)
    d.add("Mul", [real, d.add("Mul", ["codes_scale", d.constant("step", 0.01)], "both")], "y")
    return d.model(
        [("image", FLOAT, ["batch", 3, 15, 17])],
        [("y", FLOAT, ["batch", 10]), ("codes", UINT8, ["batch", 24])],
        17,
    )


@architecture(
    [
        Operand("ids", ("batch", "length"), {"kind": "integers", "low": -40, "high": 40}, "int64"),
        Operand("x", ("batch", "length", 6)),
    ],
    ({"batch": 2, "length": 9}, {"batch": 1, "length": 30}, {"batch": 4, "length": 3}),
    exporter="none",
    outputs=("best", "place", "hot", "order"),
)
def integers() -> onnx.ModelProto:
    """Integer arithmetic, hashing into a table, top-k, one-hot, cumulative sums."""
    d = Draft()
    modulus = d.constant("modulus", 17, np.int64)
    row = d.add("Mod", [d.add("Mul", ["ids", d.constant("prime", 7919, np.int64)], "spread"), modulus], "row")
    embedded = d.add("Gather", [d.weight("table", 17, 6), row], "embedded")
    total = d.add("CumSum", [d.add("Add", [embedded, "x"], "sum"), d.constant("axis", 1, np.int64)], "total")
    d.add("TopK", [total, d.constant("k", [2], np.int64)], ["best", "place"], axis=1)
    levels = d.constant("levels", [0, 1])
    d.add("OneHot", [row, d.constant("depth", 17, np.int64), levels], "hot", axis=-1)
    d.add("ArgMax", [total], "order", axis=2, keepdims=0, select_last_index=1)
    return d.model(
        [("ids", INT64, ["batch", "length"]), ("x", FLOAT, ["batch", "length", 6])],
        [
            ("best", FLOAT, ["batch", 2, 6]),
            ("place", INT64, ["batch", 2, 6]),
            ("hot", FLOAT, ["batch", "length", 17]),
            ("order", INT64, ["batch", "length"]),
        ],
        17,
    )
