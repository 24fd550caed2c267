"""Kernels of recurrent layers: cells, activations and types against the operators' evaluation; their form."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.ir.dims import Guard, Relation, Symbol
from dlc.ir.ops.recurrent import ACTIVATIONS, GRU, LSTM, RNN
from dlc.lowering.draft import Names
from dlc.lowering.kernel import Contract, Map, Recur, Store
from dlc.lowering.rules.recurrent import ACTIVATIONS as FORMULAS
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.split import split_nests
from tests.lowering.kernels import OneNode, check_rule

Array: TypeAlias = "np.ndarray[Any, Any]"
Cell = LSTM | GRU | RNN

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6


def draw(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    """Small numbers of a normal distribution."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.5).astype(dtype)


def operands(op: Cell, dtype: Any = np.float32) -> list[Array]:
    """x, w, r and b of a layer."""
    count, rows = op.directions, op.gates * HIDDEN
    return [
        draw(STEPS, BATCH, INPUTS, dtype=dtype),
        draw(count, rows, INPUTS, seed=1, dtype=dtype),
        draw(count, rows, HIDDEN, seed=2, dtype=dtype),
        draw(count, 2 * rows, seed=3, dtype=dtype),
    ]


def rnn(*functions: str, direction: str = "forward", alpha: float = 0.3, beta: float = -0.4) -> RNN:
    """A simple cell with these activations."""
    count = len(functions)
    return RNN(HIDDEN, direction, functions, (alpha,) * count, (beta,) * count, None)


def lstm(direction: str, clip: float | None = None, input_forget: bool = False) -> LSTM:
    """A cell with the standard activations."""
    count = 6 if direction == "bidirectional" else 3
    functions = ("sigmoid", "tanh", "tanh") * (count // 3)
    return LSTM(HIDDEN, direction, functions, (0.0,) * count, (0.0,) * count, clip, input_forget)


def gru(direction: str, linear_before_reset: bool, second: tuple[str, str] = ("sigmoid", "tanh")) -> GRU:
    """A cell; `second` are the activations of the second direction."""
    functions = ("sigmoid", "tanh") + (second if direction == "bidirectional" else ())
    zeros = (0.0,) * len(functions)
    return GRU(HIDDEN, direction, functions, zeros, zeros, None, linear_before_reset)


def test_every_activation_has_a_formula() -> None:
    assert FORMULAS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    check_rule(rnn(name), *operands(rnn(name)))


@pytest.mark.parametrize("name", ["elu", "hard_sigmoid", "softplus", "tanh", "thresholded_relu"])
def test_activations_of_large_arguments(name: str) -> None:
    op = rnn(name)
    x, w, r, b = operands(op)
    x[:, 0], x[:, 1] = 200, -200
    check_rule(op, x, w, r, b)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("input_forget", [False, True])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_peepholes(direction: str, input_forget: bool, clip: float | None) -> None:
    op = lstm(direction, clip, input_forget)
    states = [draw(op.directions, BATCH, HIDDEN, seed=seed) for seed in (4, 5)]
    check_rule(op, *operands(op), None, *states, draw(op.directions, 3 * HIDDEN, seed=6))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("symbolic", [False, True])
def test_gated_units_of_any_size(direction: str, linear: bool, symbolic: bool) -> None:
    op = gru(direction, linear)
    lengths = np.array([5, 1, 3], np.int32)
    guard = Guard(Relation.EQ, Symbol("s4"), INPUTS, "the inputs of x and w")
    check_rule(op, *operands(op), lengths, symbolic=symbolic, constants=(1, 2, 3), guards=[guard])
    check_rule(op, *operands(op)[:3])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_element_types(dtype: Any) -> None:
    for op in (lstm("bidirectional"), gru("reverse", False), rnn("tanh")):
        check_rule(op, *operands(op, dtype))


def bodies(op: Cell, *more: Array | None) -> list[list[type]]:
    """The types of the stages of each launch."""
    one = OneNode(op, [*operands(op), *more], constants=(1, 2, 3))
    parts = split_nests(lower_node(one.node, Names(one.env)))
    return [[type(stage) for stage in part.kernel.body] for part in parts]


def test_the_input_of_all_steps_is_multiplied_by_a_launch_of_its_own() -> None:
    assert bodies(lstm("forward")) == [[Contract, Store], [Recur, Store, Store]]


def test_both_directions_are_one_recurrence_if_their_activations_agree() -> None:
    assert bodies(gru("bidirectional", True)) == [[Contract, Store], [Recur, Store]]
    apart = gru("bidirectional", True, second=("sigmoid", "relu"))
    assert bodies(apart) == [[Contract, Store], [Recur, Store], [Recur, Store]]
    check_rule(apart, *operands(apart))


def test_a_step_multiplies_for_all_gates_at_once() -> None:
    for op, expected in [
        (lstm("forward"), [Contract]),
        (gru("forward", True), [Contract]),
        (gru("forward", False), [Contract, Contract]),
    ]:
        one = OneNode(op, operands(op))
        recur = next(s for s in lower_node(one.node, Names(one.env)).kernel.body if isinstance(s, Recur))
        assert [type(stage) for stage in recur.body if not isinstance(stage, Map | Store)] == expected
