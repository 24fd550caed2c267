"""BatchNormalization against the ONNX reference, onnxruntime and the standard's formulas."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.ops.normalization import BatchNorm
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, check_node, one_node_model

TOLERANCE = (1e-5, 2e-6)
SHAPES = [(2, 3), (2, 3, 4), (2, 3, 4, 5), (1, 3, 2, 2, 2)]
EPSILON = float(np.float32(1e-2))
MOMENTUM = float(np.float32(0.7))
ATTRIBUTES = {"epsilon": 1e-2, "momentum": 0.7}


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Numbers of a normal distribution."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def batch_inputs(
    shape: tuple[int, ...], dtype: Any = np.float32, places: tuple[int, ...] | None = None
) -> list[Array]:
    """x of `shape`, and scale, bias, mean and variance of the shape `places`, by default that of channels."""
    vector = (shape[1],) if places is None else places
    return [
        draw(*shape, dtype=dtype),
        *(draw(*vector, seed=seed, dtype=dtype) for seed in (1, 2, 3)),
        np.abs(draw(*vector, seed=4, dtype=dtype)),
    ]


def trained(inputs: list[Array], axes: tuple[int, ...]) -> list[Array]:
    """y, running mean and variance, and mean and variance of the batch, in float64 and rounded."""
    x, scale, bias, old_mean, old_variance = (array.astype(np.float64) for array in inputs)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    places = old_mean.shape
    y = (x - mean) / np.sqrt(variance + EPSILON) * scale.reshape(mean.shape[1:]) + bias.reshape(
        mean.shape[1:]
    )
    mean, variance = mean.reshape(places), variance.reshape(places)
    running = old_mean * MOMENTUM + mean * (1 - MOMENTUM), old_variance * MOMENTUM + variance * (1 - MOMENTUM)
    dtypes = [inputs[0].dtype, *[inputs[3].dtype, inputs[4].dtype] * 2]
    return [array.astype(dtype) for array, dtype in zip((y, *running, mean, variance), dtypes, strict=True)]


def check_training(
    inputs: list[Array], opset: int, outputs: int, axes: tuple[int, ...], spatial: bool = True, **options: Any
) -> None:
    """The evaluator and the native code follow the standard's formulas."""
    mode: dict[str, Any] = {"training_mode": 1} if opset >= 14 else {}
    if not spatial:
        mode["spatial"] = 0
    if opset == 1:
        mode["consumed_inputs"] = [0, 0, 0, 1, 1]
    check_contrib(
        "BatchNormalization",
        inputs,
        Work.NORMALIZATION,
        outputs,
        {**ATTRIBUTES, **mode},
        domain="",
        opset=opset,
        expected=trained(inputs, axes)[:outputs],
        **options,
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_inference(shape: tuple[int, ...], opset: int) -> None:
    for symbolic in (False, True):
        # The reference trains when an older model has a momentum.
        check_node(
            "BatchNormalization",
            batch_inputs(shape),
            attributes={"epsilon": 1e-2, "momentum": 0.5},
            opset=opset,
            tolerance=TOLERANCE,
            symbolic=symbolic,
            reference=opset >= 14,
        )


@pytest.mark.parametrize("opset", [1, 6])
def test_inference_of_early_opsets(opset: int) -> None:
    inputs = batch_inputs((2, 3, 4, 5))
    x, *vectors = inputs
    scale, bias, mean, variance = (vector.reshape(3, 1, 1) for vector in vectors)
    expected = (x - mean) / np.sqrt(variance + EPSILON) * scale + bias
    attributes = {"is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1] if opset == 1 else None, "epsilon": 1e-2}
    check_contrib(
        "BatchNormalization",
        inputs,
        Work.NORMALIZATION,
        1,
        attributes,
        domain="",
        opset=opset,
        expected=[expected],
    )


def test_inference_of_doubles() -> None:
    check_node("BatchNormalization", batch_inputs((2, 3, 4), np.float64), opset=15)


@pytest.mark.parametrize("narrow", [np.float16, ml_dtypes.bfloat16])
def test_statistics_of_another_type(narrow: Any) -> None:
    x, *_ = batch_inputs((2, 3, 4), narrow)
    _, scale, bias, mean, variance = batch_inputs((2, 3, 4))
    # onnxruntime wants one type.
    check_node("BatchNormalization", [x, scale, bias, mean, variance], opset=15, onnxruntime=False)
    check_training([x, scale, bias, mean, variance], 15, 3, (0, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_training_as_in_the_reference(shape: tuple[int, ...]) -> None:
    # onnxruntime trains only when it is built for that.
    attributes = {**ATTRIBUTES, "training_mode": 1}
    for symbolic in (False, True):
        check_node(
            "BatchNormalization",
            batch_inputs(shape),
            3,
            attributes,
            15,
            tolerance=TOLERANCE,
            symbolic=symbolic,
            onnxruntime=False,
        )


@pytest.mark.parametrize("opset, outputs", [(1, 5), (6, 5), (7, 5), (9, 5), (14, 3), (15, 1)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_training(opset: int, outputs: int, dtype: Any) -> None:
    check_training(batch_inputs((4, 3, 2, 5), dtype), opset, outputs, (0, 2, 3))


def test_training_with_symbolic_extents() -> None:
    check_training(batch_inputs((4, 3, 2)), 15, 3, (0, 2), symbolic=True)


def test_training_of_one_channel_without_an_axis() -> None:
    inputs = batch_inputs((5, 1))
    inputs[0] = inputs[0].reshape(5)
    expected = trained([inputs[0].reshape(5, 1), *inputs[1:]], (0,))[:3]
    expected[0] = expected[0].reshape(5)
    attributes = {**ATTRIBUTES, "training_mode": 1}
    options = {"domain": "", "opset": 15, "expected": expected}
    check_contrib("BatchNormalization", inputs, Work.NORMALIZATION, 3, attributes, **options)


@pytest.mark.parametrize("opset", [6, 7])
def test_statistics_of_every_position(opset: int) -> None:
    inputs = batch_inputs((4, 3, 2), places=(3, 2))
    check_training(inputs, opset, 5, (0,), spatial=False)
    check_training(inputs, opset, 5, (0,), spatial=False, symbolic=True)
    if opset == 7:
        attributes = {"epsilon": 1e-2, "spatial": 0}
        check_node("BatchNormalization", inputs, attributes=attributes, opset=7, reference=False)
    with pytest.raises(ModelError, match="operand 1 must have rank 2"):
        import_model(
            one_node_model("BatchNormalization", batch_inputs((4, 3, 2)), 5, {"spatial": 0}, opset=opset)
        )


def test_what_decides_about_training() -> None:
    inputs = batch_inputs((2, 3, 4))
    for opset in (7, 9):
        outputs = ["y0", "", "", "", ""]
        (node,) = import_model(one_node_model("BatchNormalization", inputs, outputs, opset=opset)).graph.nodes
        assert isinstance(node.op, BatchNorm)
    with pytest.raises(ModelError, match="training_mode=0"):
        import_model(one_node_model("BatchNormalization", inputs, 3, opset=15))
    with pytest.raises(ModelError, match="is_test=1"):
        import_model(one_node_model("BatchNormalization", inputs, 5, {"is_test": 1}, opset=6))
    with pytest.raises(UnsupportedError, match="is_test=0"):
        import_model(one_node_model("BatchNormalization", inputs, opset=6))
