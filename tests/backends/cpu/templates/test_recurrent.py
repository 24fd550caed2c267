"""Recurrent layers: values against the operators and onnxruntime, odd sizes, equal bits in any batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dlc
from dlc.ir.ops.recurrent import GRU, LSTM, RNN
from dlc.target import CpuTarget, native
from dlc.verify.tolerances import Work
from tests.backends.cpu.templates.node_runner import CompiledNode, assert_same_bits, each_target
from tests.helpers.onnx_cases import assert_agrees, one_node_model, run_onnxruntime

Array = NDArray[Any]
Operands = list["Array | None"]
Cell = LSTM | GRU | RNN

#: The operands that are constants: w, r, b.
WEIGHTS = (1, 2, 3)
FUNCTIONS = {LSTM: ("sigmoid", "tanh", "tanh"), GRU: ("sigmoid", "tanh"), RNN: ("tanh",)}


def draw(*shape: int, seed: int = 0) -> Array:
    """Small numbers of a normal distribution."""
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.4).astype(np.float32)


def cell(
    kind: type[Cell],
    hidden: int,
    direction: str = "forward",
    functions: Sequence[str] | None = None,
    clip: float | None = None,
    **extra: Any,
) -> Cell:
    """A layer with the standard activations unless `functions` names those of all directions."""
    directions = 2 if direction == "bidirectional" else 1
    names = tuple(functions) if functions else FUNCTIONS[kind] * directions
    extra = {**({"input_forget": False} if kind is LSTM else {}), **extra}
    extra = {**({"linear_before_reset": True} if kind is GRU else {}), **extra}
    alphas = tuple(0.3 + 0.1 * (index % len(FUNCTIONS[kind])) for index in range(len(names)))
    return kind(hidden, direction, names, alphas, tuple(-alpha for alpha in alphas), clip, **extra)


def operands(
    op: Cell,
    steps: int = 4,
    batch: int = 3,
    inputs: int = 5,
    bias: bool = True,
    lengths: Sequence[int] | None = None,
    initial: bool = False,
    peepholes: bool = False,
) -> Operands:
    """Operands of a layer, the optional ones on request."""
    count, rows, hidden = op.directions, op.gates * op.hidden, op.hidden
    found: Operands = [
        draw(steps, batch, inputs),
        draw(count, rows, inputs, seed=1),
        draw(count, rows, hidden, seed=2) / np.float32(max(1, hidden) ** 0.5),
        draw(count, 2 * rows, seed=3) if bias else None,
        None if lengths is None else np.array(lengths, np.int32),
        draw(count, batch, hidden, seed=4) if initial else None,
    ]
    if isinstance(op, LSTM):
        found.append(draw(count, batch, hidden, seed=5) if initial else None)
        found.append(draw(count, 3 * hidden, seed=6) if peepholes else None)
    return found


def check(op: Cell, arrays: Operands, target: CpuTarget, layers: int = 1) -> list[Array]:
    """Compile for exactly these operands, run, compare; the recurrences are the template's."""
    node = CompiledNode(op, arrays, target, constants=WEIGHTS)
    assert node.templates.count("recurrent") == layers == len(node.templates) - 1
    return node.check(arrays, Work.RECURRENT)


# --- sizes


@each_target
@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
@pytest.mark.parametrize("hidden", [1, 16, 33, 48])
def test_units_and_sequences(target: CpuTarget, kind: type[Cell], hidden: int) -> None:
    op = cell(kind, hidden, "bidirectional")
    symbols = {(0, 0): "steps", (0, 1): "batch"}
    node = CompiledNode(op, operands(op), target, symbols, WEIGHTS)
    for steps, batch in [(1, 1), (3, 2), (2, 3), (4, 5), (2, 6), (1, 7), (2, 13), (3, 26)]:
        node.check(operands(op, steps, batch), Work.RECURRENT)


@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
@pytest.mark.parametrize("steps, batch", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_do(kind: type[Cell], steps: int, batch: int) -> None:
    op = cell(kind, 20)
    symbols = {(0, 0): "steps", (0, 1): "batch", (5, 1): "batch", (6, 1): "batch"}
    present = {key: name for key, name in symbols.items() if key[0] < len(operands(op))}
    node = CompiledNode(op, operands(op, initial=True), native(), present, WEIGHTS)
    node.check(operands(op, steps, batch, initial=True), Work.RECURRENT)


# --- options


@each_target
@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [None, [4, 2, 0]])
@pytest.mark.parametrize("initial", [False, True])
def test_directions_lengths_and_states(
    target: CpuTarget, kind: type[Cell], direction: str, lengths: list[int] | None, initial: bool
) -> None:
    op = cell(kind, 20, direction)
    check(op, operands(op, bias=initial, lengths=lengths, initial=initial), target)


