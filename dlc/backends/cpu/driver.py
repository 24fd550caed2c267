"""The driver of a model: the functions that check sizes and walk the program, in generated code."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.compiled import SLOT, CompiledKernel
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.backends.cpu.module import Module
from dlc.ir.dims import Dim, Guard, Relation, Symbol, free_symbols
from dlc.lowering.program import Bind, Buffer, Check, Host, Launch, Program, StorageKind

GUARD_STATUS = 1024
_PREDICATES = {Relation.EQ: "eq", Relation.LE: "sle", Relation.LT: "slt"}


def emit_driver(module: Module, program: Program, kernels: Sequence[CompiledKernel]) -> None:
    """Write `dlc_shapes` and `dlc_run` (see runtime/native/dlc.h) for `program`."""
    _emit_shapes(module, program)
    _Run(module, program, kernels).emit()


def _dims(b: FunctionBuilder, numbers: dict[str, t.Value]) -> ExpressionEmitter:
    emitter = ExpressionEmitter(b, {}, {}, lambda _: None)
    emitter.axes.update(numbers)
    return emitter


def _holds(emitter: ExpressionEmitter, guard: Guard) -> t.Value:
    left, right = emitter.dim(guard.left), emitter.dim(guard.right)
    return emitter.b.icmp(_PREDICATES.get(guard.relation, "ne"), left, right)


def _symbols_of(guard: Guard) -> frozenset[Symbol]:
    return free_symbols(guard.left) | free_symbols(guard.right)


def _emit_shapes(module: Module, program: Program) -> None:
    """dlc_shapes(symbols, out): guards, arena bytes, extents of outputs (0 where only the run tells)."""
    b = module.function("dlc_shapes", [("symbols", t.ptr), ("out", t.ptr)], t.i64)
    symbols, out = b.params
    numbers = {
        symbol.name: b.load(b.byte_offset(symbols, i * SLOT), t.i64)
        for i, symbol in enumerate(program.symbols)
    }
    emitter = _dims(b, numbers)
    known = set(program.symbols)
    failed: t.Value = b.const(t.i64, 0)
    for index, guard in reversed(list(enumerate(program.guards))):
        if _symbols_of(guard) <= known:
            failed = b.select(_holds(emitter, guard), failed, b.const(t.i64, index + 1))
    dims: list[Dim] = [program.arena, *(dim for buffer in program.outputs for dim in buffer.type.shape)]
    for index, dim in enumerate(dims):
        number = emitter.dim(dim) if free_symbols(dim) <= known else b.const(t.i64, 0)
        b.store(number, b.byte_offset(out, index * SLOT))
    b.return_(failed)


@dataclasses.dataclass
class _Pointers:
    inputs: t.Value
    outputs: t.Value
    constants: t.Value
    arena: t.Value


class _Run:
    """dlc_run: one launch after the other."""

    def __init__(self, module: Module, program: Program, kernels: Sequence[CompiledKernel]) -> None:
        self.program = program
        self.kernels = kernels
        self.b = module.function(
            "dlc_run",
            [
                ("context", t.ptr),
                ("symbols", t.ptr),
                ("inputs", t.ptr),
                ("outputs", t.ptr),
                ("constants", t.ptr),
                ("arena", t.ptr),
            ],
            t.i64,
        )
        self.context, self.symbols, inputs, outputs, constants, arena = self.b.params
        self.tables = _Pointers(inputs, outputs, constants, arena)
        widest = max([len(k.kernel.params) + len(k.symbols) + 2 for k in kernels] + [16])
        self.args = self.b.stack(widest * SLOT)
        numbers = {
            symbol.name: self.b.load_invariant(self.b.byte_offset(self.symbols, i * SLOT), t.i64)
            for i, symbol in enumerate(program.symbols)
        }
        self.emitter = _dims(self.b, numbers)

    def emit(self) -> None:
        b = self.b
        scratch = [k.scratch for k in self.kernels]
        static = [s for s in scratch if isinstance(s, int)]
        known = set(self.program.symbols)
        most: t.Index = max(static, default=0)
        for dim in scratch:
            if not isinstance(dim, int) and free_symbols(dim) <= known:
                most = b.smax(most, self.emitter.dim(dim))
        b.call("dlc_reserve_scratch", [self.context, b.value(most)], t.i64)
        for index, step in enumerate(self.program.steps):
            match step:
                case Launch():
                    self._launch(index, step)
                case Bind(symbol, buffer, element):
                    self._bind(symbol, buffer, element)
                case Check(guard, number):
                    self._check(guard, number)
                case Host():
                    self._host(step)
        b.return_(b.load(b.byte_offset(self.context, 5 * SLOT), t.i64))

    def _pointer(self, buffer: Buffer) -> t.Value:
        b, storage = self.b, buffer.storage
        match storage.kind:
            case StorageKind.ARENA:
                base = self.tables.arena
            case StorageKind.INPUT:
                base = b.load_invariant(b.byte_offset(self.tables.inputs, storage.index * SLOT), t.ptr)
            case StorageKind.OUTPUT:
                base = b.load_invariant(b.byte_offset(self.tables.outputs, storage.index * SLOT), t.ptr)
            case StorageKind.CONSTANT:
                base = b.load_invariant(b.byte_offset(self.tables.constants, storage.index * SLOT), t.ptr)
        return b.byte_offset(base, self.emitter.dim(buffer.offset))

    def _launch(self, index: int, step: Launch) -> None:
        b, kernel = self.b, self.kernels[step.kernel]
        slots: list[t.Value] = [self._pointer(buffer) for buffer in step.buffers]
        slots += [self.emitter.dim(symbol) for symbol in kernel.symbols]
        if kernel.reports_faults:
            slots += [b.byte_offset(self.context, 6 * SLOT), b.const(t.i64, index)]
        for position, value in enumerate(slots):
            b.store(value, b.byte_offset(self.args, position * SLOT))
        if not isinstance(kernel.scratch, int) and not free_symbols(kernel.scratch) <= set(
            self.program.symbols
        ):
            b.call("dlc_reserve_scratch", [self.context, self.emitter.dim(kernel.scratch)], t.i64)
        function = t.Value(t.ptr, f"@{kernel.function}", None, None)
        b.call("dlc_launch", [self.context, function, self.args, self.emitter.dim(kernel.chunks)])

    def _bind(self, symbol: Symbol, buffer: Buffer, element: int) -> None:
        """Read a number that the run computed; kept for the caller behind the inputs' symbols."""
        b = self.b
        from dlc.backends.cpu.access import storage_type
        from dlc.ir.dtypes import Kind

        type_ = storage_type(buffer.type.dtype)
        value = b.load(b.offset(self._pointer(buffer), element, type_), type_)
        if type_ is not t.i64:
            value = b.sext(value, t.i64) if buffer.type.dtype.kind is Kind.SIGNED else b.zext(value, t.i64)
        position = len(self.program.symbols) + self.program.run_symbols.index(symbol)
        b.store(value, b.byte_offset(self.symbols, position * SLOT))
        self.emitter.axes[symbol.name] = value

    def _check(self, guard: Guard, number: int) -> None:
        b = self.b
        status = b.byte_offset(self.context, 5 * SLOT)
        before = b.load(status, t.i64)
        bad = b.and_(b.not_(_holds(self.emitter, guard)), b.icmp("eq", before, 0))
        b.store(b.select(b.value(bad, t.i1), b.const(t.i64, GUARD_STATUS + number), before), status)

    def _host(self, step: Host) -> None:
        b = self.b
        buffers = [buffer for buffer in (*step.inputs, *step.outputs) if buffer is not None]
        table = b.stack(max(len(buffers), 1) * SLOT)
        for position, buffer in enumerate(buffers):
            b.store(self._pointer(buffer), b.byte_offset(table, position * SLOT))
        b.call("dlc_host_step", [self.context, b.const(t.i64, step.index), table, self.symbols], t.i64)
