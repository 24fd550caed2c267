"""Stable sorts of the positions of a row, by the elements there: in blocks by counting, then by merging.

A position's rank in its block is the number of elements that come before its own, equal ones by position:
all pairs of a block are compared, without anything but loads. Runs are then merged two by two, one launch a
pass: an element's place in the union is its place in its own run plus the number of elements of the other
one that come before it, which a binary search finds. The result does not depend on chance, and nothing on
how long rows are.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from dlc.backends.triton import tiles
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.parts import Workspace
from dlc.backends.triton.templates.routine import RoutineBuilder, workspace
from dlc.ir.dims import Dim, Symbol, bounds, minimum
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Kernel

#: The longest rows that are sorted by counting alone, and the length of the runs of longer ones.
SHORT = 1024
RUN = 256
#: Points of a program, and elements with which they are compared at once.
_POINTS, _CHUNK = 128, 32
_MOST = 1 << 31
_WIDTH, _STEPS = Symbol("sort_width", 1), Symbol("sort_steps", 1)


class Order(Protocol):
    """How elements of rows are compared; `row` and `at` are variables of the function."""

    def keys(self, builder: RoutineBuilder, row: str, at: str, mask: str) -> tuple[str, ...]:
        """Write what is needed of the element at position `at` of `row`, where `mask` holds."""

    def compare(
        self, builder: RoutineBuilder, left: tuple[str, ...], right: tuple[str, ...], mask: str
    ) -> tuple[str, str]:
        """Write where the left element comes before the right one, and where they are equal."""


@dataclasses.dataclass(frozen=True)
class Sort:
    """The sort of `rows` rows of `length` elements; of each only the first `keep` are wanted."""

    part: Kernel
    order: Order
    rows: Dim
    length: Dim
    keep: Dim

    @property
    def is_short(self) -> bool:
        """Whether a row is one run, so that ranks are final."""
        return self.most <= SHORT

    @property
    def most(self) -> int:
        """The greatest length that is possible."""
        high = bounds(self.length)[1]
        return _MOST if high is None else high

    @property
    def block(self) -> int:
        """The points of a program that ranks them."""
        return tiles.fitting(self.rows * self.length, 1, _POINTS)

    @property
    def spaces(self) -> tuple[Workspace, Workspace]:
        """Positions in order, before and after a pass."""
        return (
            workspace(self.part, "order", DType.I32, self.rows, self.length),
            workspace(self.part, "merged", DType.I32, self.rows, self.length),
        )

    def rank(self, builder: RoutineBuilder) -> tuple[str, str, str, str]:
        """Write the ranks of this program's points in their runs.

        Returns variables of the shape [points, 1]: where points exist, row, position and rank.
        """
        total = self.rows * self.length
        block = self.block
        there = builder.points("point", total, block, "[:, None]")
        length = builder.dim(self.length)
        row, at = builder.assign("row", f"point // ({length})"), builder.assign("at", f"point % ({length})")
        own = self.order.keys(builder, row, at, there)
        begin = "0" if self.is_short else builder.assign("begin", f"{at} // {RUN} * {RUN}")
        end = length if self.is_short else builder.assign("end", f"tl.minimum({begin} + {RUN}, {length})")
        run = self.length if self.is_short else RUN
        chunk = tiles.fitting(run, 1, _CHUNK)
        builder.line(f"before = tl.full(({block}, {chunk}), 0, tl.int32)")
        with builder.block(f"for step in range(0, {builder.dim(run)}, {chunk}):"):
            other = builder.assign("other", f"{begin} + step + tl.arange(0, {chunk})[None, :]")
            both = builder.assign("both", f"{there} & ({other} < {end})")
            first = self._first(builder, (row, other), (at, own), both)
            builder.line(f"before += ({both} & {first}).to(tl.int32)")
        rank = builder.assign("rank", "tl.sum(before, 1, keep_dims=True)")
        return there, row, at, rank

    def _first(
        self, builder: RoutineBuilder, other: tuple[str, str], own: tuple[str, tuple[str, ...]], mask: str
    ) -> str:
        """Write where the other element comes before the own one."""
        row, at = other
        position, keys = own
        before, same = self.order.compare(builder, self.order.keys(builder, row, at, mask), keys, mask)
        return builder.assign("first", f"({before} | ({same} & ({at} < {position})))")

    # --- long rows

    def calls(self) -> tuple[Call, ...]:
        """The launches after which `sorted_at` finds positions."""
        return (self._runs(), *self._passes())

    @property
    def _widths(self) -> list[int]:
        """The lengths of runs before each pass."""
        return [] if self.is_short else [RUN << n for n in range(32) if RUN << n < self.most]

    def sorted_at(self, builder: RoutineBuilder, row: str, place: str, mask: str) -> str:
        """Write the position of the element that is number `place` in its row."""
        first, second = self.spaces
        if self.is_short or isinstance(self.length, int):
            return builder.load(self.spaces[len(self._widths) % 2].name, row, place, mask=mask)
        # As many passes were made as there are widths below the length.
        builder.line("swapped = 0")
        with builder.block(f"for number in range(0, {len(self._widths)}):"):
            builder.line(f"longer = ({builder.dim(self.length)} > ({RUN} << number)).to(tl.int32)")
            builder.line("swapped = swapped ^ longer")
        loads = [
            builder.load(space.name, row, place, mask=f"{mask} & (swapped == {number})")
            for number, space in enumerate((first, second))
        ]
        return builder.assign("at", " + ".join(loads))

    def _runs(self) -> Call:
        builder = RoutineBuilder(self.part, self.spaces)
        there, row, at, rank = self.rank(builder)
        begin = "" if self.is_short else f"{at} // {RUN} * {RUN} + "
        place = builder.assign("place", f"{begin}{rank}")
        kept = builder.assign("kept", f"{there} & ({rank} < {builder.dim(self.keep)})")
        builder.store(at, self.spaces[0].name, row, place, mask=kept)
        total = self.rows * self.length
        return builder.finish("sort_runs", (tiles.blocks(total, self.block),))

    def _passes(self) -> list[Call]:
        """One call a width; where rows are not longer than it there is nothing to do."""
        total = self.rows * self.length
        calls = []
        for number, width in enumerate(self._widths):
            source, target = self.spaces if number % 2 == 0 else self.spaces[::-1]
            call = self._merge(source, target)
            numbers = {_WIDTH: width, _STEPS: width.bit_length()}
            scalars = tuple(numbers.get(dim, dim) if isinstance(dim, Symbol) else dim for dim in call.scalars)
            grid: tuple[Dim, ...] = (tiles.blocks(total, 4 * _POINTS),)
            if not isinstance(self.length, int):
                grid = (grid[0] * minimum(1, (self.length - 1) // width),)
            function = dataclasses.replace(call.function, grid=grid)
            calls.append(dataclasses.replace(call, function=function, scalars=scalars))
        return calls

    def _merge(self, source: Workspace, target: Workspace) -> Call:
        builder = RoutineBuilder(self.part, self.spaces)
        there = builder.points("point", self.rows * self.length, 4 * _POINTS)
        length, width, keep = map(builder.dim, (self.length, _WIDTH, self.keep))
        row = builder.assign("row", f"point // ({length})")
        place = builder.assign("at", f"point % ({length})")
        builder.line(f"pair = {place} // (2 * {width}) * (2 * {width})")
        builder.line(f"is_first = {place} - pair < {width}")
        builder.line(f"rank = {place} - pair - tl.where(is_first, 0, {width})")
        builder.line(f"begin = pair + tl.where(is_first, {width}, 0)")
        active = builder.assign("active", f"{there} & (rank < {keep})")
        at = builder.load(source.name, row, place, mask=active)
        keys = self.order.keys(builder, row, at, active)
        builder.line("low = rank * 0")
        builder.line(f"high = tl.minimum(tl.minimum(tl.maximum({length} - begin, 0), {width}), {keep})")
        with builder.block(f"for _ in range(0, {builder.dim(_STEPS)}):"):
            builder.line("middle = (low + high) // 2")
            searching = builder.assign("searching", f"{active} & (low < high)")
            other = builder.load(source.name, row, builder.assign("there", "begin + middle"), mask=searching)
            first = self._first(builder, (row, other), (at, keys), searching)
            builder.line(f"low = tl.where({searching} & {first}, middle + 1, low)")
            builder.line(f"high = tl.where({searching} & ({first} == 0), middle, high)")
        kept = builder.assign("kept", f"{active} & (rank + low < {keep})")
        goal = builder.assign("place", "pair + rank + low")
        builder.store(at, target.name, row, goal, mask=kept)
        return builder.finish("sort_merge", (1,))
