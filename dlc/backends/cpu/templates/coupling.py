"""The coupling of pairs of classes, one row in each lane; a chunk is a vector of rows."""

from __future__ import annotations

import dataclasses

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel, KernelFrame
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.template import Declined, Match
from dlc.ir.dims import Dim, ceildiv
from dlc.ir.ops.coupling import PRECISION, ROUNDS
from dlc.lowering.kernel import Kernel, Param, Routine

LANES = 16
_VECTOR = t.vector(LANES, t.f32)
_BYTES = LANES * t.f32.bytes


@dataclasses.dataclass(frozen=True)
class CouplingForm:
    """A kernel that is one coupling: its parameters by role."""

    kernel: Kernel
    pairs: Param
    result: Param

    @property
    def rows(self) -> Dim:
        """The number of rows."""
        return self.result.type.shape[0]

    @property
    def classes(self) -> int:
        """The number of classes."""
        classes = self.result.type.shape[1]
        assert isinstance(classes, int)
        return classes


def match(kernel: Kernel, module: Module) -> Match[CouplingForm] | Declined:
    """The kernel as a coupling, on any target."""
    del module
    match kernel.body:
        case (Routine(name="pairwise_coupling") as routine,):
            pairs, result = map(kernel.param, routine.params)
            if any(param.type.layout is not None or param.strides is not None for param in (pairs, result)):
                return Declined("the operand or the result is not row-major")
            return Match(CouplingForm(kernel, pairs, result))
    return Declined("the kernel is no coupling of classes")


def emit(module: Module, name: str, match: Match[CouplingForm]) -> CompiledKernel:
    """Write the function of a coupling into `module`."""
    return _Coupling(module, name, match.form).emit()


