"""Small models for the tests of the Python API."""

from __future__ import annotations

import numpy as np
import onnx


def parse(signature: str, body: str, opset: int = 17) -> onnx.ModelProto:
    """A model from ONNX's text; each node is named after its first output."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {signature} {{ {body} }}')
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    return model


#: y = x * 2 + b, z = tanh(x)
AFFINE = parse(
    "affine (float[n, 3] x, float[3] b) => (float[n, 3] y, float[n, 3] z)",
    "two = Constant <value_float = 2.0> ()  d = Mul (x, two)  y = Add (d, b)  z = Tanh (x)",
)

#: rows of a table by ids
GATHER = parse("gather (float[5, 2] table, int64[n] ids) => (float[n, 2] y)", "y = Gather (table, ids)")

#: A matrix product large enough for several chunks, with weights.
PRODUCT = parse(
    "product (float[n, 256] x, float[256, 512] w) => (float[n, 512] y)", "m = MatMul (x, w)  y = Relu (m)"
)


def affine_inputs(rows: int = 4, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs of AFFINE."""
    generator = np.random.default_rng(seed)
    return {
        "x": generator.standard_normal((rows, 3)).astype(np.float32),
        "b": generator.standard_normal(3).astype(np.float32),
    }


def affine_outputs(x: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What AFFINE gives."""
    return x * np.float32(2) + b, np.tanh(x)
