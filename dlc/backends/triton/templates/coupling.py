"""The coupling of pairs of classes: one row a thread, whose matrix lies in memory.

The loops are those of the code for CPUs; a program goes on until none of its rows errs too much.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.templates.routine import RoutineBuilder, routine_of, workspace
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.ir.dtypes import DType
from dlc.ir.ops.coupling import PRECISION, ROUNDS
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget

#: Rows of a program: the threads of a warp, so that each thread reads what itself has written.
ROWS = 32


@dataclasses.dataclass(frozen=True)
class Form:
    """The parameters by role, and the number of classes."""

    pairs: str
    result: str
    classes: int


def match(part: Kernel) -> Form | Declined:
    """Takes a pairwise_coupling alone."""
    routine = routine_of(part, "pairwise_coupling")
    if isinstance(routine, Declined):
        return routine
    pairs, result = routine.params
    classes = part.param(result).type.shape[1]
    assert isinstance(classes, int)
    return Form(pairs, result, classes)


def emit(part: Kernel, form: Form, target: GpuTarget) -> Launches:
    """One launch."""
    del target
    return _Coupling(part, form).run()


class _Coupling:
    def __init__(self, part: Kernel, form: Form) -> None:
        self.form = form
        self.rows = part.param(form.result).type.shape[0]
        size = form.classes
        self.matrix = workspace(part, "matrix", DType.F32, size, size, self.rows)
        self.products = workspace(part, "products", DType.F32, size, self.rows)
        self.builder = RoutineBuilder(part, (self.matrix, self.products))

    def run(self) -> Launches:
        builder, classes = self.builder, self.form.classes
        self.there = builder.points("row", self.rows, ROWS)
        self._read()
        builder.line("rounds = tl.full((), 0, tl.int32)")
        builder.line("left = tl.full((), 1, tl.int32)")
        with builder.block(f"while (left > 0) & (rounds < {ROUNDS}):"):
            self._multiply()
            builder.line(f"going = {self.there} & (worst >= {PRECISION / classes!r})")
            self._improve()
            builder.line("left = tl.sum(going.to(tl.int32), 0)")
            builder.line("rounds += 1")
        call = builder.finish("pairwise_coupling", (tiles.blocks(self.rows, ROWS),), num_warps=1)
        return Launches((call,), (self.matrix, self.products))

    def _classes(self, name: str, first: str = "0") -> str:
        return f"for {name} in range({first}, {self.form.classes}):"

    # --- elements of this program's rows

    def _cell(self, i: str, j: str) -> str:
        return self.builder.load(self.matrix.name, i, j, "row", mask=self.there)

    def _set_cell(self, i: str, j: str, value: str) -> None:
        self.builder.store(value, self.matrix.name, i, j, "row", mask=self.there)

    def _product(self, i: str) -> str:
        return self.builder.load(self.products.name, i, "row", mask=self.there)

    def _set_product(self, i: str, value: str) -> None:
        self.builder.store(value, self.products.name, i, "row", mask=self.there)

    def _share(self, i: str) -> str:
        return self.builder.load(self.form.result, "row", i, mask=self.there)

    def _set_share(self, i: str, value: str) -> None:
        self.builder.store(value, self.form.result, "row", i, mask=self.there)

    # --- steps

    def _read(self) -> None:
        """Write the matrix from the probabilities of the pairs, and equal shares."""
        builder = self.builder
        with builder.block(self._classes("i")):
            self._set_cell("i", "i", f"tl.full(({ROWS},), 0, tl.float32)")
            self._set_share("i", f"tl.full(({ROWS},), {1 / self.form.classes!r}, tl.float32)")
        builder.line("pair = tl.full((), 0, tl.int32)")
        with builder.block(self._classes("i")), builder.block(self._classes("j", "i + 1")):
            one = builder.load(self.form.pairs, "row", "pair", mask=self.there)
            other = builder.assign("other", f"1.0 - {one}")
            self._set_cell("i", "i", f"{self._cell('i', 'i')} + {other} * {other}")
            self._set_cell("j", "j", f"{self._cell('j', 'j')} + {one} * {one}")
            self._set_cell("i", "j", f"{other} * {one} * -1.0")
            self._set_cell("j", "i", f"{other} * {one} * -1.0")
            builder.line("pair += 1")

    def _multiply(self) -> None:
        """Write the products of matrix and shares, their product with these, and the greatest error."""
        builder = self.builder
        zero = f"tl.full(({ROWS},), 0, tl.float32)"
        builder.line(f"value = {zero}")
        with builder.block(self._classes("i")):
            builder.line(f"total = {zero}")
            with builder.block(self._classes("j")):
                builder.line(f"total += {self._cell('i', 'j')} * {self._share('j')}")
            self._set_product("i", "total")
            builder.line(f"value += {self._share('i')} * total")
        builder.line(f"worst = {zero}")
        with builder.block(self._classes("i")):
            builder.line(f"error = tl.abs({self._product('i')} - value)")
            builder.line("worst = tl.where(error > worst, error, worst)")  # NaN is no error

    def _improve(self) -> None:
        """Write a round: a change of 0 leaves the rows as they are that are done."""
        builder = self.builder
        with builder.block(self._classes("i")):
            own, product = self._cell("i", "i"), self._product("i")
            builder.line(f"change = tl.where(going, tl.div_rn(value - {product}, {own}), 0.0)")
            self._set_share("i", f"{self._share('i')} + change")
            builder.line("scale = change + 1.0")
            builder.line(f"value += change * (change * {own} + 2.0 * {product})")
            builder.line("value = tl.div_rn(value, scale * scale)")
            with builder.block(self._classes("j")):
                moved = f"{self._product('j')} + change * {self._cell('i', 'j')}"
                self._set_product("j", f"tl.div_rn({moved}, scale)")
                self._set_share("j", f"tl.div_rn({self._share('j')}, scale)")
