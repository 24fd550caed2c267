"""The k first elements of rows in order: short rows in one launch, by rank; long ones by a sort."""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.order_keys import ascending_key
from dlc.backends.triton.templates.routine import RoutineBuilder, routine_of
from dlc.backends.triton.templates.sorting import Sort
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.ir.dims import Dim, product
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget

_POINTS = 256


@dataclasses.dataclass(frozen=True)
class Form:
    """The parameters by role, and the options."""

    x: str
    values: str
    indices: str
    axis: int
    k: Dim
    largest: bool


def match(part: Kernel) -> Form | Declined:
    """Takes a top_k alone."""
    routine = routine_of(part, "top_k")
    if isinstance(routine, Declined):
        return routine
    options = dict(routine.attributes)
    k, axis = options["k"], options["axis"]
    assert isinstance(k, Dim) and isinstance(axis, int)
    x, values, indices = routine.params
    return Form(x, values, indices, axis % part.param(x).type.rank, k, bool(options["largest"]))


@dataclasses.dataclass(frozen=True)
class _Elements:
    """Elements along the axis of a form: an Order of dlc.backends.triton.templates.sorting."""

    part: Kernel
    form: Form

    def index(self, builder: RoutineBuilder, row: str, at: str) -> tuple[Dim, ...]:
        """The index of an element of a tensor that has the rows of x."""
        shape = self.part.param(self.form.x).type.shape
        axis = self.form.axis
        others = builder.take_apart(row, (*shape[:axis], *shape[axis + 1 :]))
        return (*others[:axis], builder.alias(at), *others[axis:])

    def keys(self, builder: RoutineBuilder, row: str, at: str, mask: str) -> tuple[str, ...]:
        """The key of an element, smallest first."""
        x = self.form.x
        value = builder.load(x, *self.index(builder, row, at), mask=mask)
        key = ascending_key(self.part.param(x).type.dtype, value)
        return (builder.assign("key", f"(~{key})" if self.form.largest else key),)

    def compare(
        self, builder: RoutineBuilder, left: tuple[str, ...], right: tuple[str, ...], mask: str
    ) -> tuple[str, str]:
        """By keys alone."""
        del builder, mask
        return f"({left[0]} < {right[0]})", f"({left[0]} == {right[0]})"


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call | Launches:
    """One launch for rows that are one run; else the sort, and the choice of its beginning."""
    del target
    shape = part.param(form.x).type.shape
    rows = product(shape[: form.axis] + shape[form.axis + 1 :])
    elements = _Elements(part, form)
    sort = Sort(part, elements, rows, shape[form.axis], form.k)
    if sort.is_short:
        builder = RoutineBuilder(part)
        there, row, at, rank = sort.rank(builder)
        kept = builder.assign("kept", f"{there} & ({rank} < {builder.dim(form.k)})")
        _write(builder, elements, (row, at, rank), kept)
        total = rows * shape[form.axis]
        return builder.finish("top_k", (tiles.blocks(total, sort.block),))
    builder = RoutineBuilder(part, sort.spaces)
    there = builder.points("point", rows * form.k, _POINTS)
    k = builder.dim(form.k)
    row, place = builder.assign("row", f"point // ({k})"), builder.assign("place", f"point % ({k})")
    at = sort.sorted_at(builder, row, place, there)
    _write(builder, elements, (row, at, place), there)
    last = builder.finish("top_k", (tiles.blocks(rows * form.k, _POINTS),))
    return Launches((*sort.calls(), last), sort.spaces)


def _write(builder: RoutineBuilder, elements: _Elements, places: tuple[str, str, str], mask: str) -> None:
    """Write the element at a position of a row, and that, to its place in the results."""
    row, at, place = places
    form = elements.form
    value = builder.load(form.x, *elements.index(builder, row, at), mask=mask)
    result = elements.index(builder, row, place)
    builder.store(value, form.values, *result, mask=mask)
    builder.store(f"{at}.to(tl.int64)", form.indices, *result, mask=mask)
