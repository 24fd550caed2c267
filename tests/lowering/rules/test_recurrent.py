"""Kernels of recurrent layers, attention and quantization against the operators' own evaluation."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.ir.dtypes import DType
from dlc.ir.ops.attention import Attention, RotaryEmbedding
from dlc.ir.ops.quantization import DequantizeLinear, QuantizeLinear
from dlc.ir.ops.recurrent import GRU, LSTM, RNN
from dlc.verify.tolerances import Work
from tests.lowering.kernels import check_rule
from tests.lowering.rules.test_pointwise import SPECIAL, integers, random

Array: TypeAlias = "np.ndarray[Any, Any]"

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 2


def weights(gates: int, directions: int) -> tuple[Array, Array, Array]:
    """w, r and b of a layer."""
    return (
        random(directions, gates * HIDDEN, INPUTS, seed=1),
        random(directions, gates * HIDDEN, HIDDEN, seed=2),
        random(directions, 2 * gates * HIDDEN, seed=3),
    )


def repeated(functions: tuple[str, ...], directions: int) -> dict[str, Any]:
    """The activations of all directions, without parameters."""
    count = len(functions) * directions
    return {"activations": functions * directions, "alphas": (0.0,) * count, "betas": (0.0,) * count}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [None, [5, 3, 0]])
@pytest.mark.parametrize("clip", [None, 0.4])
def test_lstm(direction: str, lengths: list[int] | None, clip: float | None) -> None:
    directions = 2 if direction == "bidirectional" else 1
    op = LSTM(
        HIDDEN, direction, **repeated(("sigmoid", "tanh", "tanh"), directions), clip=clip, input_forget=False
    )
    h, c = (random(directions, BATCH, HIDDEN, seed=seed) for seed in (4, 5))
    counts = None if lengths is None else np.array(lengths, np.int32)
    x = random(STEPS, BATCH, INPUTS)
    check_rule(op, x, *weights(4, directions), counts, h, c, random(directions, 3 * HIDDEN, seed=6))
    check_rule(op, x, *weights(4, directions)[:2])


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("linear", [False, True])
def test_gru(direction: str, linear: bool) -> None:
    directions = 2 if direction == "bidirectional" else 1
    op = GRU(
        HIDDEN, direction, **repeated(("sigmoid", "tanh"), directions), clip=None, linear_before_reset=linear
    )
    h = random(directions, BATCH, HIDDEN, seed=4)
    check_rule(op, random(STEPS, BATCH, INPUTS), *weights(3, directions), None, h)
    check_rule(op, random(STEPS, BATCH, INPUTS), *weights(3, directions), np.array([2, 5, 1], np.int32), h)


@pytest.mark.parametrize("function", ["tanh", "relu", "softsign", "softplus", "sigmoid"])
def test_rnn(function: str) -> None:
    op = RNN(HIDDEN, "reverse", **repeated((function,), 1), clip=None)
    check_rule(op, random(STEPS, BATCH, INPUTS), *weights(1, 1))


def test_recurrences_of_no_steps() -> None:
    op = RNN(HIDDEN, "forward", **repeated(("tanh",), 1), clip=None)
    check_rule(op, random(0, BATCH, INPUTS), *weights(1, 1), None, random(1, BATCH, HIDDEN))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("past", [0, 3])
@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_attention(causal: bool, heads: tuple[int, int], past: int, mask: str | None) -> None:
    queries, keys = heads
    q, k = random(2, queries, 3, 8), random(2, keys, 5, 8, seed=1)
    v = random(2, keys, 5, 6, seed=2)
    bias: Array | None = None
    if mask == "bool":
        bias = integers(3, past + 5, low=0, high=4) > 0
    elif mask == "float":
        bias = random(2, 1, 3, past + 5, seed=3)
    pasts = [random(2, keys, past, width, seed=width) for width in (8, 6)] if past else [None, None]
    check_rule(Attention(0.35, causal), q, k, v, bias, *pasts)


def test_attention_with_a_soft_cap_and_its_scores() -> None:
    q, k, v = (random(1, 2, 4, 8, seed=seed) for seed in range(3))
    for output in range(4):
        check_rule(Attention(0.35, True, 5.0, output), q, k, v)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_rotary_embedding(interleaved: bool, positions: bool) -> None:
    x = random(2, 3, 4, 8)
    shape = (10, 3) if positions else (2, 4, 3)
    tables = [random(*shape, seed=seed) for seed in (1, 2)]
    where = integers(2, 4, dtype=np.int64, low=0, high=10) if positions else None
    check_rule(RotaryEmbedding(interleaved, 6), x, *tables, where, work=Work.POINTWISE)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantization(dtype: Any, axis: int | None) -> None:
    x = np.concatenate([random(3, 6) * np.float32(40), np.array([SPECIAL[:6]] * 2, np.float32)])
    count = () if axis is None else (x.shape[axis],)
    scale = (np.abs(random(*count)) + np.float32(0.05)).astype(np.float32)
    zero = integers(*count, dtype=dtype, low=0, high=90)
    check_rule(QuantizeLinear(axis or 0, 0, dtype_of(dtype)), x, scale, zero, work=Work.EXACT)
    stored = integers(*x.shape, dtype=dtype, low=0, high=127)
    check_rule(DequantizeLinear(axis or 0, 0, DType.F32), stored, scale, zero, work=Work.EXACT)


def dtype_of(dtype: Any) -> DType:
    """The element type that NumPy's dtype stores."""
    from dlc.ir.dtypes import from_numpy

    return from_numpy(np.dtype(dtype))


def test_quantization_in_blocks() -> None:
    x = random(4, 10) * np.float32(20)
    scale = np.abs(random(4, 4)) + np.float32(0.1)
    zero = integers(4, 4, dtype=np.uint8, low=0, high=20)
    check_rule(QuantizeLinear(1, 3, DType.U8), x, scale, zero, work=Work.EXACT)
    check_rule(
        DequantizeLinear(1, 3, DType.F32),
        integers(4, 10, dtype=np.uint8, low=0),
        scale,
        zero,
        work=Work.EXACT,
    )
