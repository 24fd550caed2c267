"""RoiAlign: bins of bilinear samples in regions given by data, 16 channels in lanes.

The number of samples of a bin follows from the region when the operator fixes none, so that it is no loop of
the kernel IR. Samples outside of the image count with weight 0 and are not visited: a bin takes no more steps
than the image has rows and columns, whatever the region.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu import access, semantics, types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, ceildiv, minimum
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Kernel, Param, Routine

LANES = 16
_MAX_CHUNKS = 64


@dataclasses.dataclass(frozen=True)
class RoiForm:
    """A kernel that is one RoiAlign: x [N, C, H, W], rois [R, 4], images [R], y [R, C, bins]; its options."""

    kernel: Kernel
    x: Param
    rois: Param
    images: Param
    y: Param
    maximum: bool
    bins: tuple[int, int]
    ratio: int
    scale: float
    half_pixel: bool


def match(kernel: Kernel, module: Module) -> Match[RoiForm] | Declined:
    """The kernel as a RoiAlign, on any target."""
    del module
    match kernel.body:
        case (Routine(name="roi_align") as routine,):
            params = [kernel.param(name) for name in routine.params]
            if any(param.type.layout is not None for param in params):
                return Declined("an operand or result is not row-major")
            return Match(_form(kernel, params, routine))
    return Declined("the kernel is no RoiAlign")


def _form(kernel: Kernel, params: list[Param], routine: Routine) -> RoiForm:
    x, rois, images, y = params
    options = dict(routine.attributes)
    height, width, ratio = options["output_height"], options["output_width"], options["sampling_ratio"]
    scale = options["spatial_scale"]
    assert isinstance(height, int) and isinstance(width, int) and isinstance(ratio, int)
    assert isinstance(scale, float)
    maximum = options["mode"] == "max"
    return RoiForm(
        kernel, x, rois, images, y, maximum, (height, width), ratio, scale, bool(options["half_pixel"])
    )


def emit(module: Module, name: str, match: Match[RoiForm]) -> CompiledKernel:
    """Write the function of a RoiAlign into `module`."""
    return _RoiAlign(module, name, match.form).emit()


@dataclasses.dataclass(frozen=True)
class _Side:
    """A region along one axis of the image: its start, the size of a bin and the samples in one."""

    start: t.Value
    size: t.Value
    count: t.Value
    extent: t.Value


@dataclasses.dataclass(frozen=True)
class _Samples:
    """The samples of one bin on one axis that may lie within the image: numbers low .. high - 1."""

    side: _Side
    first: t.Value
    low: t.Value
    high: t.Value


@dataclasses.dataclass(frozen=True)
class _Corner:
    """A neighbour of a sample on one axis: its position (i64) and weight."""

    position: t.Value
    weight: t.Value


class _RoiAlign:
    """The emission of one RoiAlign."""

    def __init__(self, module: Module, name: str, form: RoiForm) -> None:
        self.form = form
        self.regions, self.channels = form.y.type.shape[:2]
        self.points = self.regions * ceildiv(self.channels, LANES)
        self.chunks = minimum(self.points, _MAX_CHUNKS)
        self.frame = KernelFrame(module, name, form.kernel, [self.chunks, self.points])
        self.b = self.frame.b
        self.wide = t.f64 if form.x.type.dtype is DType.F64 else t.f32
        self.lanes = t.vector(LANES, self.wide)

    def emit(self) -> CompiledKernel:
        b, em = self.b, self.frame.emitter
        if self.points == 0:
            return self.frame.finish("roi_align", 0)
        points, chunks = em.dim(self.points), em.dim(self.chunks)
        blocks = em.dim(ceildiv(self.channels, LANES))
        low = b.udiv(b.mul(self.frame.chunk, points), chunks)
        high = b.udiv(b.mul(b.add(self.frame.chunk, 1), points), chunks)
        with b.loop(low, high, name="region") as loop:
            point = b.value(loop.iv)
            self._region(b.udiv(point, blocks), b.mul(b.urem(point, blocks), LANES))
        return self.frame.finish("roi_align", self.chunks)

    def _region(self, region: t.Value, channel: t.Value) -> None:
        """All bins of a region, for 16 channels from `channel` on."""
        b, em, form = self.b, self.frame.emitter, self.form
        mask = b.tail_mask(b.sub(em.dim(self.channels), channel), LANES)
        left, top, right, bottom = (self._bound(region, entry) for entry in range(4))
        rows = self._side(top, bottom, form.bins[0], form.x.type.shape[2])
        columns = self._side(left, right, form.bins[1], form.x.type.shape[3])
        image = b.mul(self._image(region), self._stride(form.x, 0))
        plane = b.add(image, b.mul(channel, self._stride(form.x, 1)))
        place = b.add(b.mul(region, self._stride(form.y, 0)), b.mul(channel, self._stride(form.y, 1)))
        with b.loop(0, form.bins[0], name="bin_row") as i, b.loop(0, form.bins[1], name="bin_column") as j:
            bin_rows, bin_columns = self._samples(rows, b.value(i.iv)), self._samples(columns, b.value(j.iv))
            value = self._bin(bin_rows, bin_columns, plane, mask)
            at = b.add(place, b.add(b.mul(i.iv, self._stride(form.y, 2)), j.iv))
            self._store(value, at, mask)

    def _bound(self, region: t.Value, entry: int) -> t.Value:
        """An edge of a region, in pixels of the image."""
        b, rois = self.b, self.form.rois
        element = access.storage_type(rois.type.dtype)
        at = b.add(b.mul(region, self._stride(rois, 0)), entry)
        value = b.load(b.offset(self.frame.pointers[rois.name], at, element), element)
        scaled = b.fmul(semantics.cast_float(b, value, self.wide), b.const(self.wide, self.form.scale))
        return b.fsub(scaled, 0.5 if self.form.half_pixel else 0.0)

    def _image(self, region: t.Value) -> t.Value:
        """The number of a region's image, checked."""
        b, images = self.b, self.form.images
        element = access.storage_type(images.type.dtype)
        image = b.sext(b.load(b.offset(self.frame.pointers[images.name], region, element), element), t.i64)
        bad = b.icmp("uge", image, self.frame.emitter.dim(self.form.x.type.shape[0]))
        self.frame.emitter.report_fault(bad)
        return b.select(bad, 0, image)

    def _stride(self, param: Param, axis: int) -> t.Index:
        """The distance in elements of neighbours along an axis."""
        stride = param.physical_strides()[axis]
        return stride if isinstance(stride, int) else self.frame.emitter.dim(stride)

    # --- samples

    def _side(self, start: t.Value, end: t.Value, bins: int, extent: Dim) -> _Side:
        b = self.b
        length = b.fsub(end, start)
        if not self.form.half_pixel:
            length = b.select(b.fcmp("olt", length, 1.0), 1.0, length)
        size = b.fdiv(length, float(bins))
        if self.form.ratio:
            count = b.value(self.form.ratio)
        else:
            count = b.smax(self._integer(b.ceil(size)), 0)
        return _Side(start, size, count, self.frame.emitter.dim(extent))

    def _integer(self, x: t.Value) -> t.Value:
        return semantics.float_to_int(self.b, x, t.i64, signed=True, mode=semantics.CastMode.SATURATE)

    def _samples(self, side: _Side, number: t.Value) -> _Samples:
        """The samples of bin `number`: at first + (i + 0.5) * size / count, for those within [-1, extent]."""
        b = self.b
        first = b.fadd(side.start, b.fmul(b.sitofp(number, self.wide), side.size))
        step = b.fdiv(side.size, b.sitofp(b.smax(side.count, 1), self.wide))
        low = self._integer(b.floor(b.fdiv(b.fsub(-1.0, first), step)))
        last = b.fdiv(b.fsub(b.sitofp(side.extent, self.wide), first), step)
        # A step more on either side for the rounding of these quotients; invalid samples weigh nothing.
        low = b.smin(b.smax(b.sub(b.smax(low, 1), 2), 0), side.count)
        high = b.smin(b.add(b.smin(self._integer(b.ceil(last)), 1 << 62), 1), side.count)
        # Without an image there is nothing that a clamped number of one could stand for.
        high = b.select(b.icmp("sgt", self.frame.emitter.dim(self.form.x.type.elements), 0), high, low)
        return _Samples(side, first, low, b.smax(high, low))

    def _corners(self, samples: _Samples, number: t.Value) -> tuple[_Corner, _Corner]:
        """The two neighbours of a sample on its axis; outside of [-1, extent] they weigh nothing."""
        b, side = self.b, samples.side
        count = b.sitofp(b.smax(side.count, 1), self.wide)
        inner = b.fdiv(b.fmul(b.fadd(b.sitofp(number, self.wide), 0.5), side.size), count)
        at = b.fadd(samples.first, inner)
        valid = b.and_(b.fcmp("oge", at, -1.0), b.fcmp("ole", at, b.sitofp(side.extent, self.wide)))
        last = b.smax(b.sub(side.extent, 1), 0)
        at = semantics.clip(b, at, 0.0, b.sitofp(last, self.wide))
        low = b.smin(b.smax(self._integer(b.floor(at)), 0), last)
        share = b.fsub(at, b.sitofp(low, self.wide))
        factor = b.select(valid, b.const(self.wide, 1.0), 0.0)
        return (
            _Corner(low, b.fmul(b.fsub(1.0, share), factor)),
            _Corner(b.smin(b.add(low, 1), last), b.fmul(share, factor)),
        )

    # --- bins

    def _bin(self, rows: _Samples, columns: _Samples, plane: t.Value, mask: t.Value) -> t.Value:
        """The mean or greatest corner of the samples of one bin, in lanes of channels."""
        b, maximum = self.b, self.form.maximum
        begin = b.const(self.lanes, float("-inf") if maximum else 0.0)
        with b.loop(rows.low, rows.high, carry=[begin], name="row") as i:
            up, down = self._corners(rows, b.value(i.iv))
            with b.loop(columns.low, columns.high, carry=list(i.carried), name="column") as j:
                near, far = self._corners(columns, b.value(j.iv))
                total = j.carried[0]
                corners = [
                    self._corner(row, column, plane, mask) for row in (up, down) for column in (near, far)
                ]
                if maximum:
                    for corner in corners:
                        total = semantics.maximum(b, total, corner)
                else:
                    for corner in corners[1:]:
                        corners[0] = b.fadd(corners[0], corner)
                    total = b.fadd(total, corners[0])
                j.next = (total,)
            i.next = tuple(j.results)
        total = i.results[0]
        samples = b.mul(rows.side.count, columns.side.count)
        if maximum:
            visited = b.mul(b.sub(rows.high, rows.low), b.sub(columns.high, columns.low))
            zero = b.const(self.lanes, 0.0)
            total = b.select(b.icmp("ne", visited, samples), semantics.maximum(b, total, zero), total)
            return b.select(b.icmp("eq", samples, 0), zero, total)
        count = b.fmul(b.sitofp(rows.side.count, self.wide), b.sitofp(columns.side.count, self.wide))
        some = b.select(b.icmp("eq", samples, 0), 1.0, count)
        return b.fdiv(total, b.splat(some, LANES))

    def _corner(self, row: _Corner, column: _Corner, plane: t.Value, mask: t.Value) -> t.Value:
        """An element of each channel, times its weight."""
        b, x = self.b, self.form.x
        element = access.storage_type(x.type.dtype)
        at = b.add(plane, b.add(b.mul(row.position, self._stride(x, 2)), column.position))
        base = b.offset(self.frame.pointers[x.name], at, element)
        values = b.gather(base, self._channel_offsets(x), element, mask)
        weight = b.splat(b.fmul(row.weight, column.weight), LANES)
        return b.fmul(weight, semantics.cast_float(b, values, self.lanes))

    def _channel_offsets(self, param: Param) -> t.Value:
        b = self.b
        return b.mul(b.iota(t.i64, LANES), b.splat(self._stride(param, 1), LANES))

    def _store(self, value: t.Value, at: t.Value, mask: t.Value) -> None:
        b, y = self.b, self.form.y
        element = access.storage_type(y.type.dtype)
        narrow = semantics.cast_float(b, value, t.vector(LANES, element))
        base = b.offset(self.frame.pointers[y.name], at, element)
        b.scatter(narrow, base, self._channel_offsets(y), mask)
