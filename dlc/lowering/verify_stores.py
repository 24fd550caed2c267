"""The rule of stores: plain ones hit no element twice, neither alone nor two of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from dlc.ir.dims import Dim, Guard
from dlc.lowering import expr as e
from dlc.lowering.assumptions import assume
from dlc.lowering.exhaustive import positions
from dlc.lowering.kernel import Duplicates, Kernel, Recur, Stage, Store, StoreMode
from dlc.lowering.ranges import Space
from dlc.lowering.stores import are_disjoint, is_injective


def store_problems(kernel: Kernel, guards: Sequence[Guard]) -> Iterator[str]:
    """What is wrong with the stores of `kernel`: elements that two points may hit in no certain order.

    Combining stores, and those whose last point wins, may hit an element often, and one that another stage
    has stored: stages come in order.
    """
    known = {axis.name: axis.extent for axis in kernel.axes}
    plain: list[tuple[Store, Space]] = []
    for store, steps in _stores(kernel.body, ()):
        axes = (*store.axes, *steps)
        if store.mode is not StoreMode.SET or store.duplicates is Duplicates.LAST_WINS:
            continue
        if not all(axis in known for axis in axes):
            continue
        points = Space({axis: known[axis] for axis in axes}, assume(guards)).given(store.mask)
        plain.append((store, points))
        if not is_injective(_dims(store), points) and not _all_different(store, points):
            yield f"two points may store to one element of {store.param}"
    for (first, one), (second, other) in itertools.combinations(plain, 2):
        comparable = first.param == second.param and len(first.index) == len(second.index)
        if comparable and not _separate(first, one, second, other):
            yield f"two stores may hit one element of {first.param}"


def _stores(body: Sequence[Stage], steps: tuple[str, ...]) -> Iterator[tuple[Store, tuple[str, ...]]]:
    """Every store, with the axes of the recurrences around it."""
    for stage in body:
        if isinstance(stage, Store):
            yield stage, steps
        if isinstance(stage, Recur):
            yield from _stores(stage.body, (*steps, stage.axis))


def _dims(store: Store) -> list[Dim]:
    """The entries of the index that do not come from data."""
    return [entry for entry in store.index if not isinstance(entry, e.Expr)]


def _all_different(store: Store, points: Space) -> bool:
    found = positions(_dims(store), points)
    return found is not None and len(np.unique(found, axis=0)) == len(found)


def _separate(first: Store, one: Space, second: Store, other: Space) -> bool:
    both = [
        (a, b)
        for a, b in zip(first.index, second.index)
        if not isinstance(a, e.Expr) and not isinstance(b, e.Expr)
    ]
    left, right = [a for a, _ in both], [b for _, b in both]
    if are_disjoint(left, one, right, other):
        return True
    mine, theirs = positions(left, one), positions(right, other)
    if mine is None or theirs is None:
        return False
    distinct = len(np.unique(mine, axis=0)) + len(np.unique(theirs, axis=0))
    return len(np.unique(np.concatenate([mine, theirs]), axis=0)) == distinct
