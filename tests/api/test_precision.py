"""The option precision=: results within the tolerance of the type that it names, on CPUs too."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import dlc
from dlc.api.selftest import stored_numerics
from dlc.verify import verify
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance


def small_net(dtype: type[np.generic] = np.float32) -> onnx.ModelProto:
    """Convolution, normalization, a product and a softmax, with weights of `dtype`."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((8, 3, 3, 3)) / 5,
        "scale": rng.uniform(0.5, 1.5, 6),
        "shift": rng.standard_normal(6),
        "m": rng.standard_normal((6, 5)) / 3,
    }
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("LayerNormalization", ["r", "scale", "shift"], ["n"], axis=-1),
        helper.make_node("MatMul", ["n", "m"], ["p"]),
        helper.make_node("Softmax", ["p"], ["y"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, ["batch", 3, 6, 6])],
        [helper.make_tensor_value_info("y", kind, ["batch", 8, 6, 5])],
        [numpy_helper.from_array(array.astype(dtype), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


X = np.random.default_rng(1).standard_normal((2, 3, 6, 6))


def in_float64() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The result of the float32 weights, in float64."""
    from dlc.verify.judges import exactly

    outputs = exactly(small_net(), {"x": X.astype(np.float32)})
    assert outputs is not None
    return np.asarray(outputs["y"])


@pytest.mark.parametrize(("precision", "kind"), [("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_16_bits_agree_with_float64(precision: str, kind: type) -> None:
    model = dlc.compile(small_net(), precision=precision, cache=False)
    assert model.inputs[0].dtype == model.outputs[0].dtype == np.float32
    (y,) = model(X.astype(np.float32))
    found = compare_arrays("y", y.astype(np.float64), in_float64(), tolerance(np.dtype(kind), Work.MODEL))
    assert found.agrees and found.max_abs > 1e-5
    assert stored_numerics(model).coarsest == {"fp16": "f16", "bf16": "bf16"}[precision]


def test_f32_of_a_16_bit_model(tmp_path: Path) -> None:
    """Sums and what lies between operators is f32: nearer to the exact result than in 16 bits."""
    proto = small_net(np.float16)
    x = X.astype(np.float16)
    wide = dlc.compile(proto, precision="fp32", cache=False)
    assert wide.inputs[0].dtype == wide.outputs[0].dtype == np.float16
    (y,), (plain,) = wide(x), dlc.compile(proto, cache=False)(x)
    allowed = tolerance(np.dtype(np.float16), Work.MODEL)
    assert compare_arrays("y", y, np.asarray(plain), allowed).agrees
    wide.save(tmp_path / "m.dlc")
    assert verify(tmp_path / "m.dlc").agrees


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_verification_goes_by_the_precision(precision: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(small_net(), path)
    found = verify(path, precision=precision, bisect=True)
    assert found.agrees and found.bisection is not None and found.bisection.culprit is None
