"""Kernels of linear attention and of pooling in regions against the operators' evaluation, and natively."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest

from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError
from dlc.ir.ops.linear_attention import LinearAttention
from dlc.ir.ops.roi import MaxRoiPool
from dlc.ir.types import TensorType
from tests.helpers.native import check_native
from tests.lowering.kernels import check_rule
from tests.lowering.rules.test_pointwise import random

Array: TypeAlias = "np.ndarray[Any, Any]"
BATCH, STEPS, HEADS, WIDTH, VALUES = 2, 3, 2, 5, 19


def operands(groups: int, past: bool, decays: int | None, betas: int | None) -> list[Array | None]:
    """q, k, v, state, decay of that last extent, beta of that last extent."""
    return [
        random(BATCH, STEPS, HEADS * groups, WIDTH, seed=1),
        random(BATCH, STEPS, HEADS, WIDTH, seed=2),
        random(BATCH, STEPS, HEADS, VALUES, seed=3),
        random(BATCH, HEADS, WIDTH, VALUES, seed=4) if past else None,
        -np.abs(random(BATCH, STEPS, HEADS, decays, seed=5)) if decays else None,
        random(BATCH, STEPS, betas, seed=6) if betas else None,
    ]


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("decays, betas", [(None, None), (1, None), (WIDTH, HEADS), (None, 1)])
@pytest.mark.parametrize("past", [False, True])
def test_linear_attention(past: bool, decays: int | None, betas: int | None, groups: int) -> None:
    given = operands(groups, past, decays, betas)
    check_rule(LinearAttention(0.5), *given)
    check_native(LinearAttention(0.5), *given)


def test_types_of_linear_attention() -> None:
    batch, steps = Symbol("b"), Symbol("t")
    q, k = TensorType(DType.F16, (batch, steps, 4, 8)), TensorType(DType.F16, (batch, steps, 2, 8))
    v = TensorType(DType.F16, (batch, steps, 2, 3))
    state = TensorType(DType.F32, (batch, 2, 8, 3))
    y, after = LinearAttention(1.0).infer([q, k, v, state])
    assert (y, after) == (TensorType(DType.F16, (batch, steps, 4, 3)), state)
    with pytest.raises(InferenceError, match="multiple"):
        LinearAttention(1.0).infer([q.with_shape((batch, steps, 3, 8)), k, v])
    with pytest.raises(InferenceError, match="known"):
        LinearAttention(1.0).infer([q.with_shape((batch, steps, steps, 8)), k, v])
    with pytest.raises(InferenceError, match="decay must have rank 4"):
        LinearAttention(1.0).infer([q, k, v, None, v.with_shape((batch, steps, 2))])


REGIONS = np.float32([[0, 0, 0, 8, 5], [1, 2.5, 1.25, 7.1, 4.9], [1, 20, 20, 30, 30], [0, -9, -9, -5, -5]])


@pytest.mark.parametrize("bins", [(1, 1), (3, 2)])
def test_max_roi_pool(bins: tuple[int, int]) -> None:
    x = random(2, 3, 6, 21)
    check_rule(MaxRoiPool(*bins, 0.75), x, REGIONS)
    check_native(MaxRoiPool(*bins, 0.75), x, REGIONS)
    check_native(MaxRoiPool(*bins, 0.75), x, REGIONS, symbolic=True)


def test_types_of_max_roi_pool() -> None:
    x, rois = TensorType(DType.F32, (1, 2, 6, 6)), TensorType(DType.F32, (Symbol("r"), 5))
    assert MaxRoiPool(2, 3, 1.0).infer([x, rois]) == (TensorType(DType.F32, (Symbol("r"), 2, 2, 3)),)
    for operands_ in ([x, rois.with_shape((4, 4))], [x.with_shape((2, 6, 6)), rois]):
        with pytest.raises(InferenceError):
            MaxRoiPool(2, 3, 1.0).infer(operands_)
    with pytest.raises(InferenceError, match="bins"):
        MaxRoiPool(0, 3, 1.0).infer([x, rois])
