"""Reductions of few long rows: of chunks first, then of their results in order.

Chunks have a length that follows from the sizes and the target, so that the result does not depend on chance.
What follows along the rows' elements is another part of the kernel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from dlc.backends.triton import tiles
from dlc.backends.triton.expressions import Points
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.parts import Workspace, workspace_name
from dlc.backends.triton.templates import rows
from dlc.backends.triton.templates.template import Declined, Launches
from dlc.errors import InternalError
from dlc.ir.dims import Dim
from dlc.ir.types import TensorType
from dlc.lowering import expr as e
from dlc.lowering.inspect import roots
from dlc.lowering.kernel import Access, Axis, AxisKind, Kernel, Map, Param, Reduce, Store
from dlc.target import GpuTarget

#: The length of chunks of rows whose length is not known.
_CHUNK = 16384
#: Programs for each multiprocessor.
_PROGRAMS = 4


@dataclasses.dataclass(frozen=True)
class Form:
    """The part as one of rows, its reductions, and the stores of their results."""

    whole: rows.Form
    reduces: tuple[Reduce, ...]
    stores: tuple[Store, ...]


def match(part: Kernel) -> Form | Declined:
    """Takes reductions that do not depend on each other, with maps, and stores of a value a row."""
    form = rows.read(part)
    if isinstance(form, Declined):
        return form
    if not form.is_few_and_long:
        return Declined("rows are many or short")
    reduces = tuple(stage for stage in form.body if isinstance(stage, Reduce))
    stores = tuple(stage for stage in form.body if isinstance(stage, Store))
    columns = {axis.name for axis in form.columns}
    if any(columns & set(store.axes) for store in stores):
        return Declined("what is stored has a value an element")
    results = {out.name for reduce in reduces for out in reduce.outs}
    if any(_read(value, form.maps) & results for reduce in reduces for value in reduce.values):
        return Declined("reductions depend on each other")
    return Form(form, reduces, stores)


def _read(value: e.Expr, maps: Mapping[str, Map]) -> set[str]:
    """The locals on which a value depends."""
    found = {node.local for node in e.walk(value) if isinstance(node, e.Read)}
    return found.union(*(_read(maps[name].value, maps) for name in found if name in maps))


def emit(part: Kernel, form: Form, target: GpuTarget) -> Launches:
    """The reduction of chunks into memory, and that of its results as rows of their own."""
    axis = Axis("chunk", 1)
    taken = {each.name for each in part.axes} | {param.name for param in part.params}
    while axis.name in taken:
        axis = dataclasses.replace(axis, name=f"{axis.name}_")
    length = _chunk(form.whole, target)
    axis = dataclasses.replace(axis, extent=tiles.blocks(form.whole.length, length))
    spaces = [_space(part, reduce, axis) for reduce in form.reduces]
    memory = tuple(space for group in spaces for space in group)
    params = tuple(Param(space.name, space.type, Access.UPDATE) for space in memory)
    wide = dataclasses.replace(part, params=(*part.params, *params), axes=(*part.axes, axis))
    first = _ChunkWriter(wide, form.whole, axis, length).partial(form.reduces, spaces)
    return Launches((first, _combined(wide, form, axis, spaces)), memory)


def _chunk(form: rows.Form, target: GpuTarget) -> int:
    """The elements of a chunk: a number of whole blocks that keeps all multiprocessors busy."""
    length, count = form.length, tiles.extent_of(form.rows)
    if not isinstance(length, int) or not isinstance(count, int):
        return _CHUNK
    wanted = max(1, _PROGRAMS * target.multiprocessors // count)
    return max(rows.POINTS, -(-length // wanted // rows.POINTS) * rows.POINTS)


def _space(part: Kernel, reduce: Reduce, axis: Axis) -> tuple[Workspace, ...]:
    """Memory for the results of each chunk."""
    return tuple(
        Workspace(
            workspace_name(f"{out.name}_chunks"),
            TensorType(out.dtype, (*(part.extent(name) for name in out.axes), axis.extent)),
        )
        for out in reduce.outs
    )


class _ChunkWriter(rows.RowWriter):
    """Writes the reductions of chunks."""

    def __init__(self, part: Kernel, form: rows.Form, axis: Axis, chunk: int) -> None:
        super().__init__(part, form)
        self.resident = False
        self.axis = axis
        self.chunk = chunk
        if chunk % self.width:
            raise InternalError(f"chunks of {chunk} are no blocks of {self.width}")

    def partial(self, reduces: tuple[Reduce, ...], spaces: list[tuple[Workspace, ...]]) -> Call:
        builder = self.builder
        builder.line(f"{self.axis.name} = {tiles.program_id(builder, 1)}")
        self.begin()
        for reduce, group in zip(reduces, spaces, strict=True):
            self.reduce(reduce)
            for out, space in zip(reduce.outs, group, strict=True):
                index = tuple(builder.kernel.axis(name).symbol for name in out.axes)
                value = e.Read(out.dtype, out.name, index)
                emitter = self.outer.inner(Points((self.rows,)))
                emitter.store(Store(space.name, out.axes, (*index, self.axis.symbol), value))
        warps = min(8, max(1, self.height * self.width // 512))
        grid = (tiles.blocks(self.count, self.height), self.axis.extent)
        return builder.finish("chunks", grid, num_warps=warps)

    def loop(self) -> str:
        """Over the blocks of this program's chunk."""
        first = f"{self.axis.name} * {self.chunk}"
        end = f"tl.minimum({first} + {self.chunk}, {self.builder.dim(self.form.length)})"
        return f"for start in range({first}, {end}, {self.width}):"


def _combined(part: Kernel, form: Form, axis: Axis, spaces: list[tuple[Workspace, ...]]) -> Call:
    """The reduction over the chunks, and the stores, as rows."""
    body: list[Map | Reduce | Store] = list(form.whole.maps.values())
    for reduce, group in zip(form.reduces, spaces, strict=True):
        values = []
        for out, space in zip(reduce.outs, group, strict=True):
            index: tuple[Dim, ...] = tuple(part.axis(name).symbol for name in out.axes)
            values.append(e.Load(out.dtype, space.name, (*index, axis.symbol)))
        body.append(Reduce(reduce.outs, (axis.name,), reduce.monoid, tuple(values)))
    body += form.stores
    read = {
        node.local for stage in body for node in e.walk(*roots(stage)) if isinstance(node, e.Read)
    }
    kept = tuple(stage for stage in body if not (isinstance(stage, Map) and stage.out.name not in read))
    axes = tuple(
        dataclasses.replace(each, kind=AxisKind.REDUCE) if each.name == axis.name else each
        for each in part.axes
    )
    kernel = dataclasses.replace(part, body=kept, axes=axes)
    found = rows.read(kernel)
    if isinstance(found, Declined):
        raise InternalError(f"chunks are no rows: {found.reason}")
    return rows.RowWriter(kernel, found).run()
