"""Networks that are linear along rays give exactly 2^k times the result for 2^k times the input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest

import dlc
from tests.helpers.drafts import FLOAT, Draft


def homogeneous() -> onnx.ModelProto:
    """Convolutions, pooling, ReLU, resizing and products without biases: f(a x) = a f(x) for a > 0."""
    d = Draft()
    x = d.add("Relu", [d.add("Conv", ["image", d.weight("w1", 24, 3, 3, 3)], "c1", pads=[1] * 4)], "r1")
    x = d.add(
        "LeakyRelu", [d.add("Conv", [x, d.weight("w2", 24, 1, 3, 3)], "c2", pads=[1] * 4, group=24)], "r2"
    )
    pooled = d.add(
        "Conv",
        [d.add("MaxPool", [x], "p", kernel_shape=[2, 2], strides=[2, 2]), d.weight("w3", 32, 24, 3, 3)],
        "c3",
        pads=[1] * 4,
    )
    up = d.add(
        "ConvTranspose", [d.add("Relu", [pooled], "r3"), d.weight("w4", 32, 24, 2, 2)], "up", strides=[2, 2]
    )
    joined = d.add("Concat", [up, x], "joined", axis=1)
    x = d.add(
        "AveragePool", [d.add("Add", [joined, joined], "twice")], "mean", kernel_shape=[2, 2], strides=[2, 2]
    )
    x = d.add("Conv", [x, d.weight("w5", 16, 48, 3, 3)], "c5", pads=[2] * 4, dilations=[2, 2])
    x = d.add("ReduceMean", [x], "whole", axes=[2, 3], keepdims=0)
    d.add("MatMul", [x, d.weight("w6", 16, 9)], "y")
    return d.model(
        [("image", FLOAT, ["batch", 3, 16, 20])], [("y", FLOAT, ["batch", 9]), ("joined", FLOAT, None)], 17
    )


@pytest.fixture(scope="module")
def native() -> Iterator[dlc.CompiledModel]:
    with dlc.compile(homogeneous(), cache=False) as compiled:
        yield compiled


@pytest.mark.parametrize("power", [-20, -3, 1, 5, 30])
def test_a_power_of_two_passes_through(native: dlc.CompiledModel, power: int) -> None:
    image = np.random.default_rng(3).standard_normal((2, 3, 16, 20), np.float32)
    scale = np.float32(2.0**power)
    for plain, scaled in zip(native(image), native(image * scale), strict=True):
        assert np.array_equal(plain * scale, scaled)
        assert np.isfinite(scaled).all() and scaled.any()


def test_a_bias_would_show(native: dlc.CompiledModel) -> None:
    image = np.random.default_rng(3).standard_normal((1, 3, 16, 20), np.float32)
    shifted = native(image + np.float32(0.25))[0]
    assert not np.array_equal(native(image)[0] * 2, shifted)


def test_zeros_give_zeros(native: dlc.CompiledModel) -> None:
    assert not any(output.any() for output in native(np.zeros((3, 3, 16, 20), np.float32)))
