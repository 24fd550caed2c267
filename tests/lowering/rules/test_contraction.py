"""Kernels of products, convolutions and pooling against the operators' own evaluation."""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

from dlc.ir.dims import Guard, Relation, Symbol
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.convolution import Conv, ConvTranspose, Pool
from tests.lowering.kernels import check_rule
from tests.lowering.rules.test_pointwise import integers, random

Array: TypeAlias = "np.ndarray[Any, Any]"

PRODUCTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 5), (5, 4)),
    ((2, 3, 5), (2, 5, 4)),
    ((2, 3, 5), (5, 4)),
    ((3, 5), (2, 5, 4)),
    ((2, 1, 3, 5), (4, 5, 2)),
    ((5,), (5, 4)),
    ((3, 5), (5,)),
    ((5,), (5,)),
    ((3, 0), (0, 4)),
    ((0, 5), (5, 4)),
    ((1, 1), (1, 1)),
]


@pytest.mark.parametrize(("left", "right"), PRODUCTS, ids=str)
@pytest.mark.parametrize("symbolic", [False, True])
def test_products(left: tuple[int, ...], right: tuple[int, ...], symbolic: bool) -> None:
    check_rule(MatMul(), random(*left), random(*right, seed=1), symbolic=symbolic)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16, np.int32, np.int64])
def test_products_of_other_types(dtype: Any) -> None:
    check_rule(MatMul(), integers(3, 7, dtype=dtype), integers(7, 4, dtype=dtype, seed=1))


@pytest.mark.parametrize("left", [np.int8, np.uint8])
@pytest.mark.parametrize("right", [np.int8, np.uint8])
def test_products_of_bytes(left: Any, right: Any) -> None:
    check_rule(
        MatMul(),
        integers(3, 7, dtype=left, low=-128, high=256),
        integers(7, 4, dtype=right, low=-128, high=256, seed=1),
    )


def pads(*pairs: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    return pairs


CONVOLUTIONS: list[tuple[Conv, tuple[int, ...], tuple[int, ...]]] = [
    (Conv((1, 1), (1, 1), pads((0, 0), (0, 0))), (2, 3, 6, 5), (4, 3, 3, 3)),
    (Conv((1, 1), (1, 1), pads((1, 1), (1, 1))), (2, 3, 6, 5), (4, 3, 3, 3)),
    (Conv((2, 3), (1, 1), pads((1, 0), (2, 1))), (1, 3, 9, 8), (4, 3, 3, 2)),
    (Conv((1, 2), (2, 3), pads((2, 2), (0, 3))), (1, 2, 9, 11), (3, 2, 3, 3)),
    (Conv((1, 1), (1, 1), pads((0, 0), (0, 0))), (2, 5, 4, 4), (3, 5, 1, 1)),
    (Conv((1, 1), (1, 1), pads((1, 1), (1, 1)), groups=2), (1, 4, 5, 5), (6, 2, 3, 3)),
    (Conv((1, 1), (1, 1), pads((1, 1), (1, 1)), groups=4), (1, 4, 5, 5), (4, 1, 3, 3)),
    (Conv((2, 2), (1, 1), pads((1, 1), (1, 1)), groups=4), (1, 4, 5, 5), (8, 1, 3, 3)),
    (Conv((2,), (1,), pads((3, 2))), (2, 3, 10), (4, 3, 5)),
    (Conv((1, 2, 1), (1, 1, 2), pads((1, 1), (0, 1), (2, 2))), (1, 2, 4, 5, 6), (3, 2, 2, 3, 3)),
    (Conv((1, 1), (1, 1), pads((0, 0), (0, 0))), (0, 3, 6, 5), (4, 3, 3, 3)),
]


@pytest.mark.parametrize(("op", "x", "w"), CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_convolutions(op: Conv, x: tuple[int, ...], w: tuple[int, ...], bias: bool) -> None:
    check_rule(op, random(*x), random(*w, seed=1), random(w[0], seed=2) if bias else None)


def test_convolutions_of_symbolic_planes() -> None:
    op = Conv((2, 1), (1, 1), pads((1, 1), (1, 0)))
    x, w = random(2, 3, 7, 6), random(4, 3, 3, 2, seed=1)
    check_rule(op, x, w, random(4), symbolic=True, constants=[1, 2], guards=[*enough(7, 6), channels(3)])


def enough(*extents: int) -> list[Guard]:
    """The guards that windows fit."""
    return [Guard(Relation.LE, 1, Symbol(f"s{extent}"), "a window is larger") for extent in extents]


def channels(count: int) -> Guard:
    """The guard that the channels of operand and weights agree."""
    return Guard(Relation.EQ, Symbol(f"s{count}"), count, "channels differ")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int8])
def test_convolutions_of_other_types(dtype: Any) -> None:
    op = Conv((1, 1), (1, 1), pads((1, 1), (1, 1)))
    check_rule(op, integers(1, 3, 5, 4, dtype=dtype), integers(2, 3, 3, 3, dtype=dtype, seed=1))


