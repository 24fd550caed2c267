"""Non-maximum suppression: one chunk an image and class. A heap gives the boxes by score; each is compared
with those kept so far, 16 at a time.
"""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.heap import Heap
from dlc.backends.cpu.templates.keys import ascending_key
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, ceildiv
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Kernel, Param, Routine

LANES = 16
#: Numbers kept of each kept box: x low, y low, x high, y high, area.
_COORDINATES = 5


@dataclasses.dataclass(frozen=True)
class SuppressionForm:
    """A kernel that is one non-maximum suppression: its parameters by role."""

    kernel: Kernel
    boxes: Param
    scores: Param
    overlap: Param
    least: Param
    kept: Param
    counts: Param
    center_point_box: bool


def match(kernel: Kernel, module: Module) -> Match[SuppressionForm] | Declined:
    """The kernel as a suppression, on any target."""
    del module
    match kernel.body:
        case (Routine(name="non_max_suppression") as routine,):
            boxes, scores, overlap, least, kept, counts = map(kernel.param, routine.params)
            center = bool(dict(routine.attributes)["center_point_box"])
            return Match(SuppressionForm(kernel, boxes, scores, overlap, least, kept, counts, center))
    return Declined("the kernel is no non-maximum suppression")


def emit(module: Module, name: str, match: Match[SuppressionForm]) -> CompiledKernel:
    """Write the function into `module`."""
    return _Suppression(module, name, match.form).emit()


@dataclasses.dataclass(frozen=True)
class _Box:
    """The corners and the area of a box, or of as many as there are lanes."""

    low: tuple[t.Value, t.Value]
    high: tuple[t.Value, t.Value]
    area: t.Value


