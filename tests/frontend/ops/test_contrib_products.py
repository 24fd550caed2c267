"""onnxruntime's fused activations, matrix products and convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, one_node_model

rng = np.random.default_rng(11)


def draw(*shape: int, dtype: Any = np.float32) -> Array:
    """Normal numbers."""
    return rng.standard_normal(shape).astype(dtype)


SHAPES = [(1,), (7,), (16,), (3, 5), (2, 17), (2, 3, 33), (1, 1, 64), (4, 1, 2, 19), (0, 4), (5, 40)]
DOMAIN = "com.microsoft"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op_type", ["Gelu", "FastGelu", "QuickGelu"])
def test_activations(op_type: str, shape: tuple[int, ...]) -> None:
    x = draw(*shape) * 4
    # onnxruntime's sigmoid has an absolute error: a large element sets the scale.
    x.flat[:1] = 4
    for symbolic in (False, True):
        check_contrib(op_type, [x], Work.POINTWISE, symbolic=symbolic)


def test_quick_gelu_alpha() -> None:
    for alpha in (0.5, 1.0, -1.0, 3.0):
        check_contrib("QuickGelu", [draw(3, 20) * 2], Work.POINTWISE, attributes={"alpha": alpha})


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[0]], ids=str)
def test_biased_activations(shape: tuple[int, ...]) -> None:
    x, bias = draw(*shape), draw(shape[-1])
    x.flat[0] = 4
    for constants in ((), (1,)):
        check_contrib("BiasGelu", [x, bias], Work.POINTWISE, constants=constants)
        check_contrib("FastGelu", [x, bias], Work.POINTWISE, constants=constants)


def test_half_precision_activations() -> None:
    x = draw(3, 40, dtype=np.float16)
    for op_type, function in (("Gelu", _gelu), ("QuickGelu", lambda x: x / (1 + np.exp(-1.702 * x)))):
        expected = function(x.astype(np.float64)).astype(np.float16)
        check_contrib(op_type, [x], Work.POINTWISE, expected=[expected])


def _gelu(x: Array) -> Array:
    import scipy.special

    return np.asarray(x * 0.5 * scipy.special.erfc(-x / np.sqrt(2)))


def test_bias_add() -> None:
    for shape in ((1, 1, 1), (2, 3, 16), (2, 5, 33)):
        x, bias, skip = draw(*shape), draw(shape[-1]), draw(*shape)
        check_contrib("BiasAdd", [x, bias, skip], Work.POINTWISE, expected=[x + bias + skip])


@pytest.mark.parametrize(
    ("data", "bias", "axis", "inner"),
    [
        ((2, 3, 4, 5), (2, 1, 1, 5), 3, 1),
        ((2, 3, 4, 5), (2, 1, 4, 5), 2, 1),
        ((2, 3, 4, 5), (1, 1, 4, 5), 2, 0),
        ((2, 3, 4, 5), (4, 5), 3, 0),
        ((3, 9), (1, 9), 1, 0),
    ],
)
def test_bias_softmax(data: tuple[int, ...], bias: tuple[int, ...], axis: int, inner: int) -> None:
    x, b = draw(*data), draw(*bias)
    total = (x + b).reshape(*data[:axis], -1).astype(np.float64)
    powers = np.exp(total - total.max(-1, keepdims=True))
    expected = (powers / powers.sum(-1, keepdims=True)).reshape(data).astype(np.float32)
    attributes = {"axis": axis, "is_inner_broadcast": inner}
    check_contrib("BiasSoftmax", [x, b], Work.NORMALIZATION, attributes=attributes, expected=[expected])


def test_bias_softmax_of_lower_rank_is_refused() -> None:
    model = one_node_model(
        "BiasSoftmax", [draw(2, 3, 4), draw(2, 4)], 1, {"axis": 2, "is_inner_broadcast": 1}, domain=DOMAIN
    )
    with pytest.raises(UnsupportedError, match="inner axes"):
        import_model(model)


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_fused_matmul(trans_a: int, trans_b: int, batch: tuple[int, ...], alpha: float) -> None:
    a, b = draw(*batch, 5, 7), draw(*batch, 7, 9)
    a = np.swapaxes(a, -1, -2).copy() if trans_a else a
    b = np.swapaxes(b, -1, -2).copy() if trans_b else b
    attributes = {"transA": trans_a, "transB": trans_b, "alpha": alpha}
    op_type = "TransposeMatMul" if alpha == 1 and len(batch) == 1 else "FusedMatMul"
    check_contrib(op_type, [a, b], Work.CONTRACTION, attributes=attributes, constants=(1,) if trans_b else ())


@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1), (1, 1)], ids=str)
def test_fused_matmul_with_batches_inside(trans: tuple[int, int]) -> None:
    # [M, batches..., K] and [K, batches..., N].
    for batch in ((3,), (2, 4)):
        a = draw(5, *batch, 7) if not trans[0] else draw(7, *batch, 5)
        b = draw(7, *batch, 9) if not trans[1] else draw(9, *batch, 7)
        attributes = {"transA": trans[0], "transB": trans[1], "transBatchA": 1, "transBatchB": 1}
        check_contrib("FusedMatMul", [a, b], Work.CONTRACTION, attributes=attributes)


def test_fused_matmul_types() -> None:
    check_contrib("FusedMatMul", [draw(3, 4, dtype=np.float64), draw(4, 5, dtype=np.float64)],
                  Work.CONTRACTION, attributes={"alpha": 0.5})  # fmt: skip
    a, b = draw(3, 40, dtype=np.float16), draw(40, 5, dtype=np.float16)
    expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float16)
    check_contrib("FusedMatMul", [a, b], Work.CONTRACTION, expected=[expected])


ACTIVATIONS = [
    ("Relu", {}),
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("Softplus", {}),
    ("Softsign", {}),
    ("LeakyRelu", {"alpha": 0.2}),
    ("Elu", {"alpha": 0.7}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("Selu", {"alpha": 1.5, "gamma": 1.1}),
    ("ThresholdedRelu", {"alpha": 0.4}),
]


@pytest.mark.parametrize(("name", "parameters"), ACTIVATIONS, ids=lambda each: str(each))
def test_fused_gemm(name: str, parameters: dict[str, float]) -> None:
    a, b, c = draw(6, 8), draw(8, 20), draw(20)
    named = {f"activation_{key}": value for key, value in parameters.items()}
    for more in ({}, {"alpha": 0.5, "beta": 2.0}):
        attributes = {"activation": name, **named, **more}
        check_contrib("FusedGemm", [a, b, c], Work.CONTRACTION, attributes=attributes, constants=(1,))
    attributes = {"activation": name, **named, "transA": 1, "transB": 1}
    check_contrib("FusedGemm", [a.T.copy(), b.T.copy()], Work.CONTRACTION, attributes=attributes)


CONV_ACTIVATIONS = [
    ("Relu", None),
    ("Sigmoid", None),
    ("Tanh", None),
    ("LeakyRelu", [0.1]),
    ("Clip", [0.0, 6.0]),
    ("HardSigmoid", [0.25, 0.5]),
]
WINDOWS = [
    {},
    {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]},
    {"strides": [2, 1], "pads": [0, 1, 2, 1]},
    {"dilations": [2, 2]},
    {"auto_pad": "SAME_UPPER"},
]


@pytest.mark.parametrize("index", range(10))
def test_fused_conv(index: int) -> None:
    x, w, b = draw(2, 4, 9, 8), draw(6, 4, 3, 3) * 0.3, draw(6)
    name, parameters = CONV_ACTIVATIONS[index % len(CONV_ACTIVATIONS)]
    window = WINDOWS[index % len(WINDOWS)]
    attributes = {"activation": name, "activation_params": parameters, **window}
    check_contrib("FusedConv", [x, w, b], Work.CONTRACTION, attributes=attributes, constants=(1, 2))
    check_contrib("FusedConv", [x, w], Work.CONTRACTION, attributes=attributes)


def test_fused_conv_with_sum_and_groups() -> None:
    x, w, b, z = draw(1, 4, 6, 6), draw(8, 2, 3, 3), draw(8), draw(1, 8, 4, 4)
    for bias in (b, None):
        check_contrib("FusedConv", [x, w, bias, z], Work.CONTRACTION,
                      attributes={"activation": "Relu", "group": 2}, constants=(1, 2))  # fmt: skip


def _nhwc(x: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_channels_last_convolutions(window: dict[str, Any]) -> None:
    from tests.helpers.onnx_cases import run_onnxruntime

    x, w, b = draw(2, 4, 9, 8), draw(6, 2, 3, 3) * 0.3, draw(6)
    window = {**window, "group": 2}
    model = one_node_model("Conv", [x, w, b], 1, window)
    (plain,) = run_onnxruntime(model, {"x0": x, "x1": w, "x2": b}) or []
    check_contrib("NhwcConv", [_nhwc(x), w, b], Work.CONTRACTION, attributes=window, constants=(1,),
                  expected=[_nhwc(plain)])  # fmt: skip
    attributes = {**window, "activation": "Relu"}
    check_contrib("NhwcFusedConv", [_nhwc(x), w, b], Work.CONTRACTION, attributes=attributes,
                  expected=[_nhwc(np.maximum(plain, 0))])  # fmt: skip


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 1]], ids=str)
def test_conv_transpose_with_pads(pads: list[int]) -> None:
    x, w, b = draw(1, 3, 5, 6), draw(3, 4, 3, 3), draw(4)
    for more in ({}, {"strides": [2, 2], "output_padding": [1, 0]}, {"dilations": [1, 2]}):
        for bias in (b, None):
            inputs = [x, w, np.array(pads), bias]
            check_contrib("ConvTransposeWithDynamicPads", inputs, Work.CONTRACTION, attributes=more,
                          constants=(2,))  # fmt: skip


def test_gemm_fast_gelu() -> None:
    a, b, bias = draw(2, 5, 8), draw(8, 20), draw(20)
    x = a.astype(np.float64) @ b + bias
    expected = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    check_contrib("GemmFastGelu", [a, b, bias], Work.CONTRACTION, expected=[expected.astype(np.float32)])


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "message"),
    [
        ("Gelu", [draw(3)], {"approximate": "tanh"}, "no attribute 'approximate'"),
        ("FusedConv", [draw(1, 2, 3, 3), draw(2, 2, 1, 1)], {"activation": "LeakyRelu"}, "1 parameters"),
        ("BiasGelu", [draw(3)], {}, "operand 1 is missing"),
        ("Gelu", [draw(3), draw(3)], {}, "at most 1"),
    ],
)
def test_malformed_nodes(op_type: str, inputs: list[Array], attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_model(one_node_model(op_type, inputs, 1, attributes, domain=DOMAIN))


def test_unknown_activations_are_refused() -> None:
    model = one_node_model("FusedGemm", [draw(2, 3), draw(3, 4)], 1, {"activation": "Sin"}, domain=DOMAIN)
    with pytest.raises(UnsupportedError, match="'Sin'"):
        import_model(model)
