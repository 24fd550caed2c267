"""The meaning of a program: its steps in NumPy, on real bytes.

Storages are byte arrays; the arena and the outputs are poisoned with NaN, so that what is never written
shows. Tensors are views of them under their layouts, so that offsets, layouts and halos are tried with the
kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from dlc.errors import IndexFault, InputError, InternalError, LimitError, ShapeError
from dlc.ir.dims import Dim, Symbol, evaluate as evaluate_dim, product
from dlc.ir.dtypes import from_numpy
from dlc.ir.objects import with_row
from dlc.ir.operator import Array
from dlc.ir.types import TensorType
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.kernel import Access, Param
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
    ObjectSlot,
    Place,
    Program,
    Refer,
    Repeat,
    Set,
    Step,
    Storage,
    StorageKind,
    Unload,
    buffers,
    walk,
)
from dlc.lowering.replay import Ledger, refuse
from dlc.lowering.tensors import Memory

#: What poisoned bytes hold: NaN as floats of any width.
POISON = 0xFF
#: Runs the kernel of that number on its tensors, with the numbers of its symbols.
RunKernel: TypeAlias = Callable[[int, Mapping[str, Memory], Mapping[str, int]], None]


def evaluate_program(
    program: Program,
    inputs: Sequence[Any],
    symbols: Mapping[str, int] | None = None,
    *,
    wide: bool = False,
    run_kernel: RunKernel | None = None,
) -> list[Any]:
    """The outputs of `program` for `inputs`, both in the model's order; each step is checked by a Ledger.

    They are arrays, but for sequences, which are lists of arrays, and optionals, which may be None.

    Symbols that are extents of inputs are read from the arrays; `symbols` gives the others that a call
    passes. `wide` is for every kernel what it is for `evaluate_kernel`; `run_kernel` runs them in its place.
    Raises ShapeError or InputError for inputs that do not fit or break a guard, IndexFault for an index from
    data out of range, InternalError for an unsound program.
    """
    env = {**_extents(program, inputs), **(symbols or {})}
    missing = [symbol.name for symbol in program.symbols if symbol.name not in env]
    if missing:
        raise InputError(f"no number is given for the symbol {missing[0]}")
    for guard in program.guards[: program.entry_guards]:
        if not guard.holds(env):
            raise InputError(guard.message, node=guard.origin)
    run = _Run(program, inputs, env, wide, run_kernel)
    run.steps(program.steps)
    refuse(run.ledger.finish(env))
    return [run.content(place) for place in program.outputs]


def _extents(program: Program, inputs: Sequence[Any]) -> dict[str, int]:
    """The numbers of the symbols that are extents of inputs, which must fit their types."""
    if len(inputs) != len(program.inputs):
        raise InputError(f"{len(inputs)} inputs are given, not {len(program.inputs)}")
    env: dict[str, int] = {}
    tensors = [(p.name, p.type, x) for p, x in zip(program.inputs, inputs) if isinstance(p.type, TensorType)]
    for name, type_, array in tensors:
        if array.ndim != type_.rank or from_numpy(array.dtype) is not type_.dtype:
            raise ShapeError(f"input {name} is {array.dtype}{list(array.shape)}, not {type_}")
        for dim, extent in zip(type_.shape, array.shape):
            if isinstance(dim, Symbol):
                env.setdefault(dim.name, extent)
    for name, type_, array in tensors:
        if array.shape != tuple(evaluate_dim(dim, env) for dim in type_.shape):
            raise ShapeError(f"input {name} has shape {list(array.shape)}, not {type_}")
    return env


class _Run:
    def __init__(
        self,
        program: Program,
        inputs: Sequence[Any],
        env: dict[str, int],
        wide: bool,
        run_kernel: RunKernel | None,
    ) -> None:
        self.program = program
        self.env = env
        self.wide = wide
        self.run_kernel = run_kernel or self._evaluate_kernel
        self.ledger = Ledger(program)
        self.numbers = {id(step): number for number, step in enumerate(walk(program.steps))}
        self.memory: dict[tuple[StorageKind, int], Array] = {
            (StorageKind.ARENA, 0): np.full(self.number(program.arena), POISON, np.uint8)
        }
        self.objects: dict[int, Any] = {}
        for place, array in zip(program.inputs, inputs):
            if isinstance(place, ObjectSlot):
                self.objects[place.index] = array
            else:
                self._hold(StorageKind.INPUT, place.storage.index, array)
        for entry in program.object_constants:
            self.objects[entry.slot.index] = entry.data
        for index, constant in enumerate(program.constants):
            self._hold(StorageKind.CONSTANT, index, constant.data)
        for buffer in buffers(program.outputs):
            if buffer.storage.kind is StorageKind.OUTPUT:
                size = self.number(buffer.storage.bytes)
                self.memory[buffer.storage.kind, buffer.storage.index] = np.full(size, POISON, np.uint8)

    def number(self, dim: Dim) -> int:
        return evaluate_dim(dim, self.env)

    def _hold(self, kind: StorageKind, index: int, array: Array) -> None:
        """Let a storage hold the bytes of an array."""
        data = np.ascontiguousarray(array).reshape(-1)
        self.memory[kind, index] = data.view(np.uint8).copy() if data.size else np.zeros(0, np.uint8)

    def steps(self, steps: Sequence[Step]) -> None:
        """Take `steps`, one after the other."""
        for step in steps:
            number = self.numbers[id(step)]
            refuse(self.ledger.step(number, step, self.env))
            match step:
                case Launch():
                    self._launch(number, step)
                case Bind(symbol, buffer, index):
                    self.env[symbol.name] = int(self.view(buffer).whole().reshape(-1)[index])
                case Check(guard, _):
                    if not guard.holds(self.env):
                        raise InputError(guard.message, node=guard.origin)
                case Host():
                    self._host(step)
                case Measure(_, symbol, slot, axis):
                    self.env[symbol.name] = self.objects[slot.index].shape[axis]
                case Unload(_, slot, buffer):
                    self._assign(buffer, self.objects[slot.index])
                case Refer(_, source, target, row):
                    element = self.objects[source.index]
                    if row is not None:
                        element = with_row(self.objects[target.index], self.number(row), element)
                    self.objects[target.index] = element
                case Set(symbols, values):
                    numbers = [self.number(value) for value in values]
                    self.env.update((s.name, n) for s, n in zip(symbols, numbers, strict=True))
                case Grow(storage, size):
                    self._grow(storage, self.number(size))
                case Copy(source, target):
                    self._bytes(target)[...] = self._bytes(source)
                case Branch():
                    way = step.then if self._holds(number, step.condition) else step.otherwise
                    self._inside(way, step.symbols)
                case Repeat():
                    self._repeat(number, step)

    def _inside(self, steps: Sequence[Step], symbols: Sequence[Symbol]) -> None:
        """Take the steps of a branch or loop, whose bindings end with them, but for those of `symbols`."""
        outside = dict(self.env)
        self.steps(steps)
        outside.update((symbol.name, self.env[symbol.name]) for symbol in symbols)
        self.env.clear()
        self.env.update(outside)

    def _holds(self, number: int, condition: Buffer | None) -> bool:
        if condition is None:
            return True
        refuse(self.ledger.read(number, condition, self.env))
        return bool(self.view(condition).whole().reshape(-1)[0])

    def _repeat(self, number: int, step: Repeat) -> None:
        trip = None if step.trip is None else self.number(step.trip)
        condition, count = step.condition, 0
        while (trip is None or count < trip) and self._holds(number, condition):
            if count >= step.limit:
                where = ", ".join(step.origins) or None
                raise LimitError(f"a loop takes more than {step.limit} iterations", node=where)
            self.env[step.number.name] = count
            if step.counter is not None:
                refuse(self.ledger.write(number, step.counter, self.env))
                self.view(step.counter).assign(np.full((), count))
            self._inside(step.body, step.symbols)
            condition, count = step.again, count + 1
        self.env.pop(step.number.name, None)

    def _memory(self, storage: Storage) -> Array:
        """The bytes of a storage; a growing one has none at first."""
        return self.memory.get((storage.kind, storage.index), np.zeros(0, np.uint8))

    def _grow(self, storage: Storage, size: int) -> None:
        """Make a growing storage at least `size` bytes long."""
        held = self._memory(storage)
        if size > len(held):
            more = np.full(size - len(held), POISON, np.uint8)
            self.memory[storage.kind, storage.index] = np.concatenate([held, more])

    def _bytes(self, buffer: Buffer) -> Array:
        """The bytes of a row-major tensor."""
        start = self.number(buffer.offset)
        size = self.number(product(buffer.type.shape)) * buffer.type.dtype.itemsize
        return self._memory(buffer.storage)[start : start + size]

    def view(self, buffer: Buffer, param: Param | None = None) -> Memory:
        """The tensor in a buffer, as `param` describes it."""
        type_ = buffer.type if param is None else param.type
        dtype = type_.dtype.numpy
        physical = tuple(map(self.number, type_.physical_shape))
        memory = self._memory(buffer.storage)
        strides = None
        if param is not None and param.strides is not None:
            strides = [self.number(stride) * dtype.itemsize for stride in param.strides]
        if 0 in physical:
            array: Array = np.zeros(physical, dtype)
        else:
            start = self.number(buffer.offset)
            try:
                array = np.ndarray(physical, dtype, memory, start, strides)
            except (TypeError, ValueError) as error:
                raise InternalError(f"%{buffer.name} leaves its storage: {error}") from None
        return Memory(array, type_, tuple(map(self.number, type_.shape)))

    def _launch(self, number: int, step: Launch) -> None:
        kernel = self.program.kernels[step.kernel]
        tensors = {}
        for param, buffer in zip(kernel.params, step.buffers, strict=True):
            tensor = tensors[param.name] = self.view(buffer, param)
            problem = tensor.stale_halo() if param.access is Access.READ else None
            if problem is not None:
                raise InternalError(f"step {number} reads %{buffer.name}: {problem}")
        try:
            self.run_kernel(step.kernel, tensors, self.env)
        except IndexFault as fault:
            # Kernels are shared and know no origins; the launch does.
            raise IndexFault(fault.message, node=", ".join(step.origins) or None) from None

    def _evaluate_kernel(
        self, index: int, tensors: Mapping[str, Memory], symbols: Mapping[str, int]
    ) -> None:
        evaluate_kernel(self.program.kernels[index], tensors, symbols, wide=self.wide)

    def _host(self, step: Host) -> None:
        """One node by its own evaluation."""
        inputs = [None if place is None else self.content(place) for place in step.inputs]
        results = step.node.op.evaluate(inputs, self.number)
        for place, result in zip(step.outputs, results, strict=True):
            if isinstance(place, ObjectSlot):
                self.objects[place.index] = result
            else:
                self._assign(place, result)

    def content(self, place: Place) -> Any:
        """The array in a buffer, copied, or the object in a slot."""
        if isinstance(place, ObjectSlot):
            return self.objects[place.index]
        return self.view(place).whole().copy()

    def _assign(self, buffer: Buffer, array: Array) -> None:
        """Write an array to a buffer, whose shape it must have."""
        view = self.view(buffer)
        if view.shape != array.shape:
            raise InternalError(f"%{buffer.name} has shape {view.shape}, not {array.shape}")
        view.assign(array)
