"""Stores of one byte at the end of a row: LLVM 22 makes masked ones of a single lane stores of 4 bytes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import dlc

CHANNELS, SIDE = 64, 7
SCALE, ZERO = 0.5, 120


def model(weights: np.ndarray) -> bytes:
    """A convolution of bytes whose rows of 49 results leave one for the last vector."""
    constants = {
        "sx": np.float32(0.02),
        "zx": np.uint8(128),
        "w": weights,
        "sw": np.float32(0.01),
        "zw": np.int8(0),
        "sy": np.float32(SCALE),
        "zy": np.uint8(ZERO),
    }
    graph = helper.make_graph(
        [
            helper.make_node("QLinearConv", ["x", *constants], ["y"]),
            helper.make_node("Identity", ["y"], ["z"]),
        ],
        "bytes",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 4, SIDE, SIDE])],
        [helper.make_tensor_value_info("z", TensorProto.UINT8, [1, CHANNELS, SIDE, SIDE])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@pytest.mark.parametrize("debug", [False, True])
def test_a_last_byte_is_one_byte(debug: bool) -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (CHANNELS, 4, 1, 1)).astype(np.int8)
    x = rng.integers(0, 256, (1, 4, SIDE, SIDE)).astype(np.uint8)
    sums = np.einsum("oc,bchw->bohw", weights[:, :, 0, 0].astype(np.int64), x.astype(np.int64) - 128)
    scale = np.float32(0.02) * np.float32(0.01) / np.float32(SCALE)
    wanted = np.clip(np.rint(sums.astype(np.float32) * scale) + ZERO, 0, 255).astype(np.uint8)
    with dlc.compile(model(weights), cache=False, debug_codegen=debug) as compiled:
        for _ in range(5):
            np.testing.assert_array_equal(compiled(x)[0], wanted)
