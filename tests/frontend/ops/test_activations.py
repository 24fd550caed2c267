"""Activation functions against the ONNX reference and onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import InputError, ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.ir.ops.pointwise import Activation, Unary
from tests.helpers.onnx_cases import backend_node_cases, check_backend_case, check_node, one_node_model

#: Operator -> first opset, attributes other than the defaults.
ACTIVATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "Tanh": (6, {}),
    "Sigmoid": (6, {}),
    "Relu": (6, {}),
    "Softplus": (1, {}),
    "Softsign": (1, {}),
    "HardSwish": (14, {}),
    "Mish": (18, {}),
    "Elu": (6, {"alpha": 0.3}),
    "Celu": (12, {"alpha": 2.5}),
    "Selu": (6, {"alpha": 1.1, "gamma": 2.0}),
    "LeakyRelu": (6, {"alpha": 0.3}),
    "ThresholdedRelu": (10, {"alpha": 0.4}),
    "HardSigmoid": (6, {"alpha": 0.3, "beta": 0.1}),
    "Shrink": (9, {"lambd": 1.2, "bias": 0.3}),
    "Gelu": (20, {"approximate": "tanh"}),
    "Swish": (24, {"alpha": 0.7}),
}
CASES = backend_node_cases({*ACTIVATIONS, "PRelu", "SwiGLU"})
X = np.array([-100.0, -20.0, -3.0, -1.0, -0.3, -0.0, 0.0, 0.4, 1.0, 2.5, 30.0, 100.0], np.float32)
SPECIAL = np.array([np.nan, np.inf, -np.inf, 1e-40, -1e-40, 3e38, -3e38, 1e-30], np.float32)
#: The vectorized logistic of onnxruntime 1.31 is off by 1.1e-6 at -14.
TOLERANCE = (3e-6, 2e-6)


INEXACT_DOUBLES = {"Gelu", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


def test_every_operator_has_backend_cases() -> None:
    assert {case.model.graph.node[0].op_type for case in CASES} == {*ACTIVATIONS, "PRelu", "SwiGLU"}


@pytest.mark.parametrize("op_type", sorted(ACTIVATIONS))
@pytest.mark.parametrize("defaults", [True, False])
def test_over_opsets(op_type: str, defaults: bool) -> None:
    since, attributes = ACTIVATIONS[op_type]
    for opset in {max(since, 7), max(since, 14), 24}:
        check_node(
            op_type,
            [X],
            attributes={} if defaults else attributes,
            opset=opset,
            tolerance=TOLERANCE,
            symbolic=defaults,
        )


@pytest.mark.parametrize("op_type", sorted(ACTIVATIONS))
def test_special_values(op_type: str) -> None:
    check_node(op_type, [SPECIAL], opset=24, tolerance=TOLERANCE)


@pytest.mark.parametrize("op_type", sorted(ACTIVATIONS))
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_floats(op_type: str, dtype: type) -> None:
    # The judges round f16 at every step, and hold some parameters, the reference even erf, in float32.
    tolerance = (3e-3, 2e-3) if dtype is np.float16 else (1e-6, 1e-7) if op_type in INEXACT_DOUBLES else None
    # Celu is of float32 only in the opsets that onnxruntime knows.
    check_node(op_type, [X[2:-2].astype(dtype)], opset=24, tolerance=tolerance, onnxruntime=op_type != "Celu")


@pytest.mark.parametrize("op_type", sorted(ACTIVATIONS))
@pytest.mark.parametrize("shape", [(), (0,), (2, 0)])
def test_nothing_and_scalars(op_type: str, shape: tuple[int, ...]) -> None:
    # The reference's Softsign fails on scalars.
    check_node(op_type, [np.full(shape, 0.5, np.float32)], opset=24, reference=op_type != "Softsign")


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_relu_of_integers(dtype: type) -> None:
    check_node("Relu", [np.array([-5, 0, 5], dtype)], opset=14)


def test_relu_keeps_nan() -> None:
    (y,) = check_node("Relu", [np.float32([np.nan, -1, 1])], opset=14)
    assert np.isnan(y[0])


@pytest.mark.parametrize("slope", [(), (1,), (4,), (3, 1), (1, 3, 4), (2, 3, 4)])
@pytest.mark.parametrize("opset", [7, 9, 16])
def test_prelu(slope: tuple[int, ...], opset: int) -> None:
    rng = np.random.default_rng(0)
    x, slopes = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 4), slope))
    check_node("PRelu", [x, slopes], opset=opset)
    check_node("PRelu", [x, slopes], opset=opset, symbolic=True)


def test_prelu_of_integers() -> None:
    check_node("PRelu", [np.array([-3, 0, 4], np.int32), np.array([2], np.int32)], opset=16)


@pytest.mark.parametrize("slope", [(3,), (1, 2, 4), (5, 2, 4)])
def test_the_slope_of_prelu_broadcasts_one_way(slope: tuple[int, ...]) -> None:
    x, slopes = np.ones((2, 4), np.float32), np.ones(slope, np.float32)
    with pytest.raises(ModelError, match="does not broadcast"):
        import_model(one_node_model("PRelu", [x, slopes], opset=16))
    graph = (
        None
        if len(slope) > 2
        else import_model(one_node_model("PRelu", [x, slopes], opset=16, symbolic=True)).graph
    )
    if graph is not None:
        with pytest.raises(InputError, match="does not broadcast"):
            evaluate(graph, {"x0": x, "x1": slopes})


def test_swiglu() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((2, 5)).astype(np.float32) for _ in range(2))
    for alpha in (1.0, 1.702):
        check_node("SwiGLU", [a, b], attributes={"alpha": alpha}, opset=28)
    with pytest.raises(ModelError, match="must be equal"):
        import_model(one_node_model("SwiGLU", [a, b[:1]], opset=28))
    with pytest.raises(ModelError, match="one shape"):
        import_model(one_node_model("SwiGLU", [a, b[0]], opset=28))


@pytest.mark.parametrize(
    ("op_type", "attributes", "operator"),
    [
        ("Gelu", {}, Unary("gelu")),
        ("Gelu", {"approximate": "none"}, Unary("gelu")),
        ("Gelu", {"approximate": "tanh"}, Unary("gelu_tanh")),
        ("Swish", {}, Unary("silu")),
        ("Swish", {"alpha": 0.5}, Activation("swish", 0.5)),
        ("Elu", {}, Activation("elu", 1.0)),
        ("Shrink", {"bias": 0.25, "lambd": 2.0}, Activation("shrink", 0.25, 2.0)),
    ],
)
def test_one_operator_each(op_type: str, attributes: dict[str, Any], operator: Unary | Activation) -> None:
    (node,) = import_model(one_node_model(op_type, [X], attributes=attributes, opset=24)).graph.nodes
    assert node.op == operator


def test_an_unknown_approximation_is_refused() -> None:
    with pytest.raises(ModelError, match="'approximate' must be none or tanh"):
        import_model(one_node_model("Gelu", [X], attributes={"approximate": "sigmoid"}, opset=20))


@pytest.mark.parametrize("op_type", ["Elu", "Gelu", "Sigmoid"])
def test_integers_are_refused(op_type: str) -> None:
    with pytest.raises(ModelError, match="must be of one of the types"):
        import_model(one_node_model(op_type, [np.ones(2, np.int32)], opset=20))