class _Coupling:
    """The emission; scratch memory holds the matrix, its products and the result, a vector an element."""

    def __init__(self, module: Module, name: str, form: CouplingForm) -> None:
        self.form = form
        self.classes = form.classes
        self.chunks = ceildiv(form.rows, LANES)
        self.frame = KernelFrame(module, name, form.kernel, [self.chunks])
        self.b = self.frame.b
        scratch, square = self.frame.scratch, self.classes * self.classes
        self.matrix = scratch
        self.products = self.b.byte_offset(scratch, square * _BYTES)
        self.result = self.b.byte_offset(scratch, (square + self.classes) * _BYTES)

    def emit(self) -> CompiledKernel:
        b, form, classes = self.b, self.form, self.classes
        first = b.mul(self.frame.chunk, LANES)
        active = b.tail_mask(b.sub(self.frame.emitter.dim(form.rows), first))
        self._read(first, active)
        with b.loop(0, classes, name="uniform") as loop:
            self._put(b.const(_VECTOR, 1 / classes), self.result, loop.iv)
        with b.repeat(carry=[b.const(t.i64, 0)], name="round") as rounds:
            value = self._multiply()
            going = b.and_(self._errs(value), active)
            with b.if_(b.any(b.value(going, going.type))):
                self._improve(value, b.value(going, going.type))
            following = b.value(b.add(rounds.carried[0], 1))
            rounds.next = [following]
            more = b.and_(b.any(b.value(going, going.type)), b.icmp("slt", following, ROUNDS))
            rounds.again = b.value(more, t.i1)
        self._write(first, active)
        return self.frame.finish("pairwise_coupling", self.chunks, (classes * classes + 2 * classes) * _BYTES)

    # --- vectors in memory

    def _at(self, table: t.Value, place: t.Index) -> t.Value:
        return self.b.byte_offset(table, self.b.mul(place, _BYTES))

    def _get(self, table: t.Value, place: t.Index) -> t.Value:
        return self.b.load(self._at(table, place), _VECTOR)

    def _put(self, value: t.Value, table: t.Value, place: t.Index) -> None:
        self.b.store(value, self._at(table, place))

    def _cell(self, row: t.Index, column: t.Index) -> t.Index:
        return self.b.add(self.b.mul(row, self.classes), column)

    # --- steps

    def _read(self, first: t.Index, active: t.Value) -> None:
        """The matrix from the probabilities of the pairs; lanes without a row have pairs of equals."""
        b, classes = self.b, self.classes
        pairs = classes * (classes - 1) // 2
        base = b.offset(self.frame.pointers[self.form.pairs.name], b.mul(first, pairs), t.f32)
        lanes = t.vector_constant(t.i64, [lane * pairs for lane in range(LANES)])
        with b.loop(0, classes, name="diagonal") as loop:
            self._put(b.const(_VECTOR, 0.0), self.matrix, self._cell(loop.iv, loop.iv))
        with b.loop(0, classes, carry=[0], name="first") as rows:
            i = rows.iv
            with b.loop(b.value(b.add(i, 1)), classes, carry=[rows.carried[0]], name="second") as columns:
                j, (pair,) = columns.iv, columns.carried
                indices = b.value(b.add(lanes, b.splat(pair)), lanes.type)
                one = b.gather(base, indices, t.f32, active, 0.5)
                other = b.fsub(1.0, one)
                for place, part in ((self._cell(i, i), other), (self._cell(j, j), one)):
                    self._put(b.fadd(self._get(self.matrix, place), b.fmul(part, part)), self.matrix, place)
                both = b.fneg(b.fmul(other, one))
                for place in (self._cell(i, j), self._cell(j, i)):
                    self._put(both, self.matrix, place)
                columns.next = [b.add(pair, 1)]
            rows.next = columns.results

    def _multiply(self) -> t.Value:
        """The products of the matrix and the result; returns their product with the result."""
        b, classes = self.b, self.classes
        with b.loop(0, classes, carry=[b.const(_VECTOR, 0.0)], name="row") as rows:
            zero = b.const(_VECTOR, 0.0)
            with b.loop(0, classes, carry=[zero], name="column") as columns:
                element = self._get(self.matrix, self._cell(rows.iv, columns.iv))
                product = b.fmul(element, self._get(self.result, columns.iv))
                columns.next = [b.fadd(columns.carried[0], product)]
            (total,) = columns.results
            self._put(total, self.products, rows.iv)
            rows.next = [b.fadd(rows.carried[0], b.fmul(self._get(self.result, rows.iv), total))]
        return rows.results[0]

    def _errs(self, value: t.Value) -> t.Value:
        """Where a product differs from `value` by the precision or more; NaN does not."""
        b = self.b
        with b.loop(0, self.classes, carry=[b.const(_VECTOR, 0.0)], name="error") as loop:
            error = b.fabs(b.fsub(self._get(self.products, loop.iv), value))
            (worst,) = loop.carried
            loop.next = [b.select(b.fcmp("ogt", error, worst), error, worst)]
        return b.fcmp("oge", loop.results[0], PRECISION / self.classes)

    def _improve(self, value: t.Value, going: t.Value) -> None:
        """One round for the lanes that are `going`; a change of 0 leaves the others as they are."""
        b, classes = self.b, self.classes
        zero = b.const(_VECTOR, 0.0)
        with b.loop(0, classes, carry=[value], name="class") as loop:
            i, (current,) = loop.iv, loop.carried
            own, product = self._get(self.matrix, self._cell(i, i)), self._get(self.products, i)
            change = b.select(going, b.fdiv(b.fsub(current, product), own), zero)
            self._put(b.fadd(self._get(self.result, i), change), self.result, i)
            rise = b.fmul(change, b.fadd(b.fmul(change, own), b.fmul(product, 2.0)))
            scale = b.fadd(change, 1.0)
            loop.next = [b.fdiv(b.fdiv(b.fadd(current, rise), scale), scale)]
            with b.loop(0, classes, name="other") as others:
                j = others.iv
                moved = b.fmul(change, self._get(self.matrix, self._cell(i, j)))
                self._put(b.fdiv(b.fadd(self._get(self.products, j), moved), scale), self.products, j)
                self._put(b.fdiv(self._get(self.result, j), scale), self.result, j)

    def _write(self, first: t.Index, active: t.Value) -> None:
        b, classes = self.b, self.classes
        base = b.offset(self.frame.pointers[self.form.result.name], b.mul(first, classes), t.f32)
        lanes = t.vector_constant(t.i64, [lane * classes for lane in range(LANES)])
        with b.loop(0, classes, name="write") as loop:
            indices = b.value(b.add(lanes, b.splat(loop.iv)), lanes.type)
            b.scatter(self._get(self.result, loop.iv), base, indices, active)
