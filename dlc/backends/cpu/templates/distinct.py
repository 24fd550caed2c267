"""Distinct rows: a stable merge sort of their positions, then the groups of neighbours that are equal.

The sort goes from the bottom up, between two arrays of positions in scratch memory: about n log2(n)
comparisons of rows, element by element (Knuth, The Art of Computer Programming 3, section 5.2.4).
"""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu import access, types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.keys import ascending_key
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dtypes import DType
from dlc.lowering.kernel import Kernel, Param, Routine


@dataclasses.dataclass(frozen=True)
class DistinctForm:
    """A kernel that finds distinct rows: the matrix, and the results in their order."""

    kernel: Kernel
    rows: Param
    results: tuple[Param, ...]
    sorted: bool


def match(kernel: Kernel, module: Module) -> Match[DistinctForm] | Declined:
    """The kernel as a search of distinct rows, on any target."""
    del module
    match kernel.body:
        case (Routine(name="distinct") as routine,):
            rows, *results = (kernel.param(name) for name in routine.params)
            return Match(
                DistinctForm(kernel, rows, tuple(results), bool(dict(routine.attributes)["sorted"]))
            )
    return Declined("the kernel does not look for distinct rows")


def emit(module: Module, name: str, match: Match[DistinctForm]) -> CompiledKernel:
    """Write the function into `module`: one chunk."""
    return _Distinct(module, name, match.form).emit()


class _Distinct:
    def __init__(self, module: Module, name: str, form: DistinctForm) -> None:
        self.form = form
        self.frame = KernelFrame(module, name, form.kernel)
        self.b = self.frame.b
        self.count, self.width = map(self.frame.emitter.dim, form.rows.type.shape)
        self.source = self.frame.pointers[form.rows.name]
        self.first, self.inverse, self.counts, self.groups = (
            self.frame.pointers[param.name] for param in form.results
        )

    def emit(self) -> CompiledKernel:
        b = self.b
        order = self._sort()
        for place in (self.first, self.counts):
            with b.loop(0, self.count, name="clear") as loop:
                self._put(place, loop.iv, b.value(0))
        found = self._group(order)
        if not self.form.sorted:
            self._renumber()
        b.store(found, self.groups)
        return self.frame.finish("distinct", 1, self.form.rows.type.shape[0] * 16)

    def _get(self, array: t.Value, place: t.Index) -> t.Value:
        return self.b.load(self.b.offset(array, place, t.i64), t.i64)

    def _put(self, array: t.Value, place: t.Index, value: t.Value) -> None:
        self.b.store(value, self.b.offset(array, place, t.i64))

    def _sort(self) -> t.Value:
        """The positions of the rows in their order, in scratch memory."""
        b = self.b
        one = self.frame.scratch
        other = b.byte_offset(one, b.mul(self.count, 8))
        with b.loop(0, self.count, name="start") as loop:
            self._put(one, loop.iv, b.value(loop.iv))
        with b.repeat(carry=[1, one, other], name="width") as passes:
            width, source, target = passes.carried
            with b.repeat(carry=[0], name="pair") as pairs:
                (low,) = pairs.carried
                middle = b.smin(b.add(low, width), self.count)
                high = b.smin(b.add(middle, width), self.count)
                self._merge(source, target, low, middle, high)
                pairs.next = (high,)
                pairs.again = b.icmp("slt", high, self.count)
            passes.next = (b.shl(width, 1), target, source)
            passes.again = b.icmp("slt", b.shl(width, 1), self.count)
        return passes.results[1]

    def _merge(self, source: t.Value, target: t.Value, low: t.Value, middle: t.Value, high: t.Value) -> None:
        """Merge two sorted runs; of equal rows those of the left run come first."""
        b = self.b
        last = b.smax(b.sub(self.count, 1), 0)
        with b.loop(low, high, carry=[low, middle], name="merge") as loop:
            left, right = loop.carried
            # What lies beyond a run is not taken, but has to be readable.
            left_row = self._get(source, b.smin(left, last))
            right_row = self._get(source, b.smin(right, last))
            has_left, has_right = b.icmp("slt", left, middle), b.icmp("slt", right, high)
            with b.if_else(b.value(b.and_(has_left, has_right), t.i1)) as both:
                with both.then:
                    comparison = self._compare(right_row, left_row)
                    both.then.yields = (b.icmp("slt", comparison, 0),)
                with both.otherwise:
                    both.otherwise.yields = (has_right,)
            (takes_right,) = both.results
            self._put(target, loop.iv, b.select(takes_right, right_row, left_row))
            step = b.zext(takes_right, t.i64)
            loop.next = (b.add(left, b.sub(1, step)), b.add(right, step))

    def _compare(self, left: t.Value, right: t.Value) -> t.Value:
        """-1, 0 or 1 as the first row is less than, equal to or greater than the second."""
        name = f"{self.frame.name}_compare"
        if self.b.module.defined(name) is None:
            _write_comparison(self.b.module, name, self.form.rows.type.dtype)
        return self.b.call(name, [self.source, self.width, left, right])

    def _group(self, order: t.Value) -> t.Value:
        """Number the groups in the order of their rows; returns how many there are."""
        b = self.b
        with b.loop(0, self.count, carry=[0], name="group") as loop:
            (before,) = loop.carried
            row, previous = self._get(order, loop.iv), self._get(order, b.smax(b.sub(loop.iv, 1), 0))
            starts = b.icmp("eq", loop.iv, 0)
            differs = b.icmp("ne", self._compare(previous, row), 0)
            begins = b.value(b.or_(starts, differs), t.i1)
            found = b.value(b.add(before, b.zext(begins, t.i64)))
            group = b.value(b.sub(found, 1))
            # The sort is stable, so the row that begins a group is the first of it.
            with b.if_(begins):
                self._put(self.first, group, row)
            self._put(self.inverse, row, group)
            self._put(self.counts, group, b.value(b.add(self._get(self.counts, group), 1)))
            loop.next = (found,)
        return loop.results[0]

    def _renumber(self) -> None:
        """Number the groups by their first rows instead, in one pass over the rows.

        The scratch memory, no longer needed for the order, takes the new numbers and the old sizes.
        """
        b = self.b
        numbers = self.frame.scratch
        sizes = b.byte_offset(numbers, b.mul(self.count, 8))
        with b.loop(0, self.count, name="keep") as loop:
            self._put(numbers, loop.iv, b.value(-1))
            self._put(sizes, loop.iv, self._get(self.counts, loop.iv))
        with b.loop(0, self.count, carry=[0], name="number") as loop:
            (found,) = loop.carried
            group = self._get(self.inverse, loop.iv)
            known = self._get(numbers, group)
            is_new = b.icmp("slt", known, 0)
            with b.if_(is_new):
                self._put(numbers, group, found)
                self._put(self.first, found, b.value(loop.iv))
                self._put(self.counts, found, self._get(sizes, group))
            self._put(self.inverse, loop.iv, b.select(is_new, found, known))
            loop.next = (b.add(found, b.zext(is_new, t.i64)),)


