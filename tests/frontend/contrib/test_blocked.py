"""The layout of blocked channels, saved on this kind of processor or another."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.frontend.onnx.ops import contrib_blocked
from dlc.frontend.onnx.ops.contrib_blocked import NCHWC
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import assert_close, check_model
from tests.helpers.onnx_cases import Array, run_evaluator, run_onnxruntime

rng = np.random.default_rng(21)


def blocked(weights: Array, block: int) -> Array:
    """Weights as onnxruntime reorders them: filters, and channels from a block on, padded to whole blocks."""
    filters, channels, *kernel = weights.shape
    inner = channels if channels < block else -(-channels // block) * block
    outer = -(-filters // block) * block
    padded = np.zeros((outer, inner, *kernel), np.float32)
    padded[:filters, :channels] = weights
    if channels < block:
        parts = padded.reshape(outer // block, block, inner, *kernel)
        return np.moveaxis(parts, 1, -1).reshape(padded.shape)
    parts = padded.reshape(outer // block, block, inner // block, block, *kernel)
    return parts.transpose(0, 2, 4, 5, 3, 1).reshape(padded.shape)


def chain(block: int, *layers: Array, channels_last: bool = False) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Convolutions of [1, C, 6, 7] by weights, in blocks and plain. Those of one channel go by channel."""
    source = layers[0].shape[1] if layers[0].shape[1] > 1 else layers[0].shape[0]
    last = layers[-1].shape[0]
    nodes, plain, weights, name = [], [], [], "x"
    if source >= block or layers[0].shape[1] == 1:
        nodes.append(helper.make_node("ReorderInput", ["x"], ["r"], domain=NCHWC))
        name = "r"
    before = "x"
    for index, layer in enumerate(layers):
        alone = layer.shape[1] == 1
        reordered = blocked(layer, block)
        weights += [
            numpy_helper.from_array(reordered, f"b{index}"),
            numpy_helper.from_array(layer, f"w{index}"),
        ]
        form = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
        groups = reordered.shape[0] if alone else 1
        nodes.append(
            helper.make_node("Conv", [name, f"b{index}"], [f"c{index}"], domain=NCHWC, group=groups, **form)
        )
        groups = layer.shape[0] if alone else 1
        plain.append(helper.make_node("Conv", [before, f"w{index}"], [f"p{index}"], group=groups, **form))
        name, before = f"c{index}", f"p{index}"
    order = {"channels": last, "channels_last": int(channels_last)}
    nodes.append(helper.make_node("ReorderOutput", [name], ["y"], domain=NCHWC, **order))
    perm = [0, 2, 3, 1] if channels_last else [0, 1, 2, 3]
    plain.append(helper.make_node("Transpose", [before], ["y"], perm=perm))
    return _model(nodes, weights, source), _model(plain, weights, source)


def _model(nodes: list[onnx.NodeProto], weights: list[TensorProto], channels: int) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, "h", "w"])
    read = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in weights if tensor.name in read]
    graph = helper.make_graph(nodes, "g", [x], [onnx.ValueInfoProto(name="y")], kept)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(NCHWC, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def draw(*shape: int) -> Array:
    """Weights, none of them zero."""
    return np.asarray(rng.uniform(0.1, 1, shape) * rng.choice([-1, 1], shape), np.float32)


LAYERS = {
    "few channels": [(24, 3, 3, 3)],
    "channels": [(24, 16, 3, 3), (40, 24, 3, 3)],
    "by channel": [(24, 1, 3, 3), (8, 24, 3, 3)],
    "whole blocks": [(32, 3, 3, 3), (48, 32, 3, 3)],
}


@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("block", [8, 16])
def test_blocks_of_either_kind(layers: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # What tells its block is read right on any machine, the rest on machines of its kind.
    tells = layers in ("few channels", "channels")
    monkeypatch.setattr(contrib_blocked, "_block_of_this_machine", lambda: 24 - block if tells else block)
    channels_last = block == 8
    model, plain = chain(block, *(draw(*shape) for shape in LAYERS[layers]), channels_last=channels_last)
    channels = plain.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    feeds = {"x": draw(2, channels, 6, 7)}
    check_model(model, feeds, Work.MODEL, expected=run_onnxruntime(plain, feeds))


def test_models_of_this_machine_agree_with_onnxruntime() -> None:
    # Whatever its block is: onnxruntime reads 24 channels in blocks of either.
    block = contrib_blocked._block_of_this_machine()
    model, plain = chain(block, draw(24, 16, 3, 3), draw(16, 24, 3, 3))
    feeds = {"x": draw(1, 16, 6, 7)}
    (there,), (here,) = run_onnxruntime(model, feeds) or [], run_evaluator(model, feeds)
    assert_close("result", here, there, Work.MODEL, 0)
    assert_close("plain result", here, (run_onnxruntime(plain, feeds) or [])[0], Work.MODEL, 0)


def test_a_guess_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(contrib_blocked, "_block_of_this_machine", lambda: 16)
    with caplog.at_level(logging.WARNING, "dlc"):
        import_model(chain(16, draw(24, 3, 3, 3))[0])
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "dlc"):
        import_model(chain(16, draw(32, 3, 3, 3))[0])
    assert "blocks of 16" in caplog.text


def test_a_guess_that_proves_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrib_blocked, "_block_of_this_machine", lambda: 16)
    with pytest.raises(UnsupportedError) as caught:
        import_model(chain(8, draw(32, 3, 3, 3), draw(24, 32, 3, 3))[0])
    assert "blocks of 8, but those before were read as of 16" in str(caught.value)


def test_malformed_nodes() -> None:
    model, _ = chain(8, draw(24, 3, 3, 3))
    model.graph.node[-1].attribute[0].i = 25
    with pytest.raises(ModelError, match="25 channels are wanted"):
        import_model(model)
    model, _ = chain(8, draw(24, 3, 3, 3))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(draw(20, 3, 3, 3), "b0"))
    with pytest.raises(ModelError, match="20 filters do not fill"):
        import_model(model)
