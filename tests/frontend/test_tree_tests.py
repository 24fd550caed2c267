"""Comparisons of trees rewritten as x <= t keep their outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.frontend.onnx.tree_tests import MODES, Branches, PlainBranches, plain
from tests.helpers.onnx_cases import Array

YES, NO = ~0, ~1
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 0.1, float(np.float32(0.1)), 1e-46, -1e-46, 1e300, -1e300]
NUMBERS = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32), st.floats(), st.integers(-3, 3).map(float))


def one(mode: str, threshold: float, missing: bool, members: list[float] | None = None) -> Branches:
    """A single node with the leaves YES and NO."""
    arrays = ([0], [threshold], [MODES.index(mode)], [YES], [NO], [missing])
    sets = {} if members is None else {0: np.array(members, np.float64)}
    return Branches(*map(np.array, arrays), sets)


def outcome(tests: PlainBranches, x: Any, node: int = 0) -> bool:
    """Where the walk of x from a node ends."""
    while node >= 0:
        holds = bool(x <= tests.threshold[node]) or bool(np.isnan(x) and tests.missing[node])
        node = int((tests.yes if holds else tests.no)[node])
    return node == YES


def holds(mode: str, x: float, threshold: float) -> bool:
    """The comparison of numbers without rounding."""
    match mode:
        case "BRANCH_LEQ":
            return x <= threshold
        case "BRANCH_LT":
            return x < threshold
        case "BRANCH_GTE":
            return x >= threshold
        case "BRANCH_GT":
            return x > threshold
        case "BRANCH_EQ":
            return x == threshold
    return x != threshold


@pytest.mark.parametrize("mode", MODES[:-1])
@given(x=NUMBERS, threshold=NUMBERS, missing=st.booleans(), near=st.booleans(), double=st.booleans())
@settings(max_examples=300)
def test_comparisons(mode: str, x: float, threshold: float, missing: bool, near: bool, double: bool) -> None:
    dtype = np.dtype(np.float64 if double else np.float32)
    with np.errstate(over="ignore"):
        number = dtype.type(threshold if near else x)
    expected = holds(mode, float(number), threshold) or bool(np.isnan(number) and missing)
    assert outcome(plain(one(mode, threshold, missing), dtype), number) is expected


@given(members=st.lists(NUMBERS, max_size=12), x=NUMBERS, index=st.integers(0, 20), missing=st.booleans())
@settings(max_examples=500)
def test_sets(members: list[float], x: float, index: int, missing: bool) -> None:
    number = np.float64(members[index] if index < len(members) else x)
    tests = plain(one("BRANCH_MEMBER", 0.0, missing, members), np.dtype(np.float64))
    expected = bool(np.isin(number, members)) or bool(np.isnan(number) and missing)
    assert outcome(tests, number) is expected


def test_sets_are_searched_in_logarithmic_time() -> None:
    tests = plain(one("BRANCH_MEMBER", 0.0, False, list(range(1000))), np.dtype(np.float32))
    steps = np.zeros(len(tests.yes), np.int64)
    for node in reversed(range(1, len(tests.yes))):
        steps[node] = 1 + max(
            steps[child] if child >= 0 else 0 for child in (tests.yes[node], tests.no[node])
        )
    assert steps.max() <= 12


def chain(thresholds: list[float], **changes: Array) -> Branches:
    """x == t for each t in order, the same child for all that hold."""
    count = len(thresholds)
    arrays: dict[str, Any] = {
        "feature": np.zeros(count, np.int64),
        "threshold": np.array(thresholds),
        "mode": np.full(count, MODES.index("BRANCH_EQ")),
        "true": np.full(count, YES),
        "false": np.append(np.arange(1, count), NO),
        "missing": np.zeros(count, np.bool_),
    }
    return Branches(**(arrays | changes))


def test_a_chain_of_equalities_becomes_a_set() -> None:
    values = [float(value) for value in range(64)]
    tests = plain(chain(values), np.dtype(np.float32))
    for x in np.arange(-2, 66, 0.5, np.float32):
        assert outcome(tests, x) is (float(x) in values)
    node, steps = 0, 0
    while node >= 0:
        node, steps = int(tests.yes[node] if tests.threshold[node] >= 17 else tests.no[node]), steps + 1
    assert steps <= 8


@pytest.mark.parametrize(
    "changes",
    [
        {"feature": np.array([0, 0, 1, 0])},
        {"missing": np.array([False, True, True, False])},
        {"mode": np.array([4, 4, 0, 4])},
        {"true": np.array([YES, YES, NO, YES])},
        {"true": np.array([3, YES, YES, YES])},
    ],
)
def test_other_chains_stay_as_they_are(changes: dict[str, Array]) -> None:
    branches = chain([1.0, 2.0, 3.0, 4.0], **changes)
    tests = plain(branches, np.dtype(np.float32))
    for x in (*np.arange(0, 5.5, 0.5, np.float32), np.float32(np.nan)):
        node = 0
        while node >= 0:
            mode = MODES[branches.mode[node]]
            right = holds(mode, float(x), float(branches.threshold[node]))
            right = right or bool(np.isnan(x) and branches.missing[node])
            node = int((branches.true if right else branches.false)[node])
        assert outcome(tests, x) is (node == YES)
