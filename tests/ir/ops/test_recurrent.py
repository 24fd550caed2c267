"""Recurrent cells: inference, and the rules on sequence lengths that no other test pins down."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.recurrent import ACTIVATIONS, GRU, LSTM, RNN
from dlc.ir.types import TensorType

T, B = Symbol("t"), Symbol("b")
LSTM_FUNCTIONS = ("sigmoid", "tanh", "tanh")
rng = np.random.default_rng(0)


def lstm(direction: str = "forward", hidden: int = 4) -> LSTM:
    """An LSTM with the default activations."""
    count = 2 if direction == "bidirectional" else 1
    zeros = (0.0,) * 3 * count
    return LSTM(hidden, direction, LSTM_FUNCTIONS * count, zeros, zeros, None, False)


def types(directions: int, gates: int, hidden: int) -> list[TensorType]:
    """x, w and r of a cell with 3 inputs."""
    return [TensorType(DType.F32, (T, B, 3)), TensorType(DType.F32, (directions, gates * hidden, 3)),
            TensorType(DType.F32, (directions, gates * hidden, hidden))]


def arrays(directions: int, gates: int, steps: int = 5, batch: int = 3, hidden: int = 4) -> list[Any]:
    """x, w and r as numbers."""
    return [rng.standard_normal(shape).astype(np.float32) for shape in
            ((steps, batch, 3), (directions, gates * hidden, 3), (directions, gates * hidden, hidden))]


def test_shapes_of_the_outputs() -> None:
    y, h, c = lstm("bidirectional").infer(types(2, 4, 4))
    assert y == TensorType(DType.F32, (T, 2, B, 4)) and h == c == TensorType(DType.F32, (2, B, 4))
    gru = GRU(4, "reverse", ("sigmoid", "tanh"), (0.0,) * 2, (0.0,) * 2, None, True)
    assert len(gru.infer(types(1, 3, 4))) == 2


@pytest.mark.parametrize("op, operands", [
    (lstm("bidirectional"), types(1, 4, 4)), (lstm(), types(1, 3, 4)), (lstm("sideways"), types(1, 4, 4)),
    (RNN(4, "forward", ("gelu",), (0.0,), (0.0,), None), types(1, 1, 4)),
    (RNN(4, "forward", ("tanh",) * 2, (0.0,) * 2, (0.0,) * 2, None), types(1, 1, 4)),
])
def test_cells_that_do_not_fit(op: Any, operands: list[TensorType]) -> None:
    with pytest.raises(InferenceError):
        op.infer(operands)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_shorter_sequence_does_not_see_its_padding(direction: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    x, w, r = arrays(directions, 4)
    lengths = np.array([5, 2, 0], np.int32)
    y, h, c = lstm(direction).evaluate([x, w, r, None, lengths], int)
    for row, length in enumerate(lengths):
        assert not y[length:, :, row].any()
        if length:
            alone = lstm(direction).evaluate([x[:length, row:row + 1], w, r], int)
            np.testing.assert_allclose(y[:length, :, row], alone[0][:, :, 0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(h[:, row], alone[1][:, 0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(c[:, row], alone[2][:, 0], rtol=1e-5, atol=1e-6)
    assert not h[:, 2].any() and not c[:, 2].any()


def test_reverse_is_forward_of_the_reversed_input() -> None:
    x, w, r = arrays(1, 4)
    forward = lstm("forward").evaluate([x, w, r], int)
    backward = lstm("reverse").evaluate([x[::-1], w, r], int)
    np.testing.assert_array_equal(forward[0], backward[0][::-1])
    np.testing.assert_array_equal(forward[1], backward[1])


def test_no_steps_give_the_initial_state() -> None:
    x, w, r = arrays(1, 4, steps=0)
    initial = rng.standard_normal((1, 3, 4)).astype(np.float32)
    y, h, c = lstm().evaluate([x, w, r, None, None, initial, initial], int)
    assert y.shape == (0, 1, 3, 4)
    np.testing.assert_array_equal(h, initial)
    np.testing.assert_array_equal(c, initial)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_finite_for_large_arguments(name: str) -> None:
    x = np.array([-1e4, -100, -1, 0, 1, 100, 1e4], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = ACTIVATIONS[name](x, 0.5, 0.25)
    assert y.dtype == np.float32 and np.isfinite(y).all()


def test_float16_is_rounded_once() -> None:
    operands = [array.astype(np.float16) for array in arrays(1, 4)]
    narrow = lstm().evaluate(operands, int)
    wide = lstm().evaluate([operand.astype(np.float32) for operand in operands], int)
    for got, exact in zip(narrow, wide, strict=True):
        np.testing.assert_array_equal(got, exact.astype(np.float16))
