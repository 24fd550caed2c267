"""LSTM, GRU and RNN against the ONNX reference and onnxruntime."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.errors import ModelError, UnsupportedError
from dlc.frontend.onnx.importer import import_model
from tests.helpers.onnx_cases import (
    backend_node_cases,
    check_backend_case,
    check_node,
    feeds_of,
    one_node_model,
    run_evaluator,
)

CASES = backend_node_cases(["LSTM", "GRU", "RNN"])
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
STEPS, BATCH, WIDTH, HIDDEN = 5, 3, 4, 6
rng = np.random.default_rng(3)


def draw(*shape: int) -> np.ndarray[Any, Any]:
    """Small numbers of a normal distribution."""
    return (rng.standard_normal(shape) * 0.5).astype(np.float32)


def operands(op_type: str, directions: int, *, bias: bool = True, lengths: bool = False,
             initial: bool = False, peepholes: bool = False) -> list[np.ndarray[Any, Any] | None]:
    """Operands of a cell in ONNX's order, the optional ones on request."""
    rows = GATES[op_type] * HIDDEN
    inputs = [draw(STEPS, BATCH, WIDTH), draw(directions, rows, WIDTH), draw(directions, rows, HIDDEN),
              draw(directions, 2 * rows) if bias else None,
              np.array([STEPS, 2, 4], np.int32) if lengths else None,
              draw(directions, BATCH, HIDDEN) if initial else None]
    if op_type == "LSTM":
        inputs += [draw(directions, BATCH, HIDDEN) if initial else None,
                   draw(directions, 3 * HIDDEN) if peepholes else None]
    return inputs


def outputs(op_type: str) -> int:
    return 3 if op_type == "LSTM" else 2


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backend_node_cases(case: Any) -> None:
    check_backend_case(case)


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("options", [
    {}, {"bias": False}, {"lengths": True}, {"initial": True}, {"lengths": True, "initial": True},
])
@pytest.mark.parametrize("opset", [7, 14, 22])
def test_cells(op_type: str, direction: str, options: dict[str, bool], opset: int) -> None:
    directions = 2 if direction == "bidirectional" else 1
    # The reference knows no sequence_lens and no bidirectional GRU; onnxruntime judges.
    check_node(op_type, operands(op_type, directions, **options), outputs(op_type),
               {"hidden_size": HIDDEN, "direction": direction}, opset, reference=False)


@pytest.mark.parametrize("op_type", GATES)
def test_symbolic_extents(op_type: str) -> None:
    check_node(op_type, operands(op_type, 2, lengths=True), outputs(op_type),
               {"hidden_size": HIDDEN, "direction": "bidirectional"}, 14, constants=[1, 2, 3], symbolic=True,
               reference=False)


@pytest.mark.parametrize("op_type", GATES)
def test_symbolic_weights(op_type: str) -> None:
    """hidden_size tells the number of hidden units where no operand's type does."""
    check_node(op_type, operands(op_type, 1, initial=True), outputs(op_type), {"hidden_size": HIDDEN}, 14,
               symbolic=True, reference=False)


def test_symbolic_weights_without_a_size() -> None:
    model = one_node_model("GRU", operands("GRU", 1, bias=False), 2, {}, 14, symbolic=True)
    with pytest.raises(UnsupportedError, match="hidden units"):
        import_model(model)
    model = one_node_model("GRU", operands("GRU", 1, bias=False), 2, {"hidden_size": -1}, 14, symbolic=True)
    with pytest.raises(ModelError, match="must be positive"):
        import_model(model)


@pytest.mark.parametrize("direction, directions", [("forward", 1), ("bidirectional", 2)])
@pytest.mark.parametrize("attributes", [{}, {"input_forget": 1}, {"clip": 0.3}])
def test_lstm_with_peepholes(direction: str, directions: int, attributes: dict[str, Any]) -> None:
    inputs = operands("LSTM", directions, initial=True, peepholes=True)
    check_node("LSTM", inputs, 3, {"hidden_size": HIDDEN, "direction": direction, **attributes}, 14,
               reference=False)