def _write_comparison(module: Module, name: str, dtype: DType) -> None:
    """The function (rows, width, left, right) -> -1, 0 or 1."""
    b: FunctionBuilder = module.function(
        name, [("rows", t.ptr), ("width", t.i64), ("left", t.i64), ("right", t.i64)], t.i64, internal=True
    )
    rows, width, left, right = b.params
    element = access.storage_type(dtype)
    here, there = b.mul(left, width), b.mul(right, width)

    def key(row: t.Value, column: t.Value) -> t.Value:
        return ascending_key(b, b.load(b.offset(rows, b.add(row, column), element), element), dtype)

    zero = b.const(t.i64, 0)
    with b.if_else(b.icmp("sgt", width, 0)) as both:
        with both.then:
            with b.repeat(carry=[zero, zero], name="column") as loop:
                column, _ = loop.carried
                one, other = key(here, column), key(there, column)
                greater, less = b.icmp("sgt", one, other), b.icmp("slt", one, other)
                sign = b.sub(b.zext(greater, t.i64), b.zext(less, t.i64))
                following = b.value(b.add(column, 1))
                more = b.and_(b.icmp("eq", sign, 0), b.icmp("slt", following, width))
                loop.next = (following, sign)
                loop.again = b.value(more, t.i1)
            both.then.yields = (loop.results[1],)
        with both.otherwise:
            both.otherwise.yields = (zero,)
    b.return_(both.results[0])
