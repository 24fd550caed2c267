"""Operators that move elements natively: modes, element types, symbolic and empty extents, faults."""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

from dlc.errors import IndexFault
from dlc.ir.dims import Symbol
from dlc.ir.ops.indexing import Gather, GatherElements, GatherND, OneHot, ScatterElements, ScatterND
from dlc.ir.ops.movement import (
    Concat,
    DimTensor,
    Expand,
    Pad,
    Range,
    Reshape,
    ReverseSequence,
    Slice,
    Tile,
    Transpose,
    Trilu,
)
from tests.helpers.native import TARGETS, NativeNode, check_native

Array: TypeAlias = "np.ndarray[Any, Any]"

TYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.int64, np.uint16, np.bool_]
TYPES += [ml_dtypes.float8_e5m2, ml_dtypes.uint4]
each_type = pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
either = pytest.mark.parametrize("symbolic", [False, True])


def some(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Numbers that every type holds."""
    return np.random.default_rng(seed).integers(0, 2 if dtype is np.bool_ else 4, shape).astype(dtype)


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@each_type
def test_movement_of_every_type(dtype: Any) -> None:
    x = some(3, 17, 5, dtype=dtype)
    check_native(Transpose((2, 0, 1)), x)
    check_native(Reshape((15, 17)), x)
    check_native(Concat(1), x, some(3, 2, 5, dtype=dtype))
    check_native(Slice((2, 16, 0), (1, 6, 5), (1, -3, 1)), x)
    check_native(Tile((2, 1, 3)), x)
    check_native(Expand((2, 3, 17, 5)), x)
    check_native(Pad((0, 1, 2), (3, 0, 1), "constant"), x, None)
    check_native(Trilu(True, 1), x)
    check_native(Gather(1), x, np.array([[0, -1], [16, 3]]))


PERMUTATIONS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)]


@either
@pytest.mark.parametrize("shape", [(2, 3, 4), (16, 1, 33), (5, 0, 2)], ids=str)
def test_transpose(shape: tuple[int, ...], symbolic: bool) -> None:
    for perm in PERMUTATIONS:
        check_native(Transpose(perm), random(*shape), symbolic=symbolic)


def test_transpose_of_ranks() -> None:
    check_native(Transpose(()), random())
    check_native(Transpose((3, 1, 0, 2, 4)), random(2, 3, 2, 3, 2))


@pytest.mark.parametrize(
    "shape,target",
    [
        ((2, 3, 4), (6, 4)),
        ((24,), (2, 3, 4)),
        ((4, 6), (3, 8)),
        ((1,), ()),
        ((2, 0), (0, 5)),
        ((6, 1), (1, 6)),
    ],
    ids=str,
)
def test_reshape(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    check_native(Reshape(target), random(*shape))


def test_symbolic_shapes() -> None:
    n, m = Symbol("s5"), Symbol("s7")
    x = random(5, 7)
    check_native(Reshape((n * m,)), x, symbolic=True)
    check_native(Expand((3, n, m)), x, symbolic=True)
    check_native(Tile((n, 2)), x, symbolic=True)
    check_native(Slice((n // 2, m - 1), (n - n // 2, m), (1, -1)), x, symbolic=True)
    check_native(Pad((n, 0), (1, m), "constant"), x, np.array(2.5, np.float32), symbolic=True)
    check_native(Trilu(False, m - n), x, symbolic=True)


@either
def test_concat(symbolic: bool) -> None:
    parts = [random(3, n, 5, seed=n) for n in (2, 1, 16, 0, 7)]
    check_native(Concat(1), *parts, symbolic=symbolic)
    check_native(Concat(2), *(part.transpose(0, 2, 1).copy() for part in parts), symbolic=symbolic)
    check_native(Concat(0), random(2), random(3))
    check_native(Concat(0), random(4, 3))


@either
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(mode: str, symbolic: bool) -> None:
    x = random(4, 5)
    for before, after in (((0, 0), (0, 0)), ((1, 2), (3, 0)), ((9, 0), (0, 11))):
        check_native(Pad(before, after, mode), x, None, symbolic=symbolic)
    check_native(Pad((2, 3), (1, 1), mode), random(1, 2), None, symbolic=symbolic)


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.int16, np.int32, np.int64, np.float16, ml_dtypes.bfloat16]
)
def test_range(dtype: Any) -> None:
    check_native(Range(37), np.array(3, dtype), np.array(2, dtype))
    check_native(Range(9), np.array(5, dtype), np.array(-1, dtype))
    check_native(Range(0), np.array(5, dtype), np.array(1, dtype))
    if np.dtype(dtype).kind == "f":
        check_native(Range(100), np.array(0.1, dtype), np.array(0.3, dtype))


def test_numbers_of_dims() -> None:
    check_native(DimTensor((2, 3, 4, 5, 6, 7), (2, 3)))
    check_native(DimTensor((7,), ()))


@either
@pytest.mark.parametrize("k", [-40, -2, 0, 1, 40])
@pytest.mark.parametrize("upper", [False, True])
def test_triangles(upper: bool, k: int, symbolic: bool) -> None:
    check_native(Trilu(upper, k), random(2, 5, 17), symbolic=symbolic)
    check_native(Trilu(upper, k), random(3, 0, 2), symbolic=symbolic)


@pytest.mark.parametrize("lengths", [np.int64, np.int32])
def test_reversed_sequences(lengths: Any) -> None:
    x = random(5, 4, 3)
    check_native(ReverseSequence(1, 0), x, np.array([0, 1, 5, 3], lengths))
    check_native(ReverseSequence(0, 1), x, np.array([0, 1, 2, 4, 3], lengths), symbolic=True)
    check_native(ReverseSequence(0, 1), random(3, 17), np.array([17, 0, 9], lengths))


# --- indices from data


@either
@pytest.mark.parametrize("indices", [np.int64, np.int32])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather(axis: int, indices: Any, symbolic: bool) -> None:
    x = random(5, 6, 17)
    check_native(Gather(axis), x, np.array([[0, -1, 4], [3, -5, 2]], indices), symbolic=symbolic)
    check_native(Gather(axis), x, np.array(2, indices), symbolic=symbolic)
    check_native(Gather(axis), x, np.zeros((0, 2), indices), symbolic=symbolic)


@either
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather_elements(axis: int, symbolic: bool) -> None:
    x = random(5, 6, 17)
    shape = [4, 5, 16]
    shape[axis] = 9
    at = np.random.default_rng(0).integers(-x.shape[axis], x.shape[axis], shape)
    check_native(GatherElements(axis), x, at, symbolic=symbolic)


@pytest.mark.parametrize("batch,width", [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1), (1, 0)])
def test_gather_nd(batch: int, width: int) -> None:
    x = random(3, 4, 5)
    shape = (3, 4, 2)[: batch + 1]
    at = np.random.default_rng(1).integers(-3, 3, (*shape, 7, width))
    if batch + width <= 3:
        check_native(GatherND(batch), x, at)


REDUCTIONS = ("none", "add", "mul", "min", "max")


@each_type
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_scattered_elements(reduction: str, dtype: Any) -> None:
    if np.dtype(dtype).itemsize == 1 and np.dtype(dtype).kind == "V" and reduction != "none":
        pytest.skip("8-bit floats and 4-bit integers are not reduced")
    x = some(5, 6, 17, dtype=dtype)
    for axis in range(3):
        shape = [4, 5, 16]
        shape[axis] = 9
        at = np.random.default_rng(axis).integers(-x.shape[axis], x.shape[axis], shape)
        check_native(ScatterElements(axis, reduction), x, at, some(*shape, dtype=dtype, seed=axis + 1))


@either
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("width", [0, 1, 2, 3])
def test_scattered_slices(width: int, reduction: str, symbolic: bool) -> None:
    x = random(3, 4, 21)
    at = np.random.default_rng(1).integers(-3, 3, (2, 5, width))
    updates = random(2, 5, *x.shape[width:], seed=2)
    extents = (3, 4, 5, 21) if symbolic and width < 3 else ()
    check_native(ScatterND(reduction), x, at, updates, symbolic=extents)
    check_native(ScatterND(reduction), x, at[:0], updates[:0], symbolic=extents)


def test_scatter_of_nan() -> None:
    x = np.float32([1, np.nan, np.inf, -np.inf, 0])
    at = np.array([0, 0, 1, 2, 3, 4, 4])
    updates = np.float32([np.nan, 1, 2, np.nan, 5, -0.0, 7])
    for reduction in REDUCTIONS:
        check_native(ScatterElements(0, reduction), x, at, updates)


def test_an_operand_that_is_also_the_update() -> None:
    x = random(6, 5)
    check_native(ScatterElements(0, "add"), x, np.random.default_rng(0).integers(0, 6, (6, 5)), x)


@either
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("values", [np.float32, np.int64, np.bool_, np.float16])
def test_one_hot(axis: int, values: Any, symbolic: bool) -> None:
    at = np.array([[0, 1, 5], [-1, -7, 4]])
    check_native(OneHot(axis, 6), at, np.array([0, 1]).astype(values), symbolic=symbolic)
    check_native(OneHot(axis, 6), at.astype(np.uint8), np.array([3, 5]).astype(values))


@pytest.mark.parametrize("target", TARGETS)
def test_faults(target: str) -> None:
    x = random(4, 5)
    cases = [
        NativeNode(Gather(0), x, np.array([0, 4]), target=target),
        NativeNode(Gather(1), x, np.array(-6), target=target),
        NativeNode(GatherElements(1), x, np.full((4, 17), 5), target=target),
        NativeNode(GatherND(0), x, np.array([[0, 0], [3, 99]]), target=target),
        NativeNode(ScatterElements(0, "none"), x, np.array([[4]]), random(1, 1), target=target),
        NativeNode(ScatterElements(1, "add"), x, np.array([[-6]]), random(1, 1), target=target),
        NativeNode(ScatterND("max"), x, np.array([[4]]), random(1, 5), target=target),
        NativeNode(ReverseSequence(1, 0), x, np.array([0, 1, 2, 3, 5]), target=target),
        NativeNode(ReverseSequence(1, 0), x, np.array([0, -1, 2, 3, 4]), target=target),
    ]
    for case in cases:
        with pytest.raises(IndexFault):
            case.run()
