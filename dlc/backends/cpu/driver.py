"""The driver of a model: the functions that check sizes and walk the program, in generated code."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.compiled import FAULT, SLOT, CompiledKernel
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.backends.cpu.growth import emit_growth
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.overflow import (
    LARGEST_EXTENT,
    Magnitudes,
    Polynomial,
    fit,
    guard_is_exact,
    part,
)
from dlc.backends.cpu.zones import RedZones
from dlc.ir.dims import Dim, Guard, Relation, Symbol, free_symbols, product
from dlc.lowering.program import (
    Bind,
    Branch,
    Buffer,
    Check,
    Copy,
    Grow,
    Host,
    Launch,
    Measure,
    Program,
    Refer,
    Repeat,
    Set,
    Step,
    Steps,
    StorageKind,
    Unload,
    buffers,
)

OVERFLOW_STATUS = 7
GUARD_STATUS = 1024
#: The word of dlc_context that points to the growing storages.
STORAGES = 14
#: The word of dlc_context that tells which step launches.
STEP = 17
_PREDICATES = {Relation.EQ: "eq", Relation.LE: "sle", Relation.LT: "slt"}


def emit_driver(
    module: Module, program: Program, kernels: Sequence[CompiledKernel], workspace: Dim
) -> None:
    """Write `dlc_shapes` and `dlc_run` (see runtime/native/dlc.h) for `program`.

    `workspace` is where the memory that the phases of a kernel share begins in the arena.
    """
    _emit_shapes(module, program, kernels)
    _Run(module, program, kernels, workspace).emit()


def _dims(b: FunctionBuilder, numbers: dict[str, t.Value]) -> ExpressionEmitter:
    emitter = ExpressionEmitter(b, {}, {}, lambda _: None)
    emitter.fix_symbols(numbers)
    return emitter


def _holds(emitter: ExpressionEmitter, guard: Guard, most: Mapping[str, int]) -> t.Value:
    """Whether a guard holds; not if its sides leave 64 bits. `most` bounds symbols."""
    b = emitter.b
    holds = b.icmp(
        _PREDICATES.get(guard.relation, "ne"), emitter.dim(guard.left), emitter.dim(guard.right)
    )
    exact = guard_is_exact(b, emitter, guard, most)
    return holds if exact is None else b.value(b.and_(holds, exact), t.i1)


def _bounds(program: Program) -> dict[str, int]:
    """What the runtime lets the symbols of a call be, at most."""
    return {symbol.name: LARGEST_EXTENT for symbol in program.symbols}


def _sizes(program: Program, kernels: Sequence[CompiledKernel]) -> Polynomial:
    """A bound of what a program computes with the symbols of a call, as far as it may be large."""
    magnitudes = Magnitudes(_bounds(program))
    magnitudes.require([program.arena])
    for place in buffers(program.outputs):
        magnitudes.require([*place.type.shape, place.type.elements * place.type.dtype.itemsize])
    for kernel in kernels:
        magnitudes.require_kernel(kernel.kernel)
        magnitudes.require([kernel.scratch, kernel.chunks])
    return part(magnitudes.unbounded(), set(program.symbols), within=True)


def _emit_shapes(module: Module, program: Program, kernels: Sequence[CompiledKernel]) -> None:
    """dlc_shapes(symbols, out): guards, arena bytes (-1: some size leaves 64 bits), extents of outputs (0
    where only the run tells).
    """
    b = module.function("dlc_shapes", [("symbols", t.ptr), ("out", t.ptr)], t.i64)
    symbols, out = b.params
    numbers = {
        symbol.name: b.load(b.byte_offset(symbols, i * SLOT), t.i64)
        for i, symbol in enumerate(program.symbols)
    }
    emitter = _dims(b, numbers)
    known = set(program.symbols)
    failed: t.Value = b.const(t.i64, 0)
    for index, guard in reversed(list(enumerate(program.guards[: program.entry_guards]))):
        failed = b.select(_holds(emitter, guard, _bounds(program)), failed, b.const(t.i64, index + 1))
    shapes = [place.type.shape for place in buffers(program.outputs)]
    dims: list[Dim] = [program.arena, *(dim for shape in shapes for dim in shape)]
    for index, dim in enumerate(dims):
        number = emitter.dim(dim) if free_symbols(dim) <= known else b.const(t.i64, 0)
        if index == 0:
            fits = fit(b, emitter, _sizes(program, kernels))
            number = number if fits is None else b.select(fits, number, -1)
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

    def __init__(
        self, module: Module, program: Program, kernels: Sequence[CompiledKernel], workspace: Dim
    ) -> None:
        self.program = program
        self.kernels = kernels
        self.workspace = workspace
        self.most = _bounds(program)
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
        widest = max([2 * len(k.kernel.params) + len(k.symbols) + 4 for k in kernels] + [16])
        self.args = self.b.stack(widest * SLOT)
        numbers = {
            symbol.name: self.b.load_invariant(self.b.byte_offset(self.symbols, i * SLOT), t.i64)
            for i, symbol in enumerate(program.symbols)
        }
        self.emitter = _dims(self.b, numbers)
        self.slots = {s.name: i for i, s in enumerate((*program.symbols, *program.run_symbols))}
        #: The number of the next step, in the order of `walk`.
        self.number = 0

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
        self._steps(self.program.steps)
        b.return_(b.load(b.byte_offset(self.context, 5 * SLOT), t.i64))

    def _steps(self, steps: Steps) -> None:
        for step in steps:
            number = self.number
            self.number += 1
            self._step(number, step)

    def _step(self, number: int, step: Step) -> None:
        zones = RedZones(self.b, self.program.red_zone, self.tables.arena, self.emitter)
        match step:
            case Launch():
                with zones.around(self.context, number, step.buffers):
                    self._launch(number, step)
            case Bind(symbol, buffer, element):
                self._bind(symbol, buffer, element)
            case Set(symbols, values):
                self._require_exact(number, values)
                for symbol, value in zip(symbols, list(map(self.emitter.dim, values)), strict=True):
                    self._set(symbol, value)
            case Check(guard, index):
                self._check(guard, index)
            case Grow(storage, size):
                emit_growth(self.b, self.context, storage.index, size, self.emitter)
            case Copy(source, target):
                size = source.type.elements * source.type.dtype.itemsize
                places = self._pointer(target), self._pointer(source)
                self.b.call("dlc_copy", [self.context, *places, self.emitter.dim(size)])
            case Branch():
                self._branch(step)
            case Repeat():
                self._repeat(number, step)
            case Host():
                with zones.around(self.context, number, buffers(step.outputs)):
                    self._host(number, buffers((*step.inputs, *step.outputs)))
            case Unload():
                with zones.around(self.context, number, [step.buffer]):
                    self._host(number, [step.buffer])
            case Measure():
                self._host(number, [])
                self._reload([step.symbol])
            case Refer():
                self._host(number, [])

    def _require_exact(self, number: int, dims: Sequence[Dim]) -> None:
        """Stop the call where the computation of `dims` from numbers of the run leaves 64 bits."""
        magnitudes = Magnitudes(self.most)
        magnitudes.require(dim for dim in dims if not isinstance(dim, Symbol))
        self._require_small(number, magnitudes)

    def _require_small(self, number: int, magnitudes: Magnitudes) -> None:
        """Stop the call where what depends on numbers of the run may be large."""
        b = self.b
        known = set(self.program.symbols)
        fits = fit(b, self.emitter, part(magnitudes.unbounded(), known, within=False))
        if fits is None:
            return
        with b.if_(b.value(b.not_(fits), t.i1), name="overflow"):
            status, fault = (b.byte_offset(self.context, word * SLOT) for word in (5, FAULT))
            before = b.load(status, t.i64)
            first = b.icmp("eq", before, 0)
            b.store(b.select(first, OVERFLOW_STATUS, before), status)
            b.store(b.select(first, number << 40, b.load(fault, t.i64)), fault)

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
            case StorageKind.GROWN:
                # It may have moved since the last step.
                table = b.load(b.byte_offset(self.context, STORAGES * SLOT), t.ptr)
                base = b.load(b.byte_offset(table, storage.index * 2 * SLOT), t.ptr)
        return b.byte_offset(base, self.emitter.dim(buffer.offset))

    def _bytes(self, buffer: Buffer) -> t.Value:
        """The bytes of a buffer; those of a constant as kernels read it."""
        if buffer.storage.kind is StorageKind.CONSTANT:
            return self.emitter.dim(buffer.storage.bytes)
        return self.emitter.dim(product(buffer.type.physical_shape) * buffer.type.dtype.itemsize)

    def _launch(self, index: int, step: Launch) -> None:
        b, kernel = self.b, self.kernels[step.kernel]
        magnitudes = Magnitudes(self.most)
        magnitudes.require_kernel(kernel.kernel)
        magnitudes.require([kernel.scratch, kernel.chunks])
        self._require_small(index, magnitudes)
        slots: list[t.Value] = [self._pointer(buffer) for buffer in step.buffers]
        slots += [self.emitter.dim(symbol) for symbol in kernel.symbols]
        if kernel.reports_faults:
            slots += [b.byte_offset(self.context, FAULT * SLOT), b.const(t.i64, index)]
        if b.module.debug:
            slots += [self.emitter.dim(kernel.scratch), *map(self._bytes, step.buffers)]
        for position, value in enumerate(slots):
            b.store(value, b.byte_offset(self.args, position * SLOT))
        if kernel.workspace != 0:
            place = b.byte_offset(self.tables.arena, self.emitter.dim(self.workspace))
            params = len(step.buffers)
            slot = params + len(kernel.symbols) + 2 + (1 + params if b.module.debug else 0)
            b.store(place, b.byte_offset(self.args, slot * SLOT))
        if not isinstance(kernel.scratch, int) and not free_symbols(kernel.scratch) <= set(
            self.program.symbols
        ):
            b.call("dlc_reserve_scratch", [self.context, self.emitter.dim(kernel.scratch)], t.i64)
        b.store(index, b.byte_offset(self.context, STEP * SLOT))
        if kernel.before is not None:
            self._call(kernel.before.function, kernel.before.chunks)
        self._call(kernel.function, kernel.chunks)

    def _call(self, name: str, chunks: Dim) -> None:
        function = t.Value(t.ptr, f"@{name}", None, None)
        self.b.call("dlc_launch", [self.context, function, self.args, self.emitter.dim(chunks)])

    def _bind(self, symbol: Symbol, buffer: Buffer, element: int) -> None:
        """Read a number that the run computed; kept for the caller behind the inputs' symbols."""
        b = self.b
        from dlc.backends.cpu.access import storage_type
        from dlc.ir.dtypes import Kind

        type_ = storage_type(buffer.type.dtype)
        value = b.load(b.offset(self._pointer(buffer), element, type_), type_)
        if type_ is not t.i64:
            value = b.sext(value, t.i64) if buffer.type.dtype.kind is Kind.SIGNED else b.zext(value, t.i64)
        self._set(symbol, value)

    def _set(self, symbol: Symbol, value: t.Value) -> None:
        """Let `symbol` be `value`, for what follows here and, in memory, for the caller and host steps."""
        self.b.store(value, self.b.byte_offset(self.symbols, self.slots[symbol.name] * SLOT))
        self.emitter.axes[symbol.name] = value

    def _reload(self, symbols: Sequence[Symbol]) -> None:
        """Take the numbers that symbols got in a branch, in a loop or from Python."""
        for symbol in symbols:
            slot = self.b.byte_offset(self.symbols, self.slots[symbol.name] * SLOT)
            self.emitter.axes[symbol.name] = self.b.load(slot, t.i64)

    @contextlib.contextmanager
    def _inner(self) -> Iterator[None]:
        """What is bound inside ends with it."""
        outside = dict(self.emitter.axes)
        yield
        self.emitter.axes.clear()
        self.emitter.axes.update(outside)

    def _holds(self, condition: Buffer) -> t.Value:
        """A bool in memory."""
        return self.b.icmp("ne", self.b.load(self._pointer(condition), t.i8), self.b.const(t.i8, 0))

    def _branch(self, step: Branch) -> None:
        b = self.b
        with b.if_else(self._holds(step.condition), name="way") as both:
            with both.then, self._inner():
                self._steps(step.then)
            with both.otherwise, self._inner():
                self._steps(step.otherwise)
        self._reload(step.symbols)

    def _goes_on(self, trip: t.Index | None, condition: Buffer | None, number: t.Value) -> t.Value:
        """Whether iteration `number` is to run. A call that was stopped has not computed the condition."""
        b = self.b
        wanted = b.icmp("eq", b.call("dlc_stopped", [self.context], t.i64), 0)
        if trip is not None:
            wanted = b.value(b.and_(wanted, b.icmp("slt", number, trip)), t.i1)
        if condition is not None:
            wanted = b.value(b.and_(wanted, self._holds(condition)), t.i1)
        return wanted

    def _repeat(self, number: int, step: Repeat) -> None:
        b = self.b
        trip = None if step.trip is None else self.emitter.dim(step.trip)
        zero = b.const(t.i64, 0)
        entered = self._goes_on(trip, step.condition, zero)
        with b.if_(entered, name="enter"), b.repeat([zero], name="iteration") as loop, self._inner():
            (count,) = loop.carried
            self._set(step.number, count)
            if step.counter is not None:
                b.store(count, self._pointer(step.counter))
            self._reload(step.symbols)
            self._steps(step.body)
            following = b.value(b.add(count, 1))
            if not isinstance(step.trip, int) or step.trip > step.limit:
                over = b.icmp("eq", following, step.limit)
                with b.if_(b.and_(over, self._goes_on(trip, step.again, following)), name="endless"):
                    b.call("dlc_endless", [self.context, b.const(t.i64, number)])
            loop.again = self._goes_on(trip, step.again, following)
            loop.next = [following]
        self._reload(step.symbols)

    def _check(self, guard: Guard, number: int) -> None:
        b = self.b
        status = b.byte_offset(self.context, 5 * SLOT)
        before = b.load(status, t.i64)
        bad = b.and_(b.not_(_holds(self.emitter, guard, self.most)), b.icmp("eq", before, 0))
        b.store(b.select(b.value(bad, t.i1), b.const(t.i64, GUARD_STATUS + number), before), status)

    def _host(self, number: int, operands: Sequence[Buffer]) -> None:
        """Let Python take a step, on the memory of `operands`."""
        b = self.b
        table = b.stack(max(len(operands), 1) * SLOT)
        for position, buffer in enumerate(operands):
            b.store(self._pointer(buffer), b.byte_offset(table, position * SLOT))
        b.call("dlc_host_step", [self.context, b.const(t.i64, number), table, self.symbols], t.i64)
