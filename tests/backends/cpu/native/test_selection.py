"""Selections natively: many elements and chunks, element types, ties and NaN, any number of threads."""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

import dlc
from dlc.ir.operator import Operator
from dlc.ir.ops.reduction import TopK
from dlc.ir.ops.selection import Distinct, NonMaxSuppression
from dlc.verify.engines import OnnxRuntime
from dlc.verify.tolerances import Work
from tests.helpers.control_models import Case
from tests.helpers.native import TARGETS, NativeNode, assert_agrees, check_native, expected

Array: TypeAlias = "np.ndarray[Any, Any]"

TYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.uint8, np.int32, np.int64]
TYPES += [np.uint64, np.bool_]
either = pytest.mark.parametrize("symbolic", [False, True])


def few(dtype: Any, *shape: int, seed: int = 0) -> Array:
    """Numbers with many equal ones; NaN, infinities and both zeros among floats, the ends among integers."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    if kind in "fV":
        pool = np.array([0.0, -0.0, 1.0, -1.5, np.nan, np.inf, -np.inf, 3.0]).astype(dtype)
    elif kind == "b":
        pool = np.array([False, True])
    else:
        pool = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 2, 5], dtype)
    return pool[rng.integers(0, len(pool), shape)]


@pytest.mark.parametrize("dtype", TYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("order", [True, False])
def test_distinct_rows(dtype: Any, order: bool) -> None:
    for symbolic, shape in ((True, (57, 3)), (False, (200, 1)), (True, (1, 2))):
        check_native(Distinct(order), few(dtype, *shape), symbolic=symbolic, work=Work.EXACT)


@either
@pytest.mark.parametrize("rows", [0, 2, 3, 1000, 5000])
def test_distinct_elements_of_many(rows: int, symbolic: bool) -> None:
    x = np.random.default_rng(rows).integers(0, 700, (rows, 1)).astype(np.float32)
    check_native(Distinct(True), x, symbolic=symbolic, work=Work.EXACT)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("dtype", [d for d in TYPES if d is not np.bool_], ids=lambda d: np.dtype(d).name)
def test_top_k_with_ties(dtype: Any, largest: bool) -> None:
    for shape, axis, k in (((3, 40), 1, 7), ((40, 5), 0, 40), ((2, 9, 3), 1, 1), ((4, 6), 1, 0)):
        check_native(TopK(axis, k, largest), few(dtype, *shape), symbolic={40}, work=Work.EXACT)


@either
def test_top_k_of_many(symbolic: bool) -> None:
    x = np.random.default_rng(3).integers(0, 5000, (37, 2500)).astype(np.float32)
    check_native(TopK(1, 100), x, symbolic=symbolic, work=Work.EXACT)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("number", "limit"), [(1, 1), (33, 5), (300, 300), (300, 1000)])
def test_boxes_that_remain(number: int, limit: int, center: bool) -> None:
    rng = np.random.default_rng(number)
    boxes = rng.random((2, number, 4)).astype(np.float32)
    scores = rng.integers(0, 50, (2, 3, number)).astype(np.float32) / 50
    for overlap, least in ((0.3, 0.2), (0.0, -np.inf), (1.0, 0.9)):
        thresholds = np.array(overlap, np.float32), np.array(least, np.float32)
        check_native(NonMaxSuppression(limit, center), boxes, scores, *thresholds, symbolic={number})


@pytest.mark.parametrize(
    ("op", "arrays"),
    [
        (TopK(1, 50), [few(np.float32, 300, 400)]),
        (Distinct(False), [few(np.int32, 3000, 2)]),
        (
            NonMaxSuppression(20, False),
            [
                np.random.default_rng(1).random((3, 200, 4)).astype(np.float32),
                np.random.default_rng(2).random((3, 4, 200)).astype(np.float32),
                np.array(0.4, np.float32),
                np.array(0.1, np.float32),
            ],
        ),
    ],
    ids=["top-k", "distinct", "suppression"],
)
def test_threads_change_nothing(op: Operator, arrays: list[Array]) -> None:
    wanted = expected(op, arrays, {})
    for target in TARGETS:
        for threads in (1, 3):
            assert_agrees(NativeNode(op, *arrays, target=target, threads=threads).run(), wanted, Work.EXACT)


POSITIONS = Case(
    "positions",
    """main (float[n, m] x, bool[k] keep) => (int64[2, c] p, float[d, m] rows, float[e] chosen) {
      p = NonZero(x)
      rows = Compress <axis = 0> (x, keep)
      flat = Compress(x, keep)
      chosen = Exp(flat)
    }""",
    lambda rng: [
        {"x": np.where(rng.random(shape) < p, 1.5, 0).astype(np.float32), "keep": rng.random(shape[0]) < p}
        for shape in ((500, 401), (4099, 3), (1, 100_003), (20_000, 1))
        for p in (0.5, 0.001, 2)
    ],
)


@pytest.mark.parametrize("threads", [1, 3])
def test_positions_among_many(threads: int) -> None:
    model = POSITIONS.model()
    judge = OnnxRuntime(model, threads=1)
    with dlc.compile(model, threads=threads, cache=False, strict=True) as native:
        for feeds in POSITIONS.feeds(np.random.default_rng(0)):
            wanted = judge.run(feeds)
            assert_agrees(native.run(None, feeds), [np.asarray(v) for v in wanted.values()], Work.POINTWISE)
