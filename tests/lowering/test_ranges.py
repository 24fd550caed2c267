"""Proofs about indices: what they must find, and by brute force that they find nothing that is false."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.errors import InputError
from dlc.ir.dims import (
    Dim,
    Guard,
    Relation,
    Symbol,
    broadcast,
    ceildiv,
    evaluate,
    floordiv,
    maximum,
    minimum,
    mod,
)
from dlc.lowering.assumptions import assume
from dlc.lowering.exhaustive import exhaustively_within, positions
from dlc.lowering.expr import InRange
from dlc.lowering.ranges import Space
from dlc.lowering.stores import are_disjoint, is_injective

N, M = Symbol("n"), Symbol("m")
I, J = Symbol("i"), Symbol("j")  # noqa: E741


def space(i: Dim = N, j: Dim = M, guards: Sequence[Guard] = (), mask: Sequence[InRange] = ()) -> Space:
    return Space({"i": i, "j": j}, assume(guards)).given(mask)


PROVED: list[tuple[Dim, Dim, Space]] = [
    (I, N, space()),
    (I * M + J, N * M, space()),
    (N - 1 - I, N, space()),
    (floordiv(I * M + J, M), N, space()),
    (mod(I * M + J, M), M, space()),
    (I + J, N + M - 1, space()),
    (2 * I + 1, 2 * N, space()),
    (minimum(maximum(I - 3, 0), N - 1), N, space()),
    (I * minimum(N - 1, 1), N, space(i=broadcast(N, M))),
    (I - 3, N, space(mask=[InRange(I - 3, 0, N)])),
    (I - 3, N, space(i=N + 3, mask=[InRange(I, 3, N + 3)])),
    (I, M, space(guards=[Guard(Relation.EQ, N, M, "")])),
    (I + 5, M, space(guards=[Guard(Relation.LE, N + 5, M, "")])),
    (I + 5, M, space(guards=[Guard(Relation.LT, N + 4, M, "")])),
    (2 * I, N, space(i=ceildiv(N, 2))),
    (J + I * (N - 1 - 2 * J), N, space(i=2, j=N)),
    (
        minimum(mod(I - 4, maximum(2 * N - 2, 1)), maximum(2 * N - 2, 1) - mod(I - 4, maximum(2 * N - 2, 1))),
        N,
        space(i=N + 8, guards=[Guard(Relation.LE, 1, N, "")]),
    ),
    (
        I * minimum(minimum(N, 128) - 1, 1),
        128,
        space(guards=[Guard(Relation.EQ, (N - minimum(N, 128)) * (N - 1) * (minimum(N, 128) - 1), 0, "")]),
    ),
    (I, 1, space(i=floordiv(N + 15, 48), guards=[Guard(Relation.EQ, floordiv(N + 15, 48), 1, "")])),
    (I, N, space(i=0)),
    (
        floordiv(I * minimum(2 * broadcast(N, M) - 1, 1), 2) * minimum(N - 1, 1),
        N,
        space(i=broadcast(2 * broadcast(N, M), Symbol("k")), guards=[Guard(Relation.LE, 1, N, "")]),
    ),
    (I + minimum(N, M), N, space(i=maximum(minimum(N, 2 * M) - minimum(N, M), 0))),
]


@pytest.mark.parametrize(("index", "high", "points"), PROVED, ids=lambda case: str(case)[:40])
def test_what_is_proved(index: Dim, high: Dim, points: Space) -> None:
    assert points.within(index, 0, high)


REFUSED: list[tuple[Dim, Dim, Space]] = [
    (I, N - 1, space()),
    (I + 1, N, space()),
    (I - 1, N, space()),
    (I, M, space()),
    (I * M + J, N * M - 1, space()),
    (I * minimum(N - 1, 1), N, space(i=M)),
    (I - 3, N, space(mask=[InRange(I - 2, 0, N)])),
    (I, M, space(guards=[Guard(Relation.LE, N, M + 1, "")])),
    (0, N, Space({})),
]


@pytest.mark.parametrize(("index", "high", "points"), REFUSED, ids=lambda case: str(case)[:40])
def test_what_is_false_is_not_proved(index: Dim, high: Dim, points: Space) -> None:
    assert not points.within(index, 0, high)


EXTENTS: list[Dim] = [0, 1, 2, 5, N, M, N + 1, N + M, floordiv(N + 1, 2), broadcast(N, M)]


@st.composite
def indices(draw: st.DrawFn, depth: int = 3) -> Dim:
    """Expressions over two axes and two symbols."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from([I, J, N, M, 0, 1, 2, 3]))
    left, right = draw(indices(depth - 1)), draw(indices(depth - 1))
    match draw(st.integers(0, 7)):
        case 0 | 1:
            return left + right
        case 2:
            return left - right
        case 3:
            return left * draw(st.integers(-2, 3))
        case 4:
            return minimum(left, right) if left is not right else left
        case 5:
            return maximum(left, right) if left is not right else left
        case 6:
            return left * minimum(draw(st.sampled_from(EXTENTS)) - 1, 1)
    divisor = draw(st.integers(2, 4))
    return floordiv(left, divisor) if draw(st.booleans()) else mod(left, divisor)


