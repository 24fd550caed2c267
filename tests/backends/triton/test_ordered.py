"""Operators whose stores have an order: scatters that combine, or whose last one wins."""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")

from dlc.backends.triton.templates import ordered
from dlc.errors import IndexFault
from dlc.ir.ops.indexing import ScatterElements, ScatterND
from dlc.ir.ops.reduction import Cumulative
from tests.helpers.gpu_nodes import GpuNode, check_gpu

Array: TypeAlias = "np.ndarray[Any, Any]"

REDUCTIONS = ("none", "add", "mul", "min", "max")
TYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.int8, np.int32, np.int64, np.bool_]
either = pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])


both = pytest.mark.parametrize("block", [4, ordered.BLOCK], indirect=True)


@pytest.fixture(autouse=True)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The points of a program: few, so that there are several programs, or as many as users get."""
    points: int = getattr(request, "param", 4)
    monkeypatch.setattr(ordered, "BLOCK", points)
    return points


def some(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    """Numbers that every type holds."""
    return np.random.default_rng(seed).integers(0, 2 if dtype is np.bool_ else 4, shape).astype(dtype)


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def check(op: Any, *arrays: Array | None, **options: Any) -> GpuNode:
    """As `check_gpu`; what is not scattered to is copied."""
    node = check_gpu(op, *arrays, **options)
    assert set(node.templates) <= {"ordered", "atomic", "pointwise"}, node.templates
    return node


@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_scattered_elements(reduction: str, dtype: Any) -> None:
    x = some(5, 4, dtype=dtype)
    for axis in range(2):
        shape = [4, 3]
        shape[axis] = 9
        at = np.random.default_rng(axis).integers(-x.shape[axis], x.shape[axis], shape)
        node = check(ScatterElements(axis, reduction), x, at, some(*shape, dtype=dtype, seed=axis + 1))
        commutes = dtype in (np.int32, np.int64) and reduction in ("add", "min", "max")
        assert ("atomic" if commutes else "ordered") in node.templates


@both
@either
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("width", [0, 1, 2, 3])
def test_scattered_slices(width: int, reduction: str, symbolic: bool) -> None:
    x = random(3, 4, 7)
    at = np.random.default_rng(1).integers(-3, 3, (2, 5, width))
    updates = random(2, 5, *x.shape[width:], seed=2)
    extents = (3, 4, 5, 7) if symbolic and width < 3 else ()
    check(ScatterND(reduction), x, at, updates, symbolic=extents)
    check(ScatterND(reduction), x, at[:0], updates[:0], symbolic=extents)


def test_the_last_of_equal_places_wins() -> None:
    updates = np.arange(20, dtype=np.float32)
    check(ScatterElements(0, "none"), random(4), np.tile([1, 3], 10), updates)
    check(ScatterND("none"), random(4, 6), np.full((9, 1), 2), random(9, 6))


def test_sums_have_the_order_of_the_updates() -> None:
    """Exactly: 1e8 absorbs what is added after it, not before."""
    at = np.zeros(6, np.int64)
    updates = np.array([1, 2, 1e8, 1, 2, -1e8], np.float32)
    node = GpuNode(ScatterElements(0, "add"), np.zeros(2, np.float32), at, updates)
    expected = np.float32(0)
    for update in updates:
        expected += update
    np.testing.assert_array_equal(node.run()[0], [expected, 0])


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_special_numbers(reduction: str) -> None:
    x = np.float32([1, np.nan, np.inf, -np.inf, 0])
    at = np.array([0, 0, 1, 2, 3, 4, 4])
    updates = np.float32([np.nan, 1, 2, np.nan, 5, -0.0, 7])
    check(ScatterElements(0, reduction), x, at, updates)


def test_an_operand_that_is_also_the_update() -> None:
    x = random(6, 5)
    check(ScatterElements(0, "add"), x, np.random.default_rng(0).integers(0, 6, (6, 5)), x)


def test_integers_wrap() -> None:
    x = np.array([127, -128], np.int8)
    check(ScatterElements(0, "add"), x, np.array([0, 1, 0]), np.array([1, -1, 127], np.int8))


@pytest.mark.parametrize(
    ("op", "at"),
    [
        (ScatterElements(0, "none"), np.zeros((1, 3), np.int64)),
        (ScatterElements(1, "add"), np.zeros((3, 4), np.int32)),
        (ScatterND("none"), np.zeros((7, 1), np.int64)),
        (ScatterND("max"), np.zeros((7, 1), np.int64)),
    ],
    ids=str,
)
def test_bad_indices_are_faults(op: Any, at: Array) -> None:
    x = random(4, 5)
    updates = random(7, 5) if isinstance(op, ScatterND) else random(*at.shape)
    node = GpuNode(op, x, at, updates)
    node.run()
    for position in (0, at.size - 1):
        for index in (5, -6, 1 << 30):
            wrong = at.copy()
            wrong.flat[position] = index
            with pytest.raises(IndexFault):
                node.run([x, wrong, updates])


@either
@pytest.mark.parametrize("fn", ["sum", "prod"])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumulative_functions(fn: str, exclusive: bool, reverse: bool, symbolic: bool) -> None:
    check_gpu(Cumulative(fn, 1, exclusive, reverse), random(3, 7, 2), symbolic=symbolic)
    check_gpu(Cumulative(fn, 0, exclusive, reverse), random(6), symbolic=symbolic)
