"""Positions, distinct rows and boxes that remain: inference, rejections, and plain oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.errors import InputError
from dlc.ir.dims import Symbol, evaluate
from dlc.ir.dtypes import DType
from dlc.ir.operator import InferenceError, Operator
from dlc.ir.ops.selection import Compact, Distinct, NonMaxSuppression
from dlc.ir.types import TensorType, Type

N, K = Symbol("n"), Symbol("k")
NAN = np.nan


def types_of(op: Operator, *types: Type | None) -> list[str]:
    return list(map(str, op.infer(types)))


def tensor(dtype: DType, *shape: Any) -> TensorType:
    return TensorType(dtype, shape)


def test_inference_with_symbolic_extents() -> None:
    assert types_of(Compact(K), tensor(DType.BOOL, N)) == ["i64[k]"]
    assert types_of(Distinct(True), tensor(DType.F32, N, 3)) == ["i64[n]", "i64[n]", "i64[n]", "i64[]"]
    operands = tensor(DType.F32, 2, N, 4), tensor(DType.F32, 2, 5, N), *[tensor(DType.F32)] * 2
    assert types_of(NonMaxSuppression(3, False), *operands) == ["i64[2, 5, min(n, 3)]", "i64[2, 5]"]


@pytest.mark.parametrize(
    ("op", "types", "words"),
    [
        (Compact(K), [tensor(DType.BOOL, N, 2)], "rank"),
        (Compact(K), [tensor(DType.I64, N)], "bool"),
        (Compact(K), [None], "absent"),
        (Distinct(True), [tensor(DType.F32, N)], "rank"),
        (
            NonMaxSuppression(1, False),
            [tensor(DType.F32, 1, 3, 4), tensor(DType.F32, 1, 4), tensor(DType.F32), tensor(DType.F32)],
            "rank",
        ),
        (
            NonMaxSuppression(1, False),
            [tensor(DType.F32, 1, 3, 5), tensor(DType.F32, 1, 2, 3), tensor(DType.F32), tensor(DType.F32)],
            "boxes",
        ),
        (
            NonMaxSuppression(1, False),
            [tensor(DType.F32, 1, 3, 4), tensor(DType.F32, 1, 2, 3), tensor(DType.F32, 1), tensor(DType.F32)],
            "threshold",
        ),
    ],
)
def test_operands_that_do_not_fit(op: Operator, types: list[Type | None], words: str) -> None:
    with pytest.raises(InferenceError, match=words):
        op.infer(types)


def test_positions_and_their_number() -> None:
    x = np.array([False, True, True, False, True])
    assert Compact(K).evaluate([x], lambda _: 3)[0].tolist() == [1, 2, 4]
    assert Compact(K).evaluate([np.zeros(4, bool)], lambda _: 0)[0].tolist() == []
    with pytest.raises(InputError):
        Compact(K).evaluate([x], lambda _: 2)


rows = st.lists(
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -2.5, NAN, np.inf]), min_size=2, max_size=2), max_size=12
)


@given(rows, st.booleans())
@settings(max_examples=60, deadline=None)
def test_distinct_rows_by_comparing_each_with_each(values: list[list[float]], order: bool) -> None:
    x = np.array(values, np.float32).reshape(-1, 2)
    first, inverse, sizes, number = Distinct(order).evaluate([x], lambda dim: 0)

    def same(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
        return all(p == q or (p != p and q != q) for p, q in zip(a, b))

    groups: list[list[int]] = []
    for index, row in enumerate(x):
        known = next((group for group in groups if same(x[group[0]], row)), None)
        if known is None:
            groups.append([index])
        else:
            known.append(index)
    if order:
        # NaN behind all numbers.
        groups.sort(key=lambda group: [(v != v, 0 if v != v else v) for v in x[group[0]].tolist()])
    assert number == len(groups)
    assert first[:number].tolist() == [group[0] for group in groups]
    assert sizes[:number].tolist() == [len(group) for group in groups]
    assert [[i for i in range(len(x)) if inverse[i] == g] for g in range(len(groups))] == groups
    assert not first[number:].any() and not sizes[number:].any()


BOXES = np.array([[[0, 0, 1, 1], [1, 1, 0, 0.1], [0, 2, 1, 3], [5, 5, 5, 5]]], np.float32)


def suppressed(
    scores: list[float], limit: int = 4, overlap: float = 0.5, least: float = -np.inf
) -> list[int]:
    """The boxes of BOXES that are kept."""
    operands = [np.array(x, np.float32) for x in (BOXES, [[scores]], overlap, least)]
    kept, counts = NonMaxSuppression(limit, False).evaluate(operands, lambda dim: evaluate(dim, {}))
    chosen: list[int] = kept[0, 0, : counts[0, 0]].tolist()
    return chosen


def test_boxes_that_overlap_a_better_one_go() -> None:
    assert suppressed([0.5, 0.9, 0.1, 0.2]) == [1, 3, 2]
    assert suppressed([0.5, 0.9, 0.1, 0.2], overlap=0.9) == [1, 0, 3, 2]
    assert suppressed([0.5, 0.9, 0.1, 0.2], limit=1) == [1]
    assert suppressed([0.5, 0.9, 0.1, 0.2], limit=0) == []


def test_equal_scores_by_position_and_none_at_the_threshold() -> None:
    assert suppressed([0.5, 0.1, 0.5, 0.5]) == [0, 2, 3]
    assert suppressed([0.5, 0.1, 0.5, 0.6], least=0.5) == [3]
    assert suppressed([NAN, 0.1, NAN, 0.3], least=0.0) == [3, 1]


def test_boxes_by_their_centers() -> None:
    boxes = np.array([[[0.5, 0.5, 1, 1], [0.5, 0.5, 0.99, 1], [3, 3, 1, 1]]], np.float32)
    scores = np.array([[[0.1, 0.2, 0.3]]], np.float32)
    operands = [boxes, scores, np.array(0.5, np.float32), np.array(-np.inf, np.float32)]
    kept, counts = NonMaxSuppression(3, True).evaluate(operands, lambda dim: evaluate(dim, {}))
    assert kept[0, 0, : counts[0, 0]].tolist() == [2, 1]
