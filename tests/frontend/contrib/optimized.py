"""Small models, and what onnxruntime's optimizer makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

from tests.helpers.onnx_cases import Array

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def model(text: str, **weights: Array) -> onnx.ModelProto:
    """A model in onnx's text format, with its initializers."""
    proto = parser.parse_model(f"{HEAD} {text}")
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return proto


def optimized(proto: onnx.ModelProto, level: str, folder: Path) -> onnx.ModelProto:
    """`proto` as onnxruntime saves it at a level, "ORT_ENABLE_EXTENDED" or "ORT_ENABLE_ALL"."""
    import onnxruntime

    path = folder / "optimized.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def written(proto: onnx.ModelProto) -> set[str]:
    """The operators of a model that are onnxruntime's own, with the last part of their domain."""
    nodes = [node for node in proto.graph.node if node.domain.startswith("com.microsoft")]
    return {f"{node.domain.rsplit('.', 1)[-1]}.{node.op_type}" for node in nodes}


def encoder() -> tuple[onnx.ModelProto, Mapping[str, Array]]:
    """A layer of an encoder: attention of two heads of 8, exact Gelu, two norms of residual sums."""
    rng = np.random.default_rng(3)
    shapes: dict[str, tuple[int, ...]] = {f"w{name}": (16, 16) for name in "qkvo"}
    shapes |= {f"b{name}": (16,) for name in "qkvo"}
    shapes |= {"w1": (16, 40), "b1": (40,), "w2": (40, 16), "b2": (16,)}
    shapes |= dict.fromkeys(("g1", "h1", "g2", "h2"), (16,))
    weights = {name: _normal(rng, *shape, scale=0.3) for name, shape in shapes.items()}
    heads = " ".join(
        f"{name}p = MatMul (x, w{name}) {name}s = Add ({name}p, b{name}) {name}r = Reshape ({name}s, split) "
        f"{name}t = Transpose <perm = {perm}> ({name}r)"
        for name, perm in (("q", "[0, 2, 1, 3]"), ("k", "[0, 2, 3, 1]"), ("v", "[0, 2, 1, 3]"))
    )
    proto = model(
        f"""encoder (float[batch, length, 16] x) => (float[batch, length, 16] y) {{
            split = Constant <value = int64[4] {{0, 0, 2, 8}}> ()
            joined = Constant <value = int64[3] {{0, 0, 16}}> ()
            {heads}
            products = MatMul (qt, kt)
            eight = Constant <value = float {{2.828427}}> ()
            scores = Div (products, eight)
            shares = Softmax <axis = -1> (scores)
            mixed = MatMul (shares, vt)
            back = Transpose <perm = [0, 2, 1, 3]> (mixed)
            rows = Reshape (back, joined)
            op = MatMul (rows, wo)
            os = Add (op, bo)
            sum1 = Add (os, x)
            norm1 = LayerNormalization <axis = -1, epsilon = 0.00001> (sum1, g1, h1)
            up = MatMul (norm1, w1)
            biased = Add (up, b1)
            root = Constant <value = float {{1.4142135}}> ()
            one = Constant <value = float {{1.0}}> ()
            half = Constant <value = float {{0.5}}> ()
            part = Div (biased, root)
            error = Erf (part)
            shifted = Add (error, one)
            twice = Mul (biased, shifted)
            active = Mul (twice, half)
            down = MatMul (active, w2)
            ds = Add (down, b2)
            sum2 = Add (ds, norm1)
            y = LayerNormalization <axis = -1, epsilon = 0.00001> (sum2, g2, h2)
        }}""",
        **weights,
    )
    return proto, {"x": _normal(rng, 2, 7, 16)}


