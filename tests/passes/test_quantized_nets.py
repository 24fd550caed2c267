"""Small networks that onnxruntime quantizes answer with onnxruntime's bytes."""
from __future__ import annotations

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlc
from dlc.frontend.onnx.importer import import_model
from dlc.passes.pipeline import default_pipeline
from tests.helpers.quantized_models import Array, onnxruntime_results, raised, results

quantization = pytest.importorskip("onnxruntime.quantization")

f32 = np.float32


def residual_net() -> onnx.ModelProto:
    """Convolutions with activations, one of them depthwise, a residual sum, pools and a classifier."""
    rng = np.random.default_rng(0)
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weight(*shape: int) -> str:
        name = f"w{len(weights)}"
        data = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        weights.append(numpy_helper.from_array(data.astype(f32), name))
        return name

    def add(op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def conv(x: str, channels: int, filters: int, **attributes: Any) -> str:
        kernel, bias = weight(filters, channels, 3, 3), weight(filters)
        return add("Conv", x, kernel, bias, pads=[1, 1, 1, 1], **attributes)

    stem = add("Relu", conv("x", 3, 16, strides=[2, 2]))
    pooled = add("MaxPool", stem, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    body = add("Relu", conv(pooled, 16, 16))
    body = add("Relu", conv(body, 1, 16, group=16))
    body = conv(body, 16, 16)
    joined = add("Relu", add("Add", body, pooled))
    smaller = add("AveragePool", joined, kernel_shape=[2, 2], strides=[2, 2])
    flat = add("Flatten", add("GlobalAveragePool", conv(smaller, 16, 24)))
    nodes.append(helper.make_node("Gemm", [flat, weight(10, 24), weight(10)], ["y"], transB=1))
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
              for name, shape in (("x", ("batch", 3, 32, 32)), ("y", ("batch", 10)))]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Random(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Images of noise."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.batches: Iterator[dict[str, Array]] = iter(
            [{"x": rng.standard_normal((4, 3, 32, 32)).astype(f32)} for _ in range(4)]
        )

    def get_next(self) -> dict[str, Array] | None:
        """The next batch."""
        return next(self.batches, None)


def quantized(folder: Path, form: str, per_channel: bool, weights: str) -> onnx.ModelProto:
    """The network as quantize_static makes it."""
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(residual_net(), source)
    quantization.quantize_static(
        source,
        target,
        Random(),
        quant_format=quantization.QuantFormat[form],
        per_channel=per_channel,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType[weights],
    )
    return onnx.load(target)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize(("per_channel", "weights"), [(False, "QInt8"), (True, "QInt8"), (False, "QUInt8")])
def test_bytes(tmp_path: Path, form: str, per_channel: bool, weights: str) -> None:
    model = quantized(tmp_path, form, per_channel, weights)
    graph, _ = raised(model)
    for seed in range(3):
        x = np.random.default_rng(seed + 5).standard_normal((2, 3, 32, 32)).astype(f32)
        for found, wanted in zip(results(graph, {"x": x}), onnxruntime_results(model, {"x": x}), strict=True):
            np.testing.assert_array_equal(found, wanted)
    names = collections.Counter(node.op.name for node in graph.nodes)
    # That of the average pool, and that of the result.
    assert names["DequantizeLinear"] == 2
    assert names["Conv"] == 5


@pytest.mark.parametrize(("form", "per_channel", "steps"), [("QDQ", True, 1), ("QOperator", False, 0)])
def test_compiled_bytes(tmp_path: Path, form: str, per_channel: bool, steps: int) -> None:
    """The same by the code that dlc.compile makes, with all of its passes.

    In QDQ form the average pool adds float32 numbers, in another order than onnxruntime: a tie may fall to
    the other side.
    """
    model = quantized(tmp_path, form, per_channel, "QInt8")
    compiled = dlc.compile(model, cache=False, threads=1)
    x = np.random.default_rng(9).standard_normal((3, 3, 32, 32)).astype(f32)
    (wanted,) = onnxruntime_results(model, {"x": x})
    (found,) = compiled(x)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1.001 * steps * output_step(model))
    compiled.close()


def output_step(model: onnx.ModelProto) -> float:
    """The scale of the integers that the result is made of."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    (last,) = (node for node in model.graph.node if model.graph.output[0].name in node.output)
    return float(numpy_helper.to_array(constants[last.input[1]]))


def normalized_net() -> onnx.ModelProto:
    """Three convolutions, each with a BatchNormalization and an activation."""
    rng = np.random.default_rng(3)
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    x, channels = "x", 3
    for index, filters in enumerate((8, 16, 8)):
        vectors = rng.standard_normal(filters), rng.standard_normal(filters), rng.standard_normal(filters)
        arrays = {
            "w": rng.standard_normal((filters, channels, 3, 3)) / np.sqrt(9 * channels),
            **dict(zip(("scale", "bias", "mean"), vectors, strict=True)),
            "variance": rng.random(filters) + 0.5,
        }
        names = [f"{name}{index}" for name in arrays]
        weights += [numpy_helper.from_array(data.astype(f32), name)
                    for data, name in zip(arrays.values(), names, strict=True)]
        nodes += [
            helper.make_node("Conv", [x, names[0]], [f"c{index}"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", [f"c{index}", *names[1:]], [f"b{index}"]),
            helper.make_node("Relu", [f"b{index}"], [f"y{index}"]),
        ]
        x, channels = f"y{index}", filters
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
              for name, shape in (("x", ("batch", 3, 16, 16)), (x, ("batch", 8, 16, 16)))]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_dynamic_bytes(tmp_path: Path) -> None:
    """Ranges are found at run time, of what BatchNormalization makes of integer sums."""
    source, target = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    onnx.save(normalized_net(), source)
    quantization.quantize_dynamic(source, target, weight_type=quantization.QuantType.QUInt8)
    model = onnx.load(target)
    graph = import_model(model).graph
    default_pipeline().without("assign-layouts").run(graph, check=True)
    for seed in range(3):
        feeds = {"x": np.random.default_rng(seed).standard_normal((2, 3, 16, 16)).astype(f32)}
        (found,), (wanted,) = results(graph, feeds), onnxruntime_results(model, feeds)
        np.testing.assert_array_equal(found, wanted)