class _Suppression:
    def __init__(self, module: Module, name: str, form: SuppressionForm) -> None:
        self.form = form
        batch, self.classes, self.number = form.scores.type.shape
        self.limit = form.kept.type.shape[2]
        self.chunks: Dim = batch * self.classes
        #: Bytes of the heap's keys, and of one coordinate of all kept boxes.
        self.key_bytes: Dim = ceildiv(self.number * t.i32.bytes, 64) * 64
        self.row_bytes: Dim = ceildiv(self.limit, LANES) * (LANES * t.f32.bytes)
        self.frame = KernelFrame(
            module, name, form.kernel, [self.chunks, self.key_bytes, self.row_bytes]
        )
        self.b = self.frame.b
        self.heap = Heap(self.b, t.i32, self.frame.scratch, self._dim(self.key_bytes))
        heap_bytes = self.key_bytes + ceildiv(self.number * t.i64.bytes, 64) * 64
        self.corners = self.b.byte_offset(self.frame.scratch, self._dim(heap_bytes))
        self.scratch = heap_bytes + self.row_bytes * _COORDINATES

    def emit(self) -> CompiledKernel:
        b = self.b
        number, limit = self._dim(self.number), self._dim(self.limit)
        row = b.mul(self.frame.chunk, number)
        image = b.udiv(self.frame.chunk, self._dim(self.classes))
        self.boxes = self._at(self.form.boxes, b.mul(image, b.mul(number, 4)))
        candidates = self._collect(self._at(self.form.scores, row), number)
        half = b.udiv(candidates, 2)
        with b.loop(0, half, name="heapify") as loop:
            self.heap.sift(b.sub(b.sub(half, 1), loop.iv), candidates)
        kept = b.offset(self._pointer(self.form.kept), b.mul(self.frame.chunk, limit), t.i64)
        overlap = b.load(self._pointer(self.form.overlap), t.f32)
        found = self._select(candidates, number, limit, kept, overlap)
        with b.loop(found, limit, name="rest") as loop:
            b.store(b.value(0), b.offset(kept, loop.iv, t.i64))
        b.store(found, b.offset(self._pointer(self.form.counts), self.frame.chunk, t.i64))
        return self.frame.finish("non_max_suppression", self.chunks, self.scratch)

    def _dim(self, dim: Dim) -> t.Value:
        return self.b.value(self.frame.emitter.dim(dim))

    def _pointer(self, param: Param) -> t.Value:
        return self.frame.pointers[param.name]

    def _at(self, param: Param, element: t.Index) -> t.Value:
        return self.b.offset(self._pointer(param), element, t.f32)

    def _collect(self, scores: t.Value, number: t.Value) -> t.Value:
        """Put the boxes whose score is great enough into the heap, which gives the greatest key's complement
        first, and of equal ones the greatest position: those are turned around. Returns how many there are.
        """
        b = self.b
        least = b.load(self._pointer(self.form.least), t.f32)
        takes_all = b.fcmp("oeq", least, b.const(t.f32, float("-inf")))
        last = b.sub(number, 1)
        with b.loop(0, number, carry=[0], name="candidate") as loop:
            (count,) = loop.carried
            score = b.load(b.offset(scores, loop.iv, t.f32), t.f32)
            takes = b.value(b.or_(b.fcmp("ogt", score, least), takes_all), t.i1)
            # NaN is the worst score of all.
            key = ascending_key(b, score, DType.F32)
            key = b.select(b.fcmp("uno", score, score), -(1 << 31), key)
            with b.if_(takes):
                self.heap.put(count, b.value(b.not_(key), t.i32), b.value(b.sub(last, loop.iv)))
            loop.next = (b.add(count, b.zext(takes, t.i64)),)
        return loop.results[0]

    def _select(
        self, candidates: t.Value, number: t.Value, limit: t.Value, kept: t.Value, overlap: t.Value
    ) -> t.Value:
        """Take boxes off the heap and keep those that overlap no kept one; returns how many are kept."""
        b = self.b
        zero = b.value(0)
        any_left = b.and_(b.icmp("sgt", candidates, 0), b.icmp("sgt", limit, 0))
        with b.if_else(b.value(any_left, t.i1)) as both:
            with both.then:
                with b.repeat(carry=[candidates, zero], name="select") as loop:
                    count, found = loop.carried
                    position = b.sub(b.sub(number, 1), self.heap.position(0))
                    left = b.value(b.sub(count, 1))
                    self.heap.put(0, self.heap.key(left), self.heap.position(left))
                    self.heap.sift(0, left)
                    box = self._box(position)
                    dropped = self._overlaps_any(box, found, overlap)
                    with b.if_(b.value(b.not_(dropped), t.i1)):
                        b.store(position, b.offset(kept, found, t.i64))
                        self._keep(box, found)
                    following = b.value(b.add(found, b.sub(1, b.zext(dropped, t.i64))))
                    loop.next = (left, following)
                    more = b.and_(b.icmp("sgt", left, 0), b.icmp("slt", following, limit))
                    loop.again = b.value(more, t.i1)
                both.then.yields = (loop.results[1],)
            with both.otherwise:
                both.otherwise.yields = (zero,)
        return both.results[0]

    def _box(self, position: t.Value) -> _Box:
        b = self.b
        first, second, third, fourth = (
            b.load(b.offset(self.boxes, b.add(b.mul(position, 4), entry), t.f32), t.f32) for entry in range(4)
        )
        if self.form.center_point_box:
            half = b.fdiv(third, 2.0), b.fdiv(fourth, 2.0)
            low = b.fsub(first, half[0]), b.fsub(second, half[1])
            high = b.fadd(first, half[0]), b.fadd(second, half[1])
        else:
            low = self._least(second, fourth), self._least(first, third)
            high = self._greatest(second, fourth), self._greatest(first, third)
        return _Box(low, high, b.fmul(b.fsub(high[0], low[0]), b.fsub(high[1], low[1])))

    def _least(self, x: t.Value, y: t.Value) -> t.Value:
        return self.b.select(self.b.fcmp("olt", x, y), x, y)

    def _greatest(self, x: t.Value, y: t.Value) -> t.Value:
        return self.b.select(self.b.fcmp("ogt", x, y), x, y)

    def _row(self, coordinate: int, place: t.Index) -> t.Value:
        """The address of a number of a kept box."""
        row = self.b.byte_offset(self.corners, self.b.mul(self._dim(self.row_bytes), coordinate))
        return self.b.offset(row, place, t.f32)

    def _keep(self, box: _Box, place: t.Value) -> None:
        for coordinate, number in enumerate((*box.low, *box.high, box.area)):
            self.b.store(number, self._row(coordinate, place))

    def _overlaps_any(self, box: _Box, count: t.Value, overlap: t.Value) -> t.Value:
        """Whether a box overlaps one of the first `count` kept ones too much."""
        b = self.b
        wide = t.vector(LANES, t.f32)
        own = _Box(
            (b.splat(box.low[0]), b.splat(box.low[1])),
            (b.splat(box.high[0]), b.splat(box.high[1])),
            b.splat(box.area),
        )
        no = b.const(t.i1, 0)
        with b.if_else(b.icmp("sgt", count, 0)) as both:
            with both.then:
                with b.repeat(carry=[0, no], name="kept") as loop:
                    place, _ = loop.carried
                    x, y, right, top, area = (
                        b.load(self._row(entry, place), wide) for entry in range(_COORDINATES)
                    )
                    found = self._exceeds(own, _Box((x, y), (right, top), area), b.splat(overlap))
                    # Rows are whole vectors; what lies behind the last kept box does not count.
                    found = b.value(b.and_(found, b.tail_mask(b.sub(count, place))), found.type)
                    hit = b.any(found)
                    following = b.value(b.add(place, LANES))
                    loop.next = (following, hit)
                    more = b.and_(b.not_(hit), b.icmp("slt", following, count))
                    loop.again = b.value(more, t.i1)
                both.then.yields = (loop.results[1],)
            with both.otherwise:
                both.otherwise.yields = (no,)
        return both.results[0]

    def _exceeds(self, box: _Box, other: _Box, overlap: t.Value) -> t.Value:
        """Whether the intersection of boxes over their union is greater than the threshold."""
        b = self.b
        sides = []
        for axis in range(2):
            low = self._greatest(box.low[axis], other.low[axis])
            high = self._least(box.high[axis], other.high[axis])
            sides.append((low, high))
        (x_low, x_high), (y_low, y_high) = sides
        common = b.fmul(b.fsub(x_high, x_low), b.fsub(y_high, y_low))
        union = b.fsub(b.fadd(box.area, other.area), common)
        result = b.fcmp("ogt", b.fdiv(common, union), overlap)
        for number in (box.area, other.area, union, common):
            result = b.and_(result, b.fcmp("ogt", number, 0.0))
        for low, high in sides:
            result = b.and_(result, b.fcmp("ogt", high, low))
        return b.value(result, result.type)
