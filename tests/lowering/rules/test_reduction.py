"""Kernels of reductions and norms against the operators' own evaluation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

from dlc.ir.dtypes import DType
from dlc.ir.operator import Operator, OperatorClass
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
from dlc.ir.ops.reduction import ArgReduce, Cumulative, Reduce, TopK
from dlc.ir.types import TensorType, Type
from dlc.lowering.draft import Names
from dlc.lowering.rules.registry import NotLowered, lower_node
from dlc.verify.tolerances import Work
from tests.lowering.kernels import check_rule, node_of
from tests.lowering.rules.test_pointwise import integers, random

Array: TypeAlias = "np.ndarray[Any, Any]"

FUNCTIONS = ["sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum", "log_sum_exp"]


@pytest.mark.parametrize("fn", FUNCTIONS)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (0, 1, 2), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(fn: str, axes: tuple[int, ...], keepdims: bool) -> None:
    check_rule(Reduce(fn, axes, keepdims), np.abs(random(3, 5, 4)) + np.float32(0.1))


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_reductions_of_symbolic_shapes(fn: str) -> None:
    check_rule(Reduce(fn, (1,), False), np.abs(random(3, 5, 4)) + np.float32(0.1), symbolic=True)


@pytest.mark.parametrize("fn", FUNCTIONS)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_reductions_over_nothing(fn: str, shape: tuple[int, ...]) -> None:
    check_rule(Reduce(fn, (0,), True), random(*shape))
    check_rule(Reduce(fn, (0, 1), False), random(*shape))


@pytest.mark.parametrize("fn", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_reductions_of_integers(fn: str, dtype: Any) -> None:
    check_rule(Reduce(fn, (1,), True), integers(3, 5, dtype=dtype, low=1))


@pytest.mark.parametrize("fn", ["sum", "mean", "max"])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64, np.int8])
def test_reductions_of_other_types(fn: str, dtype: Any) -> None:
    check_rule(Reduce(fn, (0,), False), integers(9, 4, dtype=dtype))


@pytest.mark.parametrize("fn", ["max", "min", "log_sum_exp"])
def test_reductions_of_special_values(fn: str) -> None:
    rows = [[1, math.nan], [-math.inf, -math.inf], [math.inf, 1], [math.inf, -math.inf], [0.0, -0.0]]
    check_rule(Reduce(fn, (1,), False), np.array(rows, np.float32))


@pytest.mark.parametrize("fn", ["max", "min"])
def test_reductions_of_bools(fn: str) -> None:
    check_rule(Reduce(fn, (1,), False), np.array([[True, False], [True, True], [False, False]]))


@pytest.mark.parametrize("fn", ["max", "min"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("keepdims", [False, True])
def test_arg_reductions(fn: str, last: bool, keepdims: bool) -> None:
    x = integers(4, 9, low=0, high=3)
    check_rule(ArgReduce(fn, 1, keepdims, last), x)
    check_rule(ArgReduce(fn, 0, keepdims, last), x.astype(np.float32), symbolic=True)


@pytest.mark.parametrize("fn", ["max", "min"])
@pytest.mark.parametrize("last", [False, True])
def test_arg_reductions_of_special_values(fn: str, last: bool) -> None:
    rows = [[1, math.nan, math.nan], [-math.inf, -math.inf, -math.inf], [math.inf, 1, math.inf]]
    check_rule(ArgReduce(fn, 1, False, last), np.array(rows, np.float32))


@pytest.mark.parametrize("fn", ["sum", "prod"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_functions(fn: str, exclusive: bool, reverse: bool) -> None:
    op = Cumulative(fn, 1, exclusive, reverse)
    check_rule(op, random(3, 7, 2))
    check_rule(op, random(3, 7, 2), symbolic=True)
    check_rule(op, integers(2, 5), symbolic=True)
    check_rule(op, random(3, 0))
    check_rule(Cumulative(fn, 0, exclusive, reverse), random(6))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("symbolic", [False, True])
def test_softmax(axis: int, symbolic: bool) -> None:
    check_rule(Softmax(axis), random(3, 5, 4), symbolic=symbolic)
    check_rule(LogSoftmax(axis), random(3, 5, 4), symbolic=symbolic)


def test_softmax_of_special_values() -> None:
    rows = [[1, math.nan], [-math.inf, -math.inf], [math.inf, 1], [-math.inf, 5], [88.0, -88.0]]
    check_rule(Softmax(1), np.array(rows, np.float32))
    check_rule(LogSoftmax(1), np.array(rows, np.float32))
    check_rule(Softmax(1), np.zeros((3, 0), np.float32))


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("symbolic", [False, True])
def test_layer_norm(axis: int, bias: bool, statistics: bool, symbolic: bool) -> None:
    x = random(3, 5, 4)
    scale, shift = random(*x.shape[axis:], seed=1), random(*x.shape[axis:], seed=2)
    check_rule(LayerNorm(axis, 1e-5, statistics), x, scale, shift if bias else None, symbolic=symbolic)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_layer_norm_of_other_types(dtype: Any) -> None:
    x, scale, shift = (random(*shape, dtype=dtype) for shape in ((6, 16), (16,), (16,)))
    check_rule(LayerNorm(1, 1e-5), x, scale, shift)


@pytest.mark.parametrize("symbolic", [False, True])
def test_other_norms(symbolic: bool) -> None:
    x = random(3, 6, 5)
    channels = [random(6, seed=seed) for seed in range(3)]
    check_rule(RMSNorm(2, 1e-6), x, random(5), symbolic=symbolic)
    check_rule(RMSNorm(1, 1e-6), x, random(6, 5), symbolic=symbolic)
    check_rule(BatchNorm(1e-5), x, *channels, np.abs(random(6, seed=9)), symbolic=symbolic)
    check_rule(InstanceNorm(1e-5), x, *channels[:2], symbolic=symbolic)
    check_rule(GroupNorm(3, 1e-5), x, *channels[:2])
    check_rule(LpNorm(1, 1), x, symbolic=symbolic)
    check_rule(LpNorm(2, 2), x, symbolic=symbolic)


def test_norms_of_zeros() -> None:
    check_rule(LpNorm(1, 2), np.zeros((3, 4), np.float32))
    check_rule(LpNorm(1, 1), np.zeros((3, 4), np.float32))
    check_rule(LayerNorm(1, 1e-5), np.zeros((3, 4), np.float32), random(4))


def test_batch_norm_of_one_axis() -> None:
    one = [np.array([number], np.float32) for number in (2.0, -1.0, 0.5, 4.0)]
    check_rule(BatchNorm(1e-5), random(5), *one)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_local_response_normalization(size: int) -> None:
    check_rule(LRN(size, 1e-2, 0.75, 1.5), random(2, 6, 3, 4))


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("k", [0, 1, 5, 7])
def test_top_k(largest: bool, k: int) -> None:
    x = integers(3, 7, low=0, high=4).astype(np.float32)
    x[1, 2] = math.nan
    check_rule(TopK(1, k, largest), x, work=Work.EXACT)
    check_rule(TopK(0, min(k, 3), largest), x, work=Work.EXACT)


@dataclasses.dataclass(frozen=True)
class Unknown(Operator):
    """An operator that no rule covers."""

    kind = OperatorClass.ROUTINE

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        return (TensorType(DType.F32, ()),)


def test_operators_without_a_rule_say_so() -> None:
    with pytest.raises(NotLowered, match="no kernel is written for Unknown"):
        lower_node(node_of(Unknown(), random(4)), Names())
