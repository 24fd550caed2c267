"""Normalizations against the formulas written out for one group of elements at a time, and torch."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as npst

from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError, Operator
from dlc.ir.ops.normalization import (
    LRN,
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LogSoftmax,
    LpNorm,
    RMSNorm,
    Softmax,
)
from dlc.ir.types import TensorType
from tests.helpers.operators import Array, run, run_one

EPSILON = 1e-3


def data(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def standardized(group: Array) -> Array:
    """(x - mean) / sqrt(variance + epsilon) of a whole array."""
    numbers = [float(x) for x in group.reshape(-1)]
    mean = math.fsum(numbers) / len(numbers)
    variance = math.fsum((x - mean) ** 2 for x in numbers) / len(numbers)
    return np.asarray((group - mean) / math.sqrt(variance + EPSILON))


@given(npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5), st.data())
@settings(max_examples=30)
def test_softmax_sums_to_one_and_keeps_ratios(shape: tuple[int, ...], draw: st.DataObject) -> None:
    axis = draw.draw(st.integers(0, len(shape) - 1))
    x = data(*shape) * 5
    got = run_one(Softmax(axis), x)
    np.testing.assert_allclose(got.sum(axis=axis), 1, rtol=1e-13)
    np.testing.assert_allclose(
        np.log(got) - x,
        np.broadcast_to((np.log(got) - x).max(axis, keepdims=True), shape),
        rtol=1e-12,
        atol=1e-13,
    )
    np.testing.assert_allclose(np.exp(run_one(LogSoftmax(axis), x)), got, rtol=1e-13)


def test_softmax_of_extremes() -> None:
    x = np.array(
        [[1000.0, 1000], [-1000, -1000], [-np.inf, 0], [0, np.inf], [-np.inf, -np.inf], [np.nan, 0]],
        np.float32,
    )
    half = [0.5, 0.5]
    np.testing.assert_array_equal(
        run_one(Softmax(1), x), np.float32([half, half, [0, 1], *[[np.nan] * 2] * 3])
    )
    logs = run_one(LogSoftmax(1), np.float32([[0, 1000], [0, -1000]]))
    np.testing.assert_array_equal(logs, np.float32([[-1000, 0], [0, -1000]]))


@pytest.mark.parametrize("op", [Softmax(1), LogSoftmax(1), LpNorm(1)])
@pytest.mark.parametrize("shape", [(2, 0), (0, 2), (2, 0, 3)])
def test_nothing_to_normalize(op: Operator, shape: tuple[int, ...]) -> None:
    assert run_one(op, np.zeros(shape, np.float32)).shape == shape


@pytest.mark.parametrize("p", [1, 2])
def test_lp_norm(p: int) -> None:
    x = np.array([[3.0, -4.0], [0.0, 0.0], [1.0, np.nan]])
    norm = {1: 7.0, 2: 5.0}[p]
    got = run_one(LpNorm(1, p), x)
    np.testing.assert_allclose(got, [[3 / norm, -4 / norm], [0, 0], [np.nan, np.nan]])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("with_bias", [True, False])
def test_layer_norm(axis: int, with_bias: bool) -> None:
    x = data(2, 3, 4)
    scale, bias = data(*x.shape[axis:], seed=1), data(*x.shape[axis:], seed=2) if with_bias else None
    rows = x.reshape(-1, *x.shape[axis:])
    wanted = np.stack([standardized(row) * scale + (0 if bias is None else bias) for row in rows]).reshape(
        x.shape
    )
    y, mean, inverse = run(LayerNorm(axis, EPSILON, True), x, scale, bias)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(mean.reshape(-1), [row.mean() for row in rows], rtol=1e-12)
    np.testing.assert_allclose(
        inverse.reshape(-1), [1 / math.sqrt(row.var() + EPSILON) for row in rows], rtol=1e-12
    )
    np.testing.assert_array_equal(run_one(LayerNorm(axis, EPSILON), x, scale, bias), y)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_layer_norm_of_narrow_floats_rounds_once(dtype: type) -> None:
    x, scale, bias = (
        data(4, 50, seed=0).astype(dtype),
        data(50, seed=1).astype(dtype),
        data(50, seed=2).astype(dtype),
    )
    wide = [array.astype(np.float64) for array in (x, scale, bias)]
    y, mean, inverse = run(LayerNorm(1, EPSILON, True), x, scale, bias)
    exact = run_one(LayerNorm(1, EPSILON), *wide)
    np.testing.assert_array_equal(
        y.astype(np.float64), exact.astype(np.float32).astype(dtype).astype(np.float64)
    )
    assert mean.dtype == inverse.dtype == np.float32


def test_a_scalar_scale_broadcasts() -> None:
    x = data(2, 3)
    np.testing.assert_allclose(
        run_one(LayerNorm(1, EPSILON), x, np.array(2.0)), [2 * standardized(row) for row in x]
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rms_norm(axis: int) -> None:
    x, scale = data(2, 3, 4), data(4, seed=1)
    rows = x.reshape(-1, *x.shape[axis:])
    wanted = np.stack([row / math.sqrt(float((row * row).mean()) + EPSILON) * scale for row in rows]).reshape(
        x.shape
    )
    np.testing.assert_allclose(run_one(RMSNorm(axis, EPSILON), x, scale), wanted, rtol=1e-12)


def test_rms_norm_has_the_type_of_its_scale() -> None:
    x, scale = data(2, 3).astype(np.float16), data(3, seed=1).astype(np.float32)
    assert run_one(RMSNorm(1, EPSILON), x, scale).dtype == np.float32


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5), (2, 3, 2, 2)])
def test_batch_norm(shape: tuple[int, ...]) -> None:
    x = data(*shape)
    scale, bias, mean, var = data(3, seed=1), data(3, seed=2), data(3, seed=3), data(3, seed=4) ** 2
    wanted = np.stack(
        [(x[:, c] - mean[c]) / math.sqrt(var[c] + EPSILON) * scale[c] + bias[c] for c in range(3)], axis=1
    )
    np.testing.assert_allclose(run_one(BatchNorm(EPSILON), x, scale, bias, mean, var), wanted, rtol=1e-12)


def test_batch_norm_of_a_vector_has_one_channel() -> None:
    x, one = data(5), np.ones(1)
    wanted = (x - 1) / math.sqrt(1 + EPSILON) + 1
    np.testing.assert_allclose(run_one(BatchNorm(EPSILON), x, one, one, one, one), wanted)


def test_batch_norm_of_mixed_types_has_the_type_of_x() -> None:
    half, single = np.ones(3, np.float16), np.ones(3, np.float32)
    y = run_one(BatchNorm(0.0), data(2, 3).astype(np.float16), half, half, single, single)
    assert y.dtype == np.float16


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 5), (2, 4, 2, 3)])
def test_instance_and_group_norm(shape: tuple[int, ...]) -> None:
    x, scale, bias = data(*shape), data(4, seed=1), data(4, seed=2)
    column = (4, *[1] * (len(shape) - 2))
    for groups in (1, 2, 4):
        wanted = np.stack(
            [
                np.concatenate([standardized(part) for part in np.split(image, groups)])
                * scale.reshape(column)
                + bias.reshape(column)
                for image in x
            ]
        )
        np.testing.assert_allclose(
            run_one(GroupNorm(groups, EPSILON), x, scale, bias), wanted, rtol=1e-12, atol=1e-13
        )
    np.testing.assert_allclose(run_one(InstanceNorm(EPSILON), x, scale, bias), wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_lrn_sums_over_the_channels_that_exist(size: int) -> None:
    x = data(2, 5, 3)
    wanted = np.empty_like(x)
    for n, c, d in np.ndindex(*x.shape):
        first, last = max(0, c - (size - 1) // 2), min(4, c + math.ceil((size - 1) / 2))
        total = math.fsum(float(x[n, i, d]) ** 2 for i in range(first, last + 1))
        wanted[n, c, d] = x[n, c, d] / (2.0 + 0.5 / size * total) ** 0.75
    np.testing.assert_allclose(run_one(LRN(size, 0.5, 0.75, 2.0), x), wanted, rtol=1e-13)


def test_agreement_with_torch() -> None:
    import torch
    from torch.nn import functional

    x, scale, bias = (torch.tensor(array) for array in (data(2, 6, 5), data(6, seed=1), data(6, seed=2)))
    pairs = [
        (GroupNorm(3, EPSILON), functional.group_norm(x, 3, scale, bias, EPSILON)),
        (InstanceNorm(EPSILON), functional.instance_norm(x, weight=scale, bias=bias, eps=EPSILON)),
    ]
    for op, wanted in pairs:
        got = run_one(op, x.numpy(), scale.numpy(), bias.numpy())
        np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-12, atol=1e-13)
    normalized = functional.layer_norm(x, (5,), scale[:5], bias[:5], EPSILON)
    np.testing.assert_allclose(
        run_one(LayerNorm(2, EPSILON), x.numpy(), scale[:5].numpy(), bias[:5].numpy()),
        normalized.numpy(),
        rtol=1e-12,
        atol=1e-13,
    )


def test_symbolic_shapes() -> None:
    batch, length = Symbol("batch"), Symbol("length")
    x, scale = TensorType(DType.F16, (batch, length, 64)), TensorType(DType.F16, (64,))
    assert LayerNorm(2, 1e-5, True).infer([x, scale]) == (
        x,
        TensorType(DType.F32, (batch, length, 1)),
        TensorType(DType.F32, (batch, length, 1)),
    )
    channels = Symbol("channels")
    image = TensorType(DType.F32, (1, channels, 8, 8))
    vector = TensorType(DType.F32, (channels,))
    assert GroupNorm(4, 1e-5).infer([image, vector, vector]) == (image,)


def f32(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape)


@pytest.mark.parametrize(
    ("op", "operands", "reason"),
    [
        (Softmax(2), [f32(2, 3)], "axis 2 is outside"),
        (Softmax(0), [f32()], "axis 0 is outside"),
        (Softmax(0), [TensorType(DType.I32, (2,))], "the operand must be of one of the types"),
        (LayerNorm(1, 0.1), [f32(2, 3), f32(4)], "scale with extent 4"),
        (LayerNorm(1, 0.1), [f32(2, 3), f32(1, 2, 3)], "scale of rank 3"),
        (LayerNorm(1, 0.1), [f32(2, 3), TensorType(DType.F16, (3,))], "one element type"),
        (LayerNorm(2, 0.1), [f32(2, 3), f32(3)], "axis 2 is outside"),
        (RMSNorm(1, 0.1), [f32(2, 3), f32(4)], "scale with extent 4"),
        (BatchNorm(0.1), [f32(2, 3), *[f32(3)] * 3, f32(4)], r"var must have the shape \[3\]"),
        (BatchNorm(0.1), [f32(), *[f32(1)] * 4], "but is a scalar"),
        (GroupNorm(2, 0.1), [f32(2, 3), f32(3), f32(3)], "3 channels do not divide into 2 groups"),
        (InstanceNorm(0.1), [f32(2), f32(2), f32(2)], "batch and a channel axis"),
        (LRN(3, 1, 1, 1), [f32(2)], "batch and a channel axis"),
        (LRN(0, 1, 1, 1), [f32(2, 2)], "size = 0"),
    ],
)
def test_unfit_operands_are_refused(op: Operator, operands: list[TensorType], reason: str) -> None:
    with pytest.raises(InferenceError, match=reason):
        op.infer(operands)