@pytest.mark.parametrize("linear_before_reset", [0, 1])
@pytest.mark.parametrize("attributes", [{}, {"clip": 0.3}, {"direction": "reverse"}])
def test_gru_variants(linear_before_reset: int, attributes: dict[str, Any]) -> None:
    check_node("GRU", operands("GRU", 1, initial=True), 2,
               {"hidden_size": HIDDEN, "linear_before_reset": linear_before_reset, **attributes}, 14,
               reference=False)


ACTIVATIONS = ["Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh",
               "HardSigmoid", "Elu", "Softsign", "Softplus"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_rnn(name: str) -> None:
    attributes: dict[str, Any] = {"hidden_size": HIDDEN, "activations": [name]}
    if name in ("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"):
        attributes["activation_alpha"] = [0.3]
    if name in ("Affine", "ScaledTanh", "HardSigmoid"):
        attributes["activation_beta"] = [0.4]
    check_node("RNN", operands("RNN", 1), 2, attributes, 14, reference=False)


@pytest.mark.parametrize("name", ["LeakyRelu", "HardSigmoid", "Elu"])
def test_default_alphas_are_those_of_the_operators(name: str) -> None:
    check_node("RNN", operands("RNN", 1), 2, {"hidden_size": HIDDEN, "activations": [name]}, 14,
               reference=False)


@pytest.mark.parametrize("op_type, activations", [
    ("LSTM", ["HardSigmoid", "LeakyRelu", "Tanh"]), ("GRU", ["HardSigmoid", "Softsign"]),
])
def test_alphas_are_consumed_by_the_functions_that_take_one(op_type: str, activations: list[str]) -> None:
    inputs = operands(op_type, 2)
    check_node(op_type, inputs, outputs(op_type),
               {"hidden_size": HIDDEN, "direction": "bidirectional", "activations": activations * 2,
                "activation_alpha": [0.25, 0.1] * 2 if op_type == "LSTM" else [0.25, 0.3],
                "activation_beta": [0.45, 0.55]}, 14, reference=False)


@pytest.mark.parametrize("op_type", GATES)
def test_layout_1_is_batch_first(op_type: str) -> None:
    inputs = operands(op_type, 2, initial=True)
    plain = check_node(op_type, inputs, outputs(op_type),
                       {"hidden_size": HIDDEN, "direction": "bidirectional"}, 14, reference=False)
    first = list(inputs)
    for index in (0, 5, 6):
        if index < len(first) and first[index] is not None:
            first[index] = np.swapaxes(first[index], 0, 1).copy()
    model = one_node_model(op_type, first, outputs(op_type),
                           {"hidden_size": HIDDEN, "direction": "bidirectional", "layout": 1}, 14)
    y, *states = run_evaluator(model, feeds_of(model, first))
    np.testing.assert_array_equal(y, plain[0].transpose(2, 0, 1, 3))
    for state, expected in zip(states, plain[1:], strict=True):
        np.testing.assert_array_equal(state, expected.transpose(1, 0, 2))


@pytest.mark.parametrize("names", [["y", "", ""], ["", "h", ""], ["", "", "c"], ["y", "h"]])
def test_unwanted_outputs_may_be_absent(names: list[str]) -> None:
    check_node("LSTM", operands("LSTM", 1), names, {"hidden_size": HIDDEN}, 14, reference=False)


@pytest.mark.parametrize("attributes, reason", [
    ({"hidden_size": 5}, "hidden_size"), ({"direction": "sideways"}, "sideways"), ({"clip": -1.0}, "clip"),
    ({"activations": ["Gelu", "Tanh", "Tanh"]}, "Gelu"), ({"activations": ["Tanh"]}, "activations"),
    ({"direction": "bidirectional"}, "axis 0"),
])
def test_impossible_cells_are_refused(attributes: dict[str, Any], reason: str) -> None:
    model = one_node_model("LSTM", operands("LSTM", 1), 3, {"hidden_size": HIDDEN, **attributes}, 14)
    with pytest.raises(ModelError, match=reason):
        import_model(model)
