"""Exact products of 8-bit matrices with a constant operand, with an epilogue, on dot products of words.

It is the multiplication of `gemm` with words of 32 bits for elements: 4 unsigned bytes times 4 signed ones
where the target has that instruction (VNNI), else 2 numbers of 16 bits. The constant is packed into words at
compile time; rows of the other operand are read where they lie if they consist of whole words.
"""

from __future__ import annotations

import dataclasses
import functools

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel, Packing
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.gemm import SMALL, GemmEmission, Rows
from dlc.backends.cpu.templates.gemm_form import LANES, Packed
from dlc.backends.cpu.templates.gemm_pack import evaluate_rows
from dlc.backends.cpu.templates.gemm_plan import GemmPlan, plan_gemm
from dlc.backends.cpu.templates.gemm_tile import Multiplication, multiply_add
from dlc.backends.cpu.templates.integer_form import COLUMN_SUMS, ROW_SUMS, IntegerForm, integer_form
from dlc.backends.cpu.templates.integer_operand import numbers_of_word
from dlc.backends.cpu.templates.integer_pack import pack_words
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import product
from dlc.ir.dtypes import DType
from dlc.lowering import expr as e
from dlc.lowering.kernel import Kernel


@dataclasses.dataclass(frozen=True)
class IntegerPlan:
    """An integer product, and how it is cut up."""

    form: IntegerForm
    gemm: GemmPlan


def match(kernel: Kernel, module: Module) -> Match[IntegerPlan] | Declined:
    """Whether `kernel` is an integer product, then stages at each of its elements."""
    form = integer_form(kernel, module.target)
    if isinstance(form, Declined):
        return form
    size = product([axis.extent for axis in (*form.gemm.batch, form.gemm.row, form.gemm.column, form.depth)])
    if isinstance(size, int) and size <= SMALL:
        return Declined("too small to be worth tiles")
    return Match(IntegerPlan(form, plan_gemm(form.gemm, module.target)))


def emit(module: Module, name: str, match: Match[IntegerPlan]) -> CompiledKernel:
    """Write the function of a matched kernel."""
    return _IntegerMatmul(module, name, match.form).emit()


class _IntegerMatmul(GemmEmission):
    """The emission of one integer product."""

    template = "integer_matmul"

    def __init__(self, module: Module, name: str, plan: IntegerPlan) -> None:
        self.integer = plan.form
        self.multiplication = plan.form.multiplication
        self.group = numbers_of_word(plan.form.multiplication)
        super().__init__(module, name, plan.gemm)

    def _lay_out_scratch(self) -> None:
        """As for any product, then the sums of the rows of a block."""
        super()._lay_out_scratch()
        self.row_sums = self.b.byte_offset(self.frame.scratch, self.em.dim(self.scratch))
        if self.integer.row_sums:
            self.scratch = self.scratch + self.plan.row_block * t.i32.bytes

    def _packing(self, packed: Packed) -> Packing:
        del packed
        form = self.integer
        return functools.partial(pack_words, form.packed, self.plan.width, self.group, form.turned)

    # --- rows

    def _rows(self, first: t.Value, count: t.Value) -> Rows:
        """The rows as words, where they lie or packed into scratch memory; their sums if they are read."""
        if self.form.left.plain is not None:
            rows = super()._rows(first, count)
        else:
            rows = self._packed_rows(first, count)
        if self.integer.row_sums:
            self._sum_rows(rows)
        return rows

    def _packed_rows(self, first: t.Value, count: t.Value) -> Rows:
        """Rows whose numbers are evaluated into words; what lies behind the last one meets zeros."""
        form, wide = self.integer, self.multiplication is Multiplication.WORDS16
        value: e.Expr = e.Cast(DType.I16, form.left) if wide else form.left
        stride = self.left_stride * self.group
        element = t.i16 if wide else t.i8
        target = self.rows_scratch
        evaluate_rows(self.em, value, self.form.row, form.depth, first, count, stride, target, element)
        return Rows(target, self._operand(self.left_stride), 1, count)

    def _sum_rows(self, rows: Rows) -> None:
        """The sum of the numbers of each row: its dot product with ones."""
        b, depth = self.b, self.integer.depth.extent
        assert isinstance(depth, int)
        element = t.i16 if self.group == 2 else t.i8
        lanes = LANES * self.group
        words, numbers = t.vector(LANES, t.i32), t.vector(lanes, element)
        ones = b.bitcast(b.const(numbers, 1), words)
        whole = depth - depth % lanes
        with b.loop(0, rows.count, name="row_sum") as row:
            start = b.offset(rows.pointer, b.mul(row.iv, rows.row), t.i32)
            with b.loop(0, whole, lanes, carry=[b.const(words, 0)], name="words") as loop:
                x = b.bitcast(b.load(b.offset(start, loop.iv, element), numbers), words)
                loop.next = [multiply_add(b, self.multiplication, x, ones, loop.carried[0])]
            (total,) = loop.results
            if depth % lanes:
                x = b.bitcast(self._rest(b.offset(start, whole, element), depth % lanes, numbers), words)
                total = multiply_add(b, self.multiplication, x, ones, total)
            b.store(b.reduce_add(total), b.offset(self.row_sums, row.iv, t.i32))

    def _rest(self, pointer: t.Value, count: int, numbers: t.IRType) -> t.Value:
        """The last `count` numbers of a row, then zeros."""
        b, mask = self.b, self.b.tail_mask(count, numbers.lanes)
        if self.form.left.plain is not None:
            return b.masked_load(pointer, mask, numbers)
        # Rows in scratch memory are a multiple of vectors long.
        return b.select(mask, b.load(pointer, numbers), b.const(numbers, 0))

    # --- what the correction reads

    def _enter_row(self, row: t.Index) -> None:
        if self.integer.row_sums:
            total = self.b.load(self.b.offset(self.row_sums, row, t.i32), t.i32)
            self.em.locals[ROW_SUMS] = lambda _: total

    def _enter_columns(self, column: t.Value) -> None:
        b, packed, plan = self.b, self.form.packed, self.plan
        assert packed is not None
        matrices = product([axis.extent for axis, _ in packed.batch])
        words = self._operand(matrices * plan.panels * self.form.reduce.extent * plan.width)
        matrix = b.mul(self._matrix(packed), self._operand(plan.panels * plan.width))
        place = b.add(b.add(words, matrix), column)
        pointer = b.offset(self.frame.pointers[packed.param.name], place, t.i32)
        self.em.locals[COLUMN_SUMS] = lambda _: b.load(pointer, self.vector)
