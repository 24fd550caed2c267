"""Inference of attention and properties of its evaluation."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.attention import Attention, RotaryEmbedding
from dlc.ir.types import TensorType

B, S, T, P = Symbol("b"), Symbol("s"), Symbol("t"), Symbol("p")
rng = np.random.default_rng(0)


def f32(*shape: Any) -> TensorType:
    """A float tensor type."""
    return TensorType(DType.F32, shape)


def draw(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    """Numbers of a normal distribution."""
    return rng.standard_normal(shape).astype(dtype)


def test_shapes_with_past_and_scores() -> None:
    op = Attention(0.125, qk_output=3)
    operands = [f32(B, 8, S, 64), f32(B, 2, T, 64), f32(B, 2, T, 32), None,
                f32(B, 2, P, 64), f32(B, 2, P, 32)]
    assert op.infer(operands) == (f32(B, 8, S, 32), f32(B, 2, P + T, 64), f32(B, 2, P + T, 32),
                                  f32(B, 8, S, P + T))


@pytest.mark.parametrize("operands", [
    [f32(1, 3, 4, 8), f32(1, 2, 4, 8), f32(1, 2, 4, 8)],
    [f32(1, 2, 4, 8), f32(1, 2, 4, 6), f32(1, 2, 4, 8)],
    [f32(1, 2, 4, 8), f32(1, 2, 4, 8), f32(1, 2, 5, 8)],
    [f32(1, 2, 4, 8), f32(1, 2, 4, 8), f32(1, 2, 4, 8), f32(4, 5)],
    [f32(1, 2, 4, 8), f32(1, 2, 4, 8), f32(1, 2, 4, 8), TensorType(DType.I32, (4, 4))],
    [f32(1, 2, 4, 8), f32(1, 2, 4, 8), f32(1, 2, 4, 8), None, f32(1, 2, 3, 8)],
    [f32(2, 4, 8), f32(2, 4, 8), f32(2, 4, 8)],
])
def test_operands_that_do_not_fit(operands: list[TensorType | None]) -> None:
    with pytest.raises(InferenceError):
        Attention(1.0).infer(operands)


def test_past_then_one_query_equals_the_last_row_of_all() -> None:
    q, k, v = draw(1, 4, 6, 8), draw(1, 2, 6, 8), draw(1, 2, 6, 5)
    (whole,) = Attention(0.3, causal=True).evaluate([q, k, v], int)
    step, keys, values = Attention(0.3, causal=True).evaluate(
        [q[:, :, 5:], k[:, :, 5:], v[:, :, 5:], None, k[:, :, :5], v[:, :, :5]], int)
    np.testing.assert_allclose(step, whole[:, :, 5:], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(keys, k)
    np.testing.assert_array_equal(values, v)


def test_grouped_heads_equal_repeated_heads() -> None:
    q, k, v = draw(2, 6, 3, 8), draw(2, 2, 4, 8), draw(2, 2, 4, 8)
    (grouped,) = Attention(0.3).evaluate([q, k, v], int)
    (repeated,) = Attention(0.3).evaluate([q, k.repeat(3, axis=1), v.repeat(3, axis=1)], int)
    np.testing.assert_allclose(grouped, repeated, rtol=1e-6)


@pytest.mark.parametrize("mask", [np.zeros((3, 4), np.bool_), np.full((3, 4), -np.inf, np.float32)])
def test_a_query_without_keys_gives_zeros(mask: np.ndarray[Any, Any]) -> None:
    operands = [draw(1, 1, 3, 8), draw(1, 1, 4, 8), draw(1, 1, 4, 8), mask]
    y, scores = Attention(0.3, qk_output=3).evaluate(operands, int)
    assert not y.any() and not scores.any()


def test_no_keys_give_zeros() -> None:
    (y,) = Attention(0.3).evaluate([draw(1, 2, 3, 8), draw(1, 2, 0, 8), draw(1, 2, 0, 5)], int)
    assert y.shape == (1, 2, 3, 5) and not y.any()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_precision(dtype: Any) -> None:
    q, k, v = (draw(1, 2, 5, 16, dtype=dtype) for _ in range(3))
    (y,) = Attention(0.25).evaluate([q, k, v], int)
    (exact,) = Attention(0.25).evaluate([array.astype(np.float64) for array in (q, k, v)], int)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, exact, rtol=1e-3 if dtype is np.float16 else 1e-13, atol=1e-3)


def test_rotation_keeps_lengths_and_the_rest() -> None:
    angles = rng.uniform(0, 6, (10, 2)).astype(np.float32)
    x, ids = draw(1, 3, 5, 6), np.array([[0, 3, 3, 9, 1]])
    for interleaved in (False, True):
        (y,) = RotaryEmbedding(interleaved, 4).evaluate([x, np.cos(angles), np.sin(angles), ids], int)
        np.testing.assert_array_equal(y[..., 4:], x[..., 4:])
        np.testing.assert_allclose((y ** 2).sum(-1), (x ** 2).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("op, operands", [
    (RotaryEmbedding(False, 3), [f32(1, 2, 4, 8), f32(9, 1), f32(9, 1)]),
    (RotaryEmbedding(False, 10), [f32(1, 2, 4, 8), f32(1, 4, 5), f32(1, 4, 5)]),
    (RotaryEmbedding(False, 8), [f32(1, 2, 4, 8), f32(1, 4, 3), f32(1, 4, 3)]),
    (RotaryEmbedding(False, 8), [f32(2, 4, 8), f32(2, 4, 4), f32(2, 4, 4)]),
])
def test_rotations_that_do_not_fit(op: RotaryEmbedding, operands: list[TensorType]) -> None:
    with pytest.raises(InferenceError):
        op.infer(operands)
