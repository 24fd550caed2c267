"""Distinct rows of a matrix: their positions sorted, and neighbours that are equal made groups.

A group is first known by its number in the sorted order. Where groups are wanted in the order of their first
rows, these are counted once more, from the first position on.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.order_keys import ascending_key
from dlc.backends.triton.parts import Workspace
from dlc.backends.triton.templates.prefix import BLOCK, Prefix
from dlc.backends.triton.templates.routine import RoutineBuilder, routine_of, workspace
from dlc.backends.triton.templates.sorting import Sort
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget


@dataclasses.dataclass(frozen=True)
class Form:
    """The matrix and the results by role."""

    rows: str
    first: str
    inverse: str
    counts: str
    groups: str
    sorted: bool


def match(part: Kernel) -> Form | Declined:
    """Takes a distinct alone."""
    routine = routine_of(part, "distinct")
    if isinstance(routine, Declined):
        return routine
    rows, first, inverse, counts, groups = routine.params
    return Form(rows, first, inverse, counts, groups, bool(dict(routine.attributes)["sorted"]))


def emit(part: Kernel, form: Form, target: GpuTarget) -> Launches:
    """The sort, the groups, and the results."""
    del target
    return _Distinct(part, form).run()


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows compared element by element: an Order of dlc.backends.triton.templates.sorting."""

    part: Kernel
    name: str

    def keys(self, builder: RoutineBuilder, row: str, at: str, mask: str) -> tuple[str, ...]:
        """The position, and the key of the only element."""
        del row
        if self.part.param(self.name).type.shape[1] != 1:
            return (at,)
        return at, self._key(builder, at, "0", mask)

    def _key(self, builder: RoutineBuilder, at: str, column: str, mask: str) -> str:
        entry = 0 if column == "0" else column
        value = builder.load(self.name, at, entry, mask=mask)
        return builder.assign("key", ascending_key(self.part.param(self.name).type.dtype, value))

    def compare(
        self, builder: RoutineBuilder, left: tuple[str, ...], right: tuple[str, ...], mask: str
    ) -> tuple[str, str]:
        """By the first element that differs."""
        if len(left) == 2:
            return f"({left[1]} < {right[1]})", f"({left[1]} == {right[1]})"
        builder.line(f"sign = ({left[0]} + {right[0]}) * 0")
        width = builder.dim(self.part.param(self.name).type.shape[1])
        with builder.block(f"for column in range(0, {width}):"):
            one, other = (self._key(builder, side[0], "column", mask) for side in (left, right))
            difference = f"({one} > {other}).to(tl.int32) - ({one} < {other}).to(tl.int32)"
            builder.line(f"sign = tl.where(sign == 0, {difference}, sign)")
        return "(sign < 0)", "(sign == 0)"


class _Distinct:
    def __init__(self, part: Kernel, form: Form) -> None:
        self.part = part
        self.form = form
        self.count = part.param(form.rows).type.shape[0]
        self.order = _Rows(part, form.rows)
        self.sort = Sort(part, self.order, 1, self.count, self.count)
        #: The group of each row; of each group, where it begins, its first row, its number in results.
        self.group, self.start, self.first, self.number = (
            workspace(part, name, DType.I32, self.count) for name in ("group", "start", "first", "number")
        )
        spaces = (self.group, self.start, self.first, self.number)
        self.begins = Prefix(part, "begins", self.count, self._begins, self.sort.spaces)
        self.leads = Prefix(part, "leads", self.count, self._leads, spaces)
        counts = (self.begins.space, self.leads.space)
        self.spaces: tuple[Workspace, ...] = (*self.sort.spaces, *spaces, *counts)

    def run(self) -> Launches:
        calls = [*self.sort.calls(), *self.begins.calls(), self._groups()]
        if not self.form.sorted:
            calls += [*self.leads.calls(), self._numbers()]
        return Launches((*calls, self._results(), self._total()), self.spaces)

    def _sorted_at(self, builder: RoutineBuilder, place: str, mask: str) -> str:
        return self.sort.sorted_at(builder, builder.assign("row", "0"), place, mask)

    def _begins(self, builder: RoutineBuilder, at: str, mask: str) -> str:
        """Whether a place in the order is the first of a group."""
        later = builder.assign("later", f"{mask} & ({at} > 0)")
        sides = []
        for place in (at, builder.assign("place", f"{at} - 1")):
            position = self._sorted_at(builder, place, later)
            sides.append(self.order.keys(builder, "", position, later))
        _, same = self.order.compare(builder, sides[0], sides[1], later)
        return f"(({at} == 0) | ({same} == 0))"

    def _leads(self, builder: RoutineBuilder, at: str, mask: str) -> str:
        """Whether a row is the first of its group."""
        group = builder.load(self.group.name, at, mask=mask)
        return f"({builder.load(self.first.name, group, mask=mask)} == {at})"

    def _groups(self) -> Call:
        """Write the group of each row, and where groups begin."""
        builder = RoutineBuilder(self.part, self.spaces)
        there, place, marked, before = self.begins.before(builder)
        group = builder.assign("group", f"{before} + {marked}.to(tl.int32) - 1")
        row = self._sorted_at(builder, place, there)
        builder.store(group, self.group.name, row, mask=there)
        builder.store(place, self.start.name, group, mask=marked)
        # The sort is stable: the first row of a group in the order is the first in the matrix.
        builder.store(row, self.first.name, group, mask=marked)
        return builder.finish("distinct_groups", (self.begins.blocks,))

    def _numbers(self) -> Call:
        """Number groups by their first rows."""
        builder = RoutineBuilder(self.part, self.spaces)
        there, row, marked, before = self.leads.before(builder)
        group = builder.load(self.group.name, row, mask=there)
        builder.store(before, self.number.name, group, mask=marked)
        return builder.finish("distinct_numbers", (self.leads.blocks,))

    def _results(self) -> Call:
        builder, form = RoutineBuilder(self.part, self.spaces), self.form
        there = builder.points("point", self.count, BLOCK)
        groups = self.begins.total(builder)
        group = builder.load(self.group.name, "point", mask=there)
        number = group if form.sorted else builder.load(self.number.name, group, mask=there)
        builder.store(f"{number}.to(tl.int64)", form.inverse, "point", mask=there)
        is_first = builder.load(self.first.name, group, mask=there)
        is_first = builder.assign("is_first", f"{there} & ({is_first} == point)")
        start = builder.load(self.start.name, group, mask=is_first)
        following = builder.assign("following", f"{group} + 1")
        has_next = builder.assign("has_next", f"{is_first} & ({following} < {groups})")
        end = builder.load(self.start.name, following, mask=has_next)
        end = f"tl.where({has_next}, {end}, {builder.dim(self.count)})"
        builder.store("point.to(tl.int64)", form.first, number, mask=is_first)
        builder.store(f"({end} - {start}).to(tl.int64)", form.counts, number, mask=is_first)
        rest = builder.assign("rest", f"{there} & (point >= {groups})")
        for name in (form.first, form.counts):
            builder.store("tl.full((), 0, tl.int64)", name, "point", mask=rest)
        return builder.finish("distinct", (tiles.blocks(self.count, BLOCK),))

    def _total(self) -> Call:
        builder = RoutineBuilder(self.part, self.spaces)
        total = self.begins.total(builder)
        builder.store(f"{total}.to(tl.int64)", self.form.groups)
        return builder.finish("distinct_count", (1,), num_warps=1)
