"""Laying out the arena: values whose lifetimes do not overlap may share bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.ir.dims import Dim, evaluate, free_symbols, maximum

#: Alignment of every buffer, a cache line.
ALIGN = 64
#: A symbolic extent counts as this many when sizes are compared.
TYPICAL = 64


@dataclasses.dataclass(frozen=True)
class Lifetime:
    """A value's bytes (a multiple of ALIGN) and the first and last step that touch it."""

    name: str
    bytes: Dim
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last


def lay_out(lifetimes: Sequence[Lifetime]) -> tuple[list[Dim], Dim]:
    """An offset for each value, and the size of the arena.

    Sizes that are numbers are placed by first fit, largest first. With symbolic sizes values share slots
    instead: a slot is as large as its largest value, whatever the symbols turn out to be.
    """
    if all(isinstance(life.bytes, int) for life in lifetimes):
        return _first_fit(lifetimes)
    return _slots(lifetimes)


def _number(dim: Dim) -> int:
    if isinstance(dim, int):
        return dim
    return evaluate(dim, {symbol.name: TYPICAL for symbol in free_symbols(dim)})


def _by_size(lifetimes: Sequence[Lifetime]) -> list[int]:
    return sorted(range(len(lifetimes)), key=lambda i: (-_number(lifetimes[i].bytes), lifetimes[i].first, i))


def _first_fit(lifetimes: Sequence[Lifetime]) -> tuple[list[Dim], Dim]:
    offsets: list[Dim] = [0] * len(lifetimes)
    placed: list[tuple[int, int, Lifetime]] = []
    total = 0
    for index in _by_size(lifetimes):
        life = lifetimes[index]
        size = _number(life.bytes)
        offset = 0
        for begin, end, _ in sorted((p for p in placed if p[2].overlaps(life)), key=lambda p: p[0]):
            if offset + size <= begin:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size, life))
        offsets[index] = offset
        total = max(total, offset + size)
    return offsets, total


def _slots(lifetimes: Sequence[Lifetime]) -> tuple[list[Dim], Dim]:
    slots: list[list[int]] = []
    for index in _by_size(lifetimes):
        for slot in slots:
            if not any(lifetimes[other].overlaps(lifetimes[index]) for other in slot):
                slot.append(index)
                break
        else:
            slots.append([index])
    offsets: list[Dim] = [0] * len(lifetimes)
    total: Dim = 0
    for slot in slots:
        for index in slot:
            offsets[index] = total
        sizes = list(dict.fromkeys(lifetimes[index].bytes for index in slot))
        total = total + (maximum(*sizes) if len(sizes) > 1 else sizes[0])
    return offsets, total
