"""What `precision=` does to the code for a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("triton")

import dlc
from dlc.api.gpu.model import GpuModel
from dlc.api.selftest import stored_numerics
from dlc.errors import UnsupportedError


@pytest.fixture(scope="module")
def product() -> bytes:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])],
        [numpy_helper.from_array(weight, "w")],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(content)
    return content.SerializeToString()


@pytest.mark.parametrize(
    "precision, said, coarsest",
    [
        ("model", 'input_precision="ieee"', "f32"),
        ("tf32", 'input_precision="tf32"', "f16"),
        ("fp16", "*fp16", "f16"),
        ("bf16", "*bf16", "bf16"),
    ],
)
def test_products_are_of_the_precision(product: bytes, precision: str, said: str, coarsest: str) -> None:
    model = dlc.compile(product, target="cuda:sm_90", precision=precision, cache=False)
    assert isinstance(model, GpuModel)
    functions = model._gpu.functions
    texts = [function.text + repr(function.signature) for function in functions]
    assert any("tl.dot(" in text and said in text for text in texts)
    assert stored_numerics(model).coarsest == coarsest


def test_tf32_is_of_gpus(product: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="tf32"):
        dlc.compile(product, precision="tf32", cache=False)
