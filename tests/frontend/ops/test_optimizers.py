"""Steps of optimizers against the ONNX reference and the standard's formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import InputError, ModelError
from dlc.frontend.onnx.importer import import_model
from dlc.frontend.onnx.ops.optimizers import TRAINING
from dlc.ir.evaluate import evaluate
from dlc.verify.tolerances import Work
from tests.helpers.extension_cases import check_contrib
from tests.helpers.onnx_cases import Array, check_node, one_node_model

#: Operator -> what it keeps for each tensor, and attributes.
OPTIMIZERS: dict[str, tuple[int, dict[str, Any]]] = {
    "Adagrad": (1, {"norm_coefficient": 0.25, "decay_factor": 0.5, "epsilon": 1e-3}),
    "Adam": (2, {"norm_coefficient": 0.25, "alpha": 0.75, "beta": 0.5, "epsilon": 1e-3}),
    "Momentum": (1, {"norm_coefficient": 0.25, "alpha": 0.75, "beta": 0.5, "mode": "nesterov"}),
}


def operands(
    op_type: str, shapes: list[tuple[int, ...]], rate: Any, count: Any, dtype: Any = np.float32
) -> list[Array]:
    """Rate, count, and for `shapes` tensors, gradients and what is kept with them, which is positive."""
    rng = np.random.default_rng(0)
    groups = [[rng.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(2)]
    groups += [[rng.random(shape).astype(dtype) for shape in shapes] for _ in range(OPTIMIZERS[op_type][0])]
    return [np.asarray(rate), np.asarray(count, np.int64), *(array for group in groups for array in group)]


def by_formula(op_type: str, inputs: list[Array], attributes: dict[str, Any]) -> list[Array]:
    """The standard's pseudo code in float64 for a single tensor."""
    rate, count = float(inputs[0].item()), int(inputs[1].item())
    x, g, *kept = (array.astype(np.float64) for array in inputs[2:])
    a = {key: float(np.float32(v)) if isinstance(v, float) else v for key, v in attributes.items()}
    g = a.get("norm_coefficient", 0.0) * x + g
    epsilon = a.get("epsilon", float(np.float32(1e-6)))
    results: list[Array]
    match op_type:
        case "Adagrad":
            h = kept[0] + g * g
            step = rate / (1 + count * a.get("decay_factor", 0.0)) * g / (np.sqrt(h) + epsilon)
            results = [x - step, h]
        case "Adam":
            alpha, beta = a.get("alpha", float(np.float32(0.9))), a.get("beta", float(np.float32(0.999)))
            v, h = alpha * kept[0] + (1 - alpha) * g, beta * kept[1] + (1 - beta) * g * g
            rate = rate * np.sqrt(1 - beta**count) / (1 - alpha**count) if count > 0 else rate
            x = x - rate * v / (np.sqrt(h) + epsilon)
            results = [(1 - a.get("norm_coefficient_post", 0.0)) * x, v, h]
        case _:
            v = a["alpha"] * kept[0] + (a["beta"] if count > 0 else 1.0) * g
            results = [x - rate * (v if a["mode"] == "standard" else g + a["alpha"] * v), v]
    return [result.astype(inputs[2].dtype) for result in results]


def check(op_type: str, inputs: list[Array], attributes: dict[str, Any], **options: Any) -> None:
    """The evaluator and the native code follow the formula."""
    expected = by_formula(op_type, inputs, attributes)
    check_contrib(
        op_type,
        inputs,
        Work.NORMALIZATION,
        len(expected),
        attributes,
        domain=TRAINING,
        expected=expected,
        **options,
    )


@pytest.mark.parametrize("op_type", OPTIMIZERS)
@pytest.mark.parametrize("count", [0, 1, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_tensor(op_type: str, count: int, dtype: Any) -> None:
    attributes = OPTIMIZERS[op_type][1]
    for shape in ((), (3,), (2, 0), (2, 3, 4)):
        inputs = operands(op_type, [shape], dtype(0.1), count, dtype)
        check(op_type, inputs, attributes)
    check(op_type, inputs, attributes, symbolic=True)


@pytest.mark.parametrize("op_type", OPTIMIZERS)
@pytest.mark.parametrize("count", [0, 3])
def test_several_tensors_as_in_the_reference(op_type: str, count: int) -> None:
    kept, attributes = OPTIMIZERS[op_type]
    inputs = operands(op_type, [(2, 3), (4,), ()], np.float32(0.1), count)
    # onnxruntime has these operators only when it is built for training.
    check_node(op_type, inputs, 3 * (1 + kept), attributes, domain=TRAINING, onnxruntime=False)


def test_defaults() -> None:
    for op_type in ("Adagrad", "Adam"):
        check(op_type, operands(op_type, [(5,)], np.float32(0.1), 1000), {})


def test_standard_momentum_and_regularization_after_the_step() -> None:
    attributes = {"norm_coefficient": 0.0, "alpha": 0.5, "beta": 0.25, "mode": "standard"}
    check("Momentum", operands("Momentum", [(5,)], np.float32(0.1), 0), attributes)
    check("Momentum", operands("Momentum", [(5,)], np.float32(0.1), 2), attributes)
    attributes = {"norm_coefficient_post": 0.125}
    check("Adam", operands("Adam", [(5,)], np.float32(0.1), 1), attributes)


@pytest.mark.parametrize("op_type", OPTIMIZERS)
def test_a_rate_of_another_type_or_shape(op_type: str) -> None:
    attributes = OPTIMIZERS[op_type][1]
    check(op_type, operands(op_type, [(5,)], np.float64(0.125), [2]), attributes)
    check(op_type, operands(op_type, [(5,)], np.array([0.125], np.float32), 2, np.float64), attributes)


def test_what_does_not_fit() -> None:
    momentum = OPTIMIZERS["Momentum"][1]
    inputs = operands("Momentum", [(5,)], np.float32(0.1), 0)
    for given, attributes, message in (
        (inputs, {**momentum, "mode": "fast"}, "neither standard nor nesterov"),
        (inputs, {key: value for key, value in momentum.items() if key != "alpha"}, "'alpha' is missing"),
        (inputs[:4], momentum, "no whole number"),
        (inputs[:2], momentum, "no whole number"),
        ([*inputs[:4], inputs[4][:3]], momentum, "what belongs to a tensor"),
        ([*inputs[:4], inputs[4].astype(np.float64)], momentum, "one floating-point type"),
        ([inputs[2], *inputs[1:]], momentum, "must hold one element"),
    ):
        with pytest.raises(ModelError, match=message):
            import_model(one_node_model("Momentum", given, 2, attributes, domain=TRAINING))
    model = one_node_model("Momentum", inputs, 2, momentum, domain=TRAINING, symbolic=True)
    feeds = {f"x{index}": array for index, array in enumerate(inputs)}
    with pytest.raises(InputError, match="what belongs to a tensor"):
        evaluate(import_model(model).graph, {**feeds, "x4": inputs[4][:2]})
