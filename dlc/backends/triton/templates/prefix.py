"""How many points before each one are marked: counts of blocks, their sums, and sums within blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

from dlc.backends.triton import tiles
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.parts import Workspace
from dlc.backends.triton.templates.routine import RoutineBuilder, workspace
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Kernel

BLOCK = 1024

#: Writes which of the points `at` are marked, where `mask` holds; gives the source of that bool.
Marks: TypeAlias = Callable[[RoutineBuilder, str, str], str]


@dataclasses.dataclass(frozen=True)
class Prefix:
    """The numbers of marked points, of `length` in all; `name` tells its memory from others of the part.

    `uses` are workspaces that the marks are read from.
    """

    part: Kernel
    name: str
    length: Dim
    marks: Marks
    uses: tuple[Workspace, ...] = ()

    @property
    def space(self) -> Workspace:
        """The marked points before each block, and of all."""
        return workspace(self.part, self.name, DType.I32, self.blocks + 1)

    @property
    def blocks(self) -> Dim:
        """The number of blocks, which is that of the programs of a function that uses `before`."""
        return tiles.blocks(self.length, BLOCK)

    def calls(self) -> tuple[Call, Call]:
        """The launches that must have been made before `before` is read."""
        return self._count(), self._sum()

    def builder(self) -> RoutineBuilder:
        """A function that may read the marks and what is before them."""
        return RoutineBuilder(self.part, (*self.uses, self.space))

    def before(self, builder: RoutineBuilder) -> tuple[str, str, str, str]:
        """Write where this program's points exist, they, whether they are marked, and how many before are."""
        there, marked = self._marked(builder)
        first = builder.load(self.space.name, builder.assign("block", "tl.program_id(0)"))
        builder.line(f"ones = {marked}.to(tl.int32)")
        before = builder.assign("before", f"{first} + tl.cumsum(ones, 0) - ones")
        return there, "point", marked, before

    def total(self, builder: RoutineBuilder) -> str:
        """Write the number of all marked points."""
        return builder.load(self.space.name, self.blocks)

    def _marked(self, builder: RoutineBuilder) -> tuple[str, str]:
        there = builder.points("point", self.length, BLOCK)
        return there, builder.assign("marked", f"{there} & {self.marks(builder, 'point', there)}")

    def _count(self) -> Call:
        builder = self.builder()
        _, marked = self._marked(builder)
        block = builder.assign("block", "tl.program_id(0)")
        builder.store(f"tl.sum({marked}.to(tl.int32), 0)", self.space.name, block)
        return builder.finish("count", (self.blocks,))

    def _sum(self) -> Call:
        """One program; the number of all stands behind those of the blocks."""
        builder = self.builder()
        blocks = builder.dim(self.blocks)
        builder.line("total = tl.program_id(0)")
        with builder.block(f"for start in range(0, {blocks}, {BLOCK}):"):
            at = builder.assign("at", f"start + tl.arange(0, {BLOCK})")
            inside = builder.assign("inside", f"{at} < {blocks}")
            count = builder.load(self.space.name, at, mask=inside)
            builder.store(f"total + tl.cumsum({count}, 0) - {count}", self.space.name, at, mask=inside)
            builder.line(f"total += tl.sum({count}, 0)")
        builder.store("total", self.space.name, self.blocks)
        return builder.finish("count_sums", (1,))