def all_points(points: Space, env: dict[str, int]) -> list[dict[str, int]]:
    extents = {name: evaluate(extent, env) for name, extent in points.extents.items()}
    ranges = itertools.product(*map(range, extents.values()))
    found = [{**env, **dict(zip(extents, point))} for point in ranges]
    return [
        e
        for e in found
        if all(evaluate(m.low, e) <= evaluate(m.index, e) < evaluate(m.high, e) for m in points.mask)
    ]


@given(indices(), indices(), st.sampled_from(EXTENTS), st.sampled_from(EXTENTS), st.data())
@settings(max_examples=150, deadline=None)
def test_proofs_hold_for_numbers(index: Dim, high: Dim, i: Dim, j: Dim, data: st.DataObject) -> None:
    mask = data.draw(st.lists(st.builds(InRange, indices(1), st.just(0), indices(1)), max_size=1))
    guards = data.draw(st.lists(st.sampled_from(GUARDS), max_size=2))
    points = space(i, j, guards, mask)
    if not points.within(index, 0, high):
        return
    for n, m in itertools.product((0, 1, 2, 3, 7), repeat=2):
        env = {"n": n, "m": m}
        if not all(guard.holds(env) for guard in guards) or (n != m and 1 not in (n, m)):
            continue
        for point in all_points(points, env):
            assert 0 <= evaluate(index, point) < evaluate(high, point)


GUARDS = [
    Guard(Relation.EQ, N, M, ""),
    Guard(Relation.EQ, N, 2 * M, ""),
    Guard(Relation.LE, 2, N, ""),
    Guard(Relation.LT, M, N, ""),
    Guard(Relation.LE, 1, floordiv(N + 1, 2), ""),
    Guard(Relation.EQ, floordiv(N, 2), 3, ""),
]

INJECTIVE: list[tuple[list[Dim], Space, bool]] = [
    ([I, J], space(), True),
    ([I * M + J], space(), True),
    ([I + J * N], space(), True),
    ([I + J], space(), False),
    ([I], space(), False),
    ([I], space(j=1), True),
    ([N - 1 - I, J], space(), True),
    ([2 * I + J], space(j=2), True),
    ([2 * I + J], space(j=3), False),
    ([floordiv(I * M + J, 4), mod(I * M + J, 4)], space(), True),
    ([floordiv(I, 12), mod(floordiv(I, 4), 3), mod(I, 4)], space(j=1), True),
    ([floordiv(I, 12), mod(I, 4)], space(j=1), False),
    ([J + I * (N - 1 - 2 * J), I], space(i=2, j=N), True),
    ([J + I * (N - 1 - 2 * J), 0], space(i=2, j=N), False),
    ([0, 3], space(i=1, j=1), True),
]


@pytest.mark.parametrize(("index", "points", "injective"), INJECTIVE, ids=str)
def test_injective_stores(index: list[Dim], points: Space, injective: bool) -> None:
    assert is_injective(index, points) == injective


@given(st.lists(indices(2), min_size=1, max_size=2), st.sampled_from(EXTENTS), st.sampled_from(EXTENTS))
@settings(max_examples=100, deadline=None)
def test_injectivity_holds_for_numbers(index: list[Dim], i: Dim, j: Dim) -> None:
    points = space(i, j)
    if is_injective(index, points):
        for n, m in ((0, 1), (1, 4), (3, 3), (5, 1), (4, 4)):
            found = [tuple(evaluate(d, p) for d in index) for p in all_points(points, {"n": n, "m": m})]
            assert len(set(found)) == len(found)


def test_disjoint_stores() -> None:
    one, other = Space({"i": N}), Space({"i": M})
    assert are_disjoint([I], one, [I + N], other)
    assert are_disjoint([2 * I], one, [2 * I + 1], other)
    assert are_disjoint([I, 0], one, [I, 1], other)
    assert not are_disjoint([I], one, [I], other)
    assert not are_disjoint([2 * I], one, [3 * I + 1], other)
    assert are_disjoint([I + N], Space({"i": 1}), [I], one)


def test_trying_every_point() -> None:
    points = Space({"i": 6, "j": 4})
    folded = minimum(mod(I + J, 5), 4 - mod(I + J, 5) % 3)
    assert exhaustively_within(folded, 0, 5, points)
    assert not exhaustively_within(folded, 1, 5, points)
    assert not exhaustively_within(N, 0, 5, points)
    assert not exhaustively_within(I, 0, 6, Space({"i": 6000, "j": 4000}).given([InRange(J * I, 0, 3)]))
    found = positions([I * 4 + J, J], points)
    assert found is not None and found.shape == (24, 2)
    assert len(np.unique(found[:, 0])) == 24
    assert positions([I], Space({"i": N})) is None


def test_guards_that_contradict_a_divisor_are_no_error() -> None:
    with pytest.raises(InputError):
        floordiv(I, 0)
    assert not space().within(floordiv(I, 2) + mod(I, 3), 0, M)