@each_target
@pytest.mark.parametrize("extra", [{}, {"input_forget": True}, {"clip": 0.3}])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_peepholes(target: CpuTarget, extra: dict[str, Any], direction: str) -> None:
    op = cell(LSTM, 20, direction, **extra)
    check(op, operands(op, initial=True, peepholes=True), target)


@each_target
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("bias", [False, True])
def test_reset_before_the_product(target: CpuTarget, direction: str, clip: float | None, bias: bool) -> None:
    op = cell(GRU, 20, direction, clip=clip, linear_before_reset=False)
    check(op, operands(op, initial=True, bias=bias), target)


ACTIVATIONS = [
    *("affine", "elu", "hard_sigmoid", "leaky_relu", "relu", "scaled_tanh", "sigmoid", "softplus"),
    *("softsign", "tanh", "thresholded_relu"),
]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    op = cell(RNN, 20, "reverse", [name])
    check(op, operands(op), native())
    op = cell(LSTM, 20, "forward", [name, "tanh", name])
    check(op, operands(op), native())


def test_directions_with_their_own_activations() -> None:
    op = cell(GRU, 20, "bidirectional", ["sigmoid", "tanh", "hard_sigmoid", "relu"])
    check(op, operands(op, lengths=[4, 1, 3]), native(), layers=2)


def test_weights_known_only_at_run_time_go_to_the_general_template() -> None:
    op = cell(LSTM, 20, "bidirectional")
    arrays = operands(op, lengths=[4, 1, 3], initial=True)
    node = CompiledNode(op, arrays, native())
    assert "recurrent" not in node.templates
    node.check(arrays, Work.RECURRENT)


# --- bits


@each_target
@pytest.mark.parametrize("kind", [LSTM, GRU, RNN])
def test_bits_do_not_depend_on_batch_or_chunks(target: CpuTarget, kind: type[Cell]) -> None:
    op = cell(kind, 40, "bidirectional")
    symbols = {(0, 0): "steps", (0, 1): "batch"}
    node = CompiledNode(op, operands(op), target, symbols, WEIGHTS)
    arrays = operands(op, 5, 21)
    whole = node.run(arrays)
    assert_same_bits(whole, node.run(arrays, backwards=True))
    x = arrays[0]
    assert x is not None
    for first, last in [(0, 1), (4, 6), (20, 21), (3, 12)]:
        part = node.run([x[:, first:last], *arrays[1:]])
        assert_same_bits([each[..., first:last, :] for each in whole], part)


@each_target
def test_directions_and_many_sequences_are_chunks(target: CpuTarget) -> None:
    op = cell(LSTM, 40, "bidirectional")
    node = CompiledNode(op, operands(op), target, {(0, 0): "steps", (0, 1): "batch"}, WEIGHTS)
    layer = node.cases[-1]
    assert layer.chunks({"steps": 9, "batch": 1}) == 2
    assert layer.chunks({"steps": 9, "batch": 64}) >= 8


# --- against onnxruntime


@pytest.mark.parametrize("op_type, kind, outputs", [("LSTM", LSTM, 3), ("GRU", GRU, 2), ("RNN", RNN, 2)])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_onnxruntime_agrees(op_type: str, kind: type[Cell], outputs: int, direction: str) -> None:
    op = cell(kind, 37, direction, linear_before_reset=False) if kind is GRU else cell(kind, 37, direction)
    arrays = operands(op, 6, 3, 9, lengths=[6, 2, 4], initial=True)
    attributes = {"hidden_size": 37, "direction": direction}
    model = one_node_model(op_type, arrays, outputs, attributes, 21, constants=WEIGHTS, symbolic=True)
    feeds = {f"x{i}": array for i, array in enumerate(arrays) if array is not None and i not in WEIGHTS}
    expected = run_onnxruntime(model, feeds)
    assert expected is not None
    with dlc.compile(model, strict=True, cache=False) as compiled:
        assert_agrees(list(compiled(feeds)), expected)