def images() -> tuple[onnx.ModelProto, Mapping[str, Array]]:
    """Convolutions of all kinds and what onnxruntime blocks besides; 24 channels fill no block of 16."""
    rng = np.random.default_rng(4)
    shapes: dict[str, tuple[int, ...]] = {
        "w1": (24, 3, 3, 3),
        "b1": (24,),
        "w2": (24, 1, 3, 3),
        "b2": (24,),
        "w3": (32, 24, 1, 1),
        "w4": (32, 16, 3, 3),
        "b4": (32,),
        "w5": (32, 32, 3, 3),
        "wf": (32, 10),
        "bf": (10,),
    }
    weights = {name: _normal(rng, *shape, scale=0.2) for name, shape in shapes.items()}
    proto = model(
        """images (float[batch, 3, height, width] x)
               => (float[batch, 10] y, float[batch, 24, h, w] early) {
            c1 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, w1, b1)
            r1 = Relu (c1)
            early = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1]> (r1)
            c2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 24> (early, w2, b2)
            low = Constant <value = float {0.0}> ()
            high = Constant <value = float {6.0}> ()
            r2 = Clip (c2, low, high)
            c3 = Conv <kernel_shape = [1, 1]> (r2, w3)
            r3 = LeakyRelu <alpha = 0.1> (c3)
            c4 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 2> (r3, w4, b4)
            sum = Add (c4, r3)
            r4 = Relu (sum)
            best = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1]> (r4)
            a = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (best)
            scales = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()
            u = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
                        nearest_mode = "floor"> (a, , scales)
            l = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (u, , scales)
            c5 = Conv <kernel_shape = [3, 3], dilations = [2, 2]> (l, w5)
            m = GlobalMaxPool (c5)
            g = GlobalAveragePool (c5)
            t = Add (m, g)
            f = Flatten (t)
            p = Gemm (f, wf, bf)
            y = Sigmoid (p)
        }""",
        **weights,
    )
    return proto, {"x": _normal(rng, 2, 3, 16, 20)}


def quantized_images() -> tuple[onnx.ModelProto, Mapping[str, Array]]:
    """Quantized convolutions with a residual sum and pools, between QuantizeLinear and DequantizeLinear."""
    rng = np.random.default_rng(5)
    weights: dict[str, Array] = {
        "w1": rng.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8),
        "w2": rng.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8),
        "wf": rng.integers(-127, 128, (16, 10)).astype(np.int8),
        "b1": rng.integers(-900, 900, 16).astype(np.int32),
        "s1": rng.uniform(0.004, 0.006, 16).astype(np.float32),
        "z1": np.zeros(16, np.int8),
        "z": np.array(0, np.int8),
        "sw": np.array(0.003, np.float32),
        "sx": np.array(0.02, np.float32),
        "zx": np.array(128, np.uint8),
        "sy": np.array(0.03, np.float32),
        "zy": np.array(0, np.uint8),
        "st": np.array(0.05, np.float32),
        "zt": np.array(100, np.uint8),
    }
    weights |= {"b1s": weights["s1"] * weights["sx"], "b1z": np.zeros(16, np.int32)}

    def quantized(name: str, scale: str, zero: str) -> str:
        stored = f"{name}q = QuantizeLinear ({name}, {scale}, {zero})"
        return f"{stored} {name}d = DequantizeLinear ({name}q, {scale}, {zero})"

    proto = model(
        f"""quantized (float[batch, 3, 12, 14] x) => (float[batch, 10] y) {{
            {quantized("x", "sx", "zx")}
            w1d = DequantizeLinear <axis = 0> (w1, s1, z1)
            b1d = DequantizeLinear <axis = 0> (b1, b1s, b1z)
            c1 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (xd, w1d, b1d)
            r1 = Relu (c1)
            {quantized("r1", "sy", "zy")}
            m1 = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r1d)
            {quantized("m1", "sy", "zy")}
            w2d = DequantizeLinear (w2, sw, z)
            c2 = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (m1d, w2d)
            {quantized("c2", "st", "zt")}
            t = Add (c2d, m1d)
            {quantized("t", "st", "zt")}
            g = GlobalAveragePool (td)
            {quantized("g", "st", "zt")}
            f = Flatten (gd)
            {quantized("f", "st", "zt")}
            wfd = DequantizeLinear (wf, sw, z)
            p = Gemm (fd, wfd)
            {quantized("p", "st", "zt")}
            y = Identity (pd)
        }}""",
        **weights,
    )
    return proto, {"x": _normal(rng, 3, 3, 12, 14)}


def _normal(rng: Any, *shape: int, scale: float = 1.0) -> Array:
    return np.asarray(rng.standard_normal(shape) * scale, np.float32)