TRANSPOSED: list[tuple[ConvTranspose, tuple[int, ...], tuple[int, ...]]] = [
    (ConvTranspose((1, 1), (1, 1), pads((0, 0), (0, 0)), (0, 0)), (1, 3, 4, 5), (3, 2, 3, 3)),
    (ConvTranspose((2, 2), (1, 1), pads((0, 0), (0, 0)), (0, 0)), (1, 3, 4, 5), (3, 2, 3, 3)),
    (ConvTranspose((2, 3), (1, 1), pads((1, 0), (1, 2)), (1, 0)), (2, 3, 4, 3), (3, 2, 4, 3)),
    (ConvTranspose((2, 2), (2, 1), pads((1, 1), (0, 0)), (0, 0)), (1, 2, 3, 4), (2, 3, 2, 2)),
    (ConvTranspose((3, 3), (1, 1), pads((0, 0), (0, 0)), (0, 0)), (1, 2, 3, 4), (2, 3, 2, 2)),
    (ConvTranspose((2,), (1,), pads((1, 1)), (1,), groups=2), (2, 4, 5), (4, 3, 3)),
    (ConvTranspose((2, 2), (1, 1), pads((1, 1), (1, 1)), (0, 0), groups=4), (1, 4, 3, 3), (4, 1, 4, 4)),
]


@pytest.mark.parametrize(("op", "x", "w"), TRANSPOSED, ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_transposed_convolutions(
    op: ConvTranspose, x: tuple[int, ...], w: tuple[int, ...], bias: bool
) -> None:
    check_rule(op, random(*x), random(*w, seed=1), random(w[1] * op.groups, seed=2) if bias else None)


def test_transposed_convolutions_of_symbolic_planes() -> None:
    op = ConvTranspose((2, 2), (1, 1), pads((1, 1), (0, 1)), (0, 0))
    x, w = random(2, 3, 7, 6), random(3, 4, 3, 2, seed=1)
    check_rule(op, x, w, symbolic=True, constants=[1], guards=[*enough(7, 6), channels(3)])


POOLS: list[tuple[Pool, tuple[int, ...]]] = [
    (Pool("max", (2, 2), (2, 2), (1, 1), pads((0, 0), (0, 0))), (2, 3, 6, 5)),
    (Pool("max", (3, 3), (2, 1), (1, 1), pads((1, 1), (1, 1))), (1, 2, 7, 6)),
    (Pool("max", (3, 2), (1, 2), (2, 1), pads((1, 1), (0, 1)), ceil_mode=True), (1, 2, 8, 7)),
    (Pool("average", (2, 2), (2, 2), (1, 1), pads((0, 0), (0, 0))), (2, 3, 6, 5)),
    (Pool("average", (3, 3), (2, 2), (1, 1), pads((1, 1), (1, 0))), (1, 2, 7, 6)),
    (Pool("average", (3, 3), (2, 2), (1, 1), pads((1, 1), (1, 1)), count_include_pad=True), (1, 2, 7, 6)),
    (Pool("average", (3, 3), (2, 2), (1, 1), pads((1, 1), (1, 1)), ceil_mode=True), (1, 2, 8, 6)),
    (
        Pool("average", (3,), (2,), (1,), pads((1, 1)), ceil_mode=True, count_include_pad=True),
        (1, 2, 8),
    ),
    (Pool("average", (2, 2), (1, 1), (2, 3), pads((1, 1), (0, 0))), (1, 2, 6, 7)),
    (Pool("lp", (2, 3), (2, 1), (1, 1), pads((0, 1), (1, 1)), p=2), (1, 2, 5, 6)),
    (Pool("lp", (2,), (2,), (1,), pads((0, 0)), p=3), (1, 2, 8)),
    (Pool("max", (2, 2, 2), (1, 2, 1), (1, 1, 1), pads((0, 0), (0, 0), (1, 0))), (1, 2, 3, 4, 5)),
    (Pool("max", (2, 2), (2, 2), (1, 1), pads((0, 0), (0, 0)), indices=True), (2, 3, 6, 5)),
    (Pool("max", (3, 3), (1, 2), (1, 1), pads((1, 1), (1, 1)), indices=True), (2, 2, 4, 5)),
    (
        Pool("max", (3, 2), (2, 2), (1, 1), pads((1, 0), (0, 1)), indices=True, column_major=True),
        (1, 2, 6, 5),
    ),
]


@pytest.mark.parametrize(("op", "shape"), POOLS, ids=str)
@pytest.mark.parametrize("symbolic", [False, True])
def test_pools(op: Pool, shape: tuple[int, ...], symbolic: bool) -> None:
    check_rule(op, random(*shape), symbolic=symbolic, guards=enough(*shape[2:]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16])
def test_pools_of_other_types(dtype: Any) -> None:
    op = Pool("max", (2, 2), (2, 2), (1, 1), pads((1, 1), (0, 0)))
    check_rule(op, integers(1, 2, 6, 4, dtype=dtype, low=-128, high=128))


def test_pools_of_special_values() -> None:
    x = np.array([[[-np.inf, -np.inf, 1, np.nan, 2, np.inf, -np.inf]]], np.float32)
    check_rule(Pool("max", (2,), (1,), (1,), pads((1, 1)), indices=True), x)
    check_rule(Pool("average", (2,), (1,), (1,), pads((1, 1))), x)


@pytest.mark.parametrize("fn", ["max", "average", "lp"])
def test_windows_wholly_in_the_padding(fn: str) -> None:
    between = Pool(fn, (2,), (1,), (2,), pads((1, 1)), indices=fn == "max")
    check_rule(between, random(2, 3, 1))
    beside = Pool(fn, (2,), (1,), (1,), pads((4, 5)), indices=fn == "max")
    check_rule(beside, random(2, 3, 2))
