"""Reductions, and what is computed of them along the same rows: softmax, norms, argmax, small products.

A row is the reduced axes at one point of the others. Where a row has a known, moderate length a program
keeps whole rows in registers and reads memory once; else it walks each row in blocks, once a stage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.backends.triton import tiles
from dlc.backends.triton.combiners import combiner
from dlc.backends.triton.elements import register_type
from dlc.backends.triton.expressions import Emitter, Points
from dlc.backends.triton.function_builder import Call, FunctionBuilder
from dlc.backends.triton.offsets import Tile
from dlc.backends.triton.semantics import constant
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dims import Dim, bounds
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.inspect import loads, roots
from dlc.lowering.kernel import Axis, Contract, Duplicates, Kernel, Map, Monoid, Reduce, Store, StoreMode
from dlc.lowering.monoids import identity
from dlc.target import GpuTarget

#: The longest row that is kept in registers, and the points of a program's block.
RESIDENT = 8192
POINTS = 4096
#: The length from which rows are long, and how many are few; also where the length is not known.
_LONG = 32768
_FEW, _FEW_OF_UNKNOWN = 64, 4
#: Products with at least so many rows and columns are for matrix instructions.
_TILE = 16


@dataclasses.dataclass(frozen=True)
class Form:
    """The stages in order, contractions as sums; the axes of a row, and those that number rows."""

    body: tuple[Reduce | Map | Store, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    maps: dict[str, Map]

    @property
    def length(self) -> Dim:
        """The points of a row."""
        return tiles.extent_of(self.columns)

    @property
    def is_few_and_long(self) -> bool:
        """Whether rows have to be cut for a GPU to be busy: see dlc.backends.triton.templates.long_rows."""
        count, length = tiles.extent_of(self.rows), self.length
        most = bounds(length)[1]
        few = _FEW if isinstance(length, int) else _FEW_OF_UNKNOWN
        return isinstance(count, int) and 0 < count <= few and (most is None or most >= _LONG)


def match(part: Kernel) -> Form | Declined:
    """Takes reductions of one shape, with maps and plain stores over the axes of their rows."""
    form = read(part)
    if isinstance(form, Form) and form.is_few_and_long:
        return Declined("rows are few and long")
    return form


def read(part: Kernel) -> Form | Declined:
    """What `match` takes, however many rows there are."""
    body: list[Reduce | Map | Store] = []
    maps: dict[str, Map] = {}
    for stage in part.body:
        match stage:
            case Contract() if _is_small(part, stage):
                product = e.Binary(stage.out.dtype, "mul", stage.left, stage.right)
                body.append(Reduce((stage.out,), stage.spec.reduce, Monoid.SUM, (product,)))
            case Reduce():
                body.append(stage)
            case Map(out, _):
                maps[out.name] = stage
            case Store(mode=StoreMode.SET, duplicates=Duplicates.FORBIDDEN):
                body.append(stage)
            case _:
                return Declined(f"a {type(stage).__name__} is not computed row by row")
    reduces = [stage for stage in body if isinstance(stage, Reduce)]
    if not reduces:
        return Declined("nothing is reduced")
    first = reduces[0]
    rows, columns = first.outs[0].axes, first.axes
    for reduce in reduces:
        if set(reduce.outs[0].axes) != set(rows) or set(reduce.axes) != set(columns):
            return Declined("reductions go along different axes")
    results = {out.name: out for reduce in reduces for out in reduce.outs}
    for stage in body:
        if isinstance(stage, Store) and not set(stage.axes) <= {*rows, *columns}:
            return Declined(f"the store to {stage.param} walks axes that are not those of the rows")
    for stage in part.body:
        for node in e.walk(*roots(stage)):
            if isinstance(node, e.Read) and node.local in results:
                out = results[node.local]
                if node.mask or node.index != tuple(part.axis(axis).symbol for axis in out.axes):
                    return Declined(f"{node.local} is read at another point than where it is computed")
    return Form(tuple(body), *_orders(part, rows, columns), maps)


def _is_small(part: Kernel, stage: Contract) -> bool:
    """Whether a contraction has too few rows or columns for matrix instructions."""
    sides = (stage.spec.rows, stage.spec.columns)
    extents = (tiles.extent_of([part.axis(axis) for axis in axes]) for axes in sides)
    return any(isinstance(extent, int) and extent < _TILE for extent in extents)


def _orders(
    part: Kernel, rows: Sequence[str], columns: Sequence[str]
) -> tuple[tuple[Axis, ...], tuple[Axis, ...]]:
    """Both groups of axes in the order of memory of the load that moves along most of them."""
    names = (*rows, *columns)
    found = max(loads(part.body), key=lambda load: len(_moving(part, load, names)), default=None)
    if found is None:
        return tuple(map(part.axis, rows)), tuple(map(part.axis, columns))
    ordered = [tuple(tiles.by_stride(part, found.param, found.index, names)) for names in (rows, columns)]
    return ordered[0], ordered[1]


def _moving(part: Kernel, load: e.Load, names: Sequence[str]) -> list[Dim]:
    """The strides of a load along those axes that it moves along."""
    steps = (tiles.stride(part.param(load.param), load.index, part.axis(name)) for name in names)
    return [step for step in steps if step is not None and step != 0]


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call:
    """One program a block of rows."""
    return RowWriter(part, form).run()


class RowWriter:
    """Writes a function of blocks of rows."""

    rows: Tile
    outer: Emitter

    def __init__(self, part: Kernel, form: Form) -> None:
        self.form = form
        self.builder = FunctionBuilder(part)
        self.count = tiles.extent_of(form.rows)
        length = form.length
        self.resident = isinstance(length, int) and length <= RESIDENT
        contiguous = any(
            tiles.stride(part.param(load.param), load.index, axis) == 1
            for load in loads(part.body)
            for axis in form.columns
        )
        most = RESIDENT if self.resident else 1024 if contiguous else 32
        self.width = tiles.fitting(length, 1, most)
        self.height = tiles.fitting(self.count, 1, max(1, min(128, POINTS // self.width)))

    def run(self) -> Call:
        builder, form = self.builder, self.form
        self.begin()
        if self.resident:
            self.outer = self.outer.inner(self._columns("0"))
        for stage in form.body:
            if isinstance(stage, Reduce):
                self.reduce(stage)
            elif isinstance(stage, Store):
                self._store(stage)
        warps = min(8, max(1, self.height * self.width // 512))
        return builder.finish("rows", (tiles.blocks(self.count, self.height),), num_warps=warps)

    def begin(self) -> None:
        """Write the rows of this program."""
        first = f"{tiles.program_id(self.builder, 0)} * {self.height}"
        self.builder.line(f"row = ({first} + tl.arange(0, {self.height}))[:, None]")
        self.rows = tiles.tile(self.builder, "row", self.form.rows, self.height)
        self.outer = Emitter(self.builder, Points((self.rows,)), maps=self.form.maps)

    def _columns(self, start: str) -> Points:
        """Write the indices of a block of columns; the points of the rows along it."""
        builder = self.builder
        first = f"{start} + " if start != "0" else ""
        builder.line(f"column = {first}tl.arange(0, {self.width})[None, :]")
        return Points((self.rows, tiles.tile(builder, "column", self.form.columns, self.width)))

    def loop(self) -> str:
        """The header of the loop over the blocks of a row."""
        return f"for start in range(0, {self.builder.dim(self.form.length)}, {self.width}):"

    def reduce(self, stage: Reduce) -> None:
        """Write a reduction: its results become variables of a value a row."""
        builder = self.builder
        dtypes = [value.dtype for value in stage.values]
        none = [constant(n, d) for n, d in zip(identity(stage.monoid, dtypes), dtypes, strict=True)]
        combine = combiner(stage.monoid, dtypes[0])
        if self.resident:
            parts = self._terms(self.outer, stage, none)
        else:
            shape = (self.height, self.width)
            parts = [
                builder.assign("acc", f"tl.full({shape}, {start}, {register_type(dtype)})")
                for start, dtype in zip(none, dtypes)
            ]
            with builder.block(self.loop()):
                emitter = self.outer.inner(self._columns("start"))
                terms = self._terms(emitter, stage, none)
                both = ", ".join((*parts, *terms))
                builder.line(f"{', '.join(parts)} = {combine}({both})")
        for out in stage.outs:
            self.outer.locals[out.name] = builder.name("r")
        names = ", ".join(self.outer.locals[out.name] for out in stage.outs)
        if len(parts) == 1:
            builder.line(f"{names} = tl.reduce({parts[0]}, 1, {combine}, keep_dims=True)")
        else:
            builder.line(f"{names} = tl.reduce(({', '.join(parts)}), 1, {combine}, keep_dims=True)")

    def _terms(self, emitter: Emitter, stage: Reduce, none: Sequence[str]) -> list[str]:
        """The values to combine, as full blocks, the identity where there is no point."""
        builder = self.builder
        mask = emitter.points.mask([axis.name for axis in self.form.columns])
        shape = f"({self.height}, {self.width})"
        terms = []
        for value, nothing in zip(stage.values, none):
            text = emitter.value(value)
            text = builder.assign("t", f"tl.broadcast_to({_held(text, value.dtype)}, {shape})")
            if mask:
                text = builder.assign("t", f"tl.where({' & '.join(mask)}, {text}, {nothing})")
            terms.append(text)
        return terms

    def _store(self, stage: Store) -> None:
        along = {axis.name for axis in self.form.columns} & set(stage.axes)
        if not along:
            emitter = self.outer if self.resident else self.outer.inner(Points((self.rows,)))
            emitter.store(stage)
        elif self.resident:
            self.outer.store(stage)
        else:
            with self.builder.block(self.loop()):
                self.outer.inner(self._columns("start")).store(stage)


def _held(text: str, dtype: DType) -> str:
    """A value as a tensor of its type: it may be a number of Python."""
    return f"tl.cast({text}, {register_type(dtype)})"
