"""RoiAlign: one element of the result a lane, with loops over its samples.

All lanes of a program take as many rounds as the one with the most samples; what others add then is nothing.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.triton import tiles
from dlc.backends.triton.conversions import cast
from dlc.backends.triton.elements import register_type
from dlc.backends.triton.function_builder import Call
from dlc.backends.triton.templates.routine import RoutineBuilder, routine_of
from dlc.backends.triton.templates.template import Declined
from dlc.ir.dims import Dim, product
from dlc.ir.dtypes import DType
from dlc.lowering.expr import CastMode
from dlc.lowering.kernel import Kernel
from dlc.target import GpuTarget

_POINTS = 128


@dataclasses.dataclass(frozen=True)
class Form:
    """The parameters by role, and the options."""

    x: str
    rois: str
    images: str
    y: str
    maximum: bool
    bins: tuple[int, int]
    ratio: int
    scale: float
    half_pixel: bool


def match(part: Kernel) -> Form | Declined:
    """Takes a roi_align alone."""
    routine = routine_of(part, "roi_align")
    if isinstance(routine, Declined):
        return routine
    options = dict(routine.attributes)
    height, width, ratio = (options[key] for key in ("output_height", "output_width", "sampling_ratio"))
    scale = options["spatial_scale"]
    assert isinstance(height, int) and isinstance(width, int) and isinstance(ratio, int)
    assert isinstance(scale, (int, float))
    maximum, half = options["mode"] == "max", bool(options["half_pixel"])
    x, rois, images, y = routine.params
    return Form(x, rois, images, y, maximum, (height, width), ratio, float(scale), half)


def emit(part: Kernel, form: Form, target: GpuTarget) -> Call:
    """One program a block of elements of the result."""
    del target
    return _RoiAlign(part, form).run()


@dataclasses.dataclass(frozen=True)
class _Side:
    """The samples of bins along one axis: names of variables."""

    first: str
    size: str
    count: str
    extent: str


class _RoiAlign:
    def __init__(self, part: Kernel, form: Form) -> None:
        self.form = form
        self.builder = RoutineBuilder(part)
        self.x = part.param(form.x)
        self.y = part.param(form.y)
        self.wide = DType.F64 if self.x.type.dtype is DType.F64 else DType.F32
        self.kind = register_type(self.wide)

    def run(self) -> Call:
        builder, form = self.builder, self.form
        shape = self.y.type.shape
        total = product(shape)
        there = builder.points("point", total, _POINTS)
        region, channel, i, j = builder.take_apart("point", shape)
        image = self._image(region, there)
        rows = self._side(region, i, 1, there)
        columns = self._side(region, j, 0, there)
        begin = "float('-inf')" if form.maximum else "0"
        builder.line(f"total = tl.full(({_POINTS},), {begin}, {self.kind})")
        with builder.block(f"for row in range(0, tl.max(tl.where({there}, {rows.count}, 0), 0)):"):
            up = self._sample(rows, "row", "y")
            with builder.block(f"for column in range(0, tl.max(tl.where({there}, {columns.count}, 0), 0)):"):
                across = self._sample(columns, "column", "x")
                inside = f"{there} & (row < {rows.count}) & (column < {columns.count})"
                self._corners((image, channel), up, across, builder.assign("inside", inside))
        self._store((region, channel, i, j), rows, columns, there)
        return builder.finish("roi_align", (tiles.blocks(total, _POINTS),))

    def _image(self, region: Dim, mask: str) -> str:
        """Write the number of the image of each region, a fault where there is none of that number."""
        builder = self.builder
        image = builder.load(self.form.images, region, mask=mask)
        good = f"({image} >= 0) & ({image} < {builder.dim(self.x.type.shape[0])})"
        good = builder.assign("good", good)
        builder.line(f"index_fault({builder.fault()}, {mask} & ({good} == 0))")
        return builder.assign("image", f"tl.where({good}, {image}, 0).to(tl.int32)")

    def _side(self, region: Dim, bin_: Dim, axis: int, mask: str) -> _Side:
        """Write the samples of a bin along the axis of height (1) or width (0)."""
        builder, form = self.builder, self.form
        low, high = (
            self._wide(self.form.rois, builder.load(form.rois, region, axis + side, mask=mask))
            for side in (0, 2)
        )
        offset = 0.5 if form.half_pixel else 0.0
        start = builder.assign("start", f"{low} * {self._number(form.scale)} - {offset}")
        end = builder.assign("end", f"{high} * {self._number(form.scale)} - {offset}")
        length = builder.assign("length", f"{end} - {start}")
        if not form.half_pixel:
            length = builder.assign("length", f"tl.where({length} < 1.0, 1.0, {length})")
        size = builder.assign("size", self._quotient(length, f"{float(form.bins[1 - axis])}"))
        if form.ratio:
            count = builder.assign("count", f"tl.full(({_POINTS},), {form.ratio}, tl.int32)")
        else:
            count = builder.assign("count", f"tl.maximum(saturate_to_i32(tl.ceil({size})), 0)")
        number = builder.assign("number", f"(point * 0 + {builder.dim(bin_)}).to({self.kind})")
        first = builder.assign("first", f"{start} + {number} * {size}")
        extent = builder.dim(self.x.type.shape[3 - axis])
        return _Side(first, size, count, builder.assign("extent", f"point * 0 + ({extent})"))

    def _sample(self, side: _Side, number: str, name: str) -> tuple[str, str, str, str]:
        """Write positions and weights of the two neighbours of a sample."""
        builder = self.builder
        inner = f"(({number} + 0.5) * {side.size})"
        inner = self._quotient(inner, f"tl.maximum({side.count}, 1).to({self.kind})")
        at = builder.assign(f"{name}_at", f"{side.first} + {inner}")
        valid = builder.assign(f"{name}_valid", f"roi_valid({at}, {side.extent})")
        at = builder.assign(f"{name}_at", f"tl.where({valid}, {at}, 0.0)")
        low = builder.assign(f"{name}_low", f"roi_low({at}, {side.extent})")
        high = builder.assign(f"{name}_high", f"tl.minimum({low} + 1, tl.maximum({side.extent} - 1, 0))")
        share = builder.assign(f"{name}_share", f"roi_share({at}, {side.extent})")
        near = builder.assign(f"{name}_near", f"tl.where({valid}, 1.0 - {share}, 0.0)")
        return low, near, high, builder.assign(f"{name}_far", f"tl.where({valid}, {share}, 0.0)")

    def _corners(
        self,
        plane: tuple[str, Dim],
        rows: tuple[str, str, str, str],
        columns: tuple[str, str, str, str],
        mask: str,
    ) -> None:
        """Write the weighted neighbours of a sample, added or compared with what there is."""
        builder = self.builder
        terms = []
        for row, upper in (rows[:2], rows[2:]):
            for column, right in (columns[:2], columns[2:]):
                value = builder.load(self.form.x, *plane, row, column, mask=mask)
                terms.append(builder.assign("term", f"{upper} * {right} * {self._wide(self.form.x, value)}"))
        if self.form.maximum:
            for term in terms:
                greater = f"tl.maximum(total, {term}, propagate_nan=tl.PropagateNan.ALL)"
                builder.line(f"total = tl.where({mask}, {greater}, total)")
        else:
            builder.line(f"total += tl.where({mask}, {' + '.join(terms)}, 0.0)")

    def _store(self, index: tuple[Dim, ...], rows: _Side, columns: _Side, mask: str) -> None:
        builder = self.builder
        builder.line(f"samples = {rows.count}.to({self.kind}) * {columns.count}.to({self.kind})")
        if self.form.maximum:
            value = "tl.where(samples == 0.0, 0.0, total)"
        else:
            value = self._quotient("total", "tl.where(samples == 0.0, 1.0, samples)")
        value = builder.assign("result", value)
        builder.store(cast(self.wide, self.y.type.dtype, CastMode.RNE, value), self.form.y, *index, mask=mask)

    def _wide(self, name: str, value: str) -> str:
        return cast(self.builder.param(name).type.dtype, self.wide, CastMode.RNE, value)

    def _number(self, value: float) -> str:
        return f"tl.full((), {value!r}, {self.kind})"

    def _quotient(self, left: str, right: str) -> str:
        if self.wide is DType.F64:
            return f"({left} / {right})"
        return f"tl.div_rn({left}, {right})"
