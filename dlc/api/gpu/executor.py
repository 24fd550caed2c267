"""Walks a plan on a machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlc.api.gpu import plan as p
from dlc.api.gpu.machine import Array, Machine, Memory, PreparedLaunch
from dlc.errors import IndexFault, InputError, LimitError, UnsupportedError
from dlc.ir.dims import Dim, Guard, Relation, evaluate, free_symbols
from dlc.ir.dtypes import from_text
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.kernel import Access, Kernel
from dlc.lowering.parse import parse
from dlc.lowering.tensors import Memory as TensorMemory

#: Bytes between the reports of faults.
FAULT_BYTES = 16
#: Most combinations of sizes whose launches are kept.
_BINDINGS = 64


@dataclasses.dataclass
class Binding:
    """What follows from the numbers of a call's symbols: shapes of outputs, sizes, and launches by step.

    `launches` holds those whose numbers depend on these symbols alone.
    """

    numbers: Mapping[str, int]
    shapes: tuple[tuple[int, ...] | None, ...]
    arena: int
    workspaces: tuple[int, ...]
    runs: int = 0
    launches: dict[int, PreparedLaunch] = dataclasses.field(default_factory=dict)
    #: Addresses that were passed last, by step.
    passed: dict[int, list[int]] = dataclasses.field(default_factory=dict)


class Executor:
    """Runs a plan; for one thread at a time.

    `constants` are the arrays of the program's constants, which are copied to the machine once.
    """

    def __init__(self, plan: p.Plan, machine: Machine, constants: Sequence[Array | memoryview]) -> None:
        self.plan = plan
        self.machine = machine
        self._guards = [
            Guard(Relation(g.relation), g.left, g.right, g.message, g.origin) for g in plan.guards
        ]
        self._bindings: dict[tuple[int, ...], Binding] = {}
        #: Whether the host has nothing to say in a run, so that it can be recorded.
        self._is_static = all(isinstance(step, p.Launch | p.Recur | p.Copy) for step in plan.steps)
        self._kernels: dict[str, Kernel] = {}
        self._own: dict[tuple[str, int], Memory] = {}
        for index, constant in enumerate(constants):
            data = np.frombuffer(constant, np.uint8) if isinstance(constant, memoryview) else constant
            memory = self._own[p.CONSTANT, index] = machine.allocate(max(data.nbytes, 1), "the weights")
            machine.upload(memory.address, np.ascontiguousarray(data))
        self._own[p.FAULTS, 0] = machine.allocate(
            max(1, len(plan.fault_origins)) * FAULT_BYTES, "reports of faults"
        )
        machine.synchronize()

    def bind(self, numbers: Sequence[int]) -> Binding:
        """What follows from these numbers of the plan's symbols; InputError where a guard does not hold."""
        key = tuple(numbers)
        found = self._bindings.get(key)
        if found is not None:
            return found
        plan = self.plan
        env = dict(zip(plan.symbols, key, strict=True))
        for guard in self._guards[: plan.entry_guards]:
            _require(guard, env)
        shapes = tuple(self._known(tensor.shape, env) for tensor in plan.outputs)
        spaces = tuple(evaluate(size, env) for size in plan.workspaces)
        binding = Binding(env, shapes, evaluate(plan.arena, env), spaces)
        if len(self._bindings) >= _BINDINGS:
            self._bindings.clear()
        self._bindings[key] = binding
        return binding

    def _known(self, dims: Sequence[Dim], env: Mapping[str, int]) -> tuple[int, ...] | None:
        """The numbers of some dims, if they depend on nothing that only the run tells."""
        if any(symbol.name not in env for dim in dims for symbol in free_symbols(dim)):
            return None
        return tuple(evaluate(dim, env) for dim in dims)

    def run(self, binding: Binding, inputs: Sequence[int], outputs: Sequence[int | None]) -> dict[int, Made]:
        """Run on arrays at these addresses; what outputs the run has decided the shapes of, by number.

        Raises IndexFault for an index in the data that is out of range, InputError where a guard does not
        hold.
        """
        with self.machine:
            run = _Run(self, binding, inputs, outputs)
            faults = len(self.plan.fault_origins)
            place = self._own[p.FAULTS, 0].address
            if faults:
                self.machine.fill(place, 0, faults * FAULT_BYTES)
            if self._is_static and binding.runs:
                # The first run has made everything that a recording must not make.
                key = (tuple(binding.numbers.values()), tuple(run.base.values()))
                self.machine.record(key, lambda: run.steps(self.plan.steps))
            else:
                run.steps(self.plan.steps)
            binding.runs += 1
            if faults:
                self._raise_faults(place, faults)
            return run.made()

    def _raise_faults(self, place: int, count: int) -> None:
        reports = np.zeros(count * FAULT_BYTES // 4, np.int32)
        self.machine.download(reports, place)
        found = np.flatnonzero(reports.reshape(count, -1)[:, 0])
        if found.size:
            node = self.plan.fault_origins[int(found[0])] or None
            raise IndexFault("an index in the data is out of range", node=node)

    def memory(self, kind: str, index: int, size: int, what: str) -> Memory:
        """Own memory of at least `size` bytes, whose content nobody needs any more."""
        found = self._own.get((kind, index))
        if found is None or found.size < size:
            if found is not None:
                self.machine.synchronize()
                found.close()
            found = self._own[kind, index] = self.machine.allocate(max(size, 1), what)
        return found

    def kernel(self, text: str) -> Kernel:
        """A kernel by its text."""
        if text not in self._kernels:
            self._kernels[text] = parse(text)
        return self._kernels[text]

    def close(self) -> None:
        """Give back all memory and unload the functions."""
        for memory in self._own.values():
            memory.close()
        self._own.clear()
        self.machine.close()


@dataclasses.dataclass(frozen=True)
class Made:
    """An output whose shape the run has decided: where it lies, until the next run."""

    address: int
    dtype: str
    shape: tuple[int, ...]


class _Run:
    def __init__(
        self, executor: Executor, binding: Binding, inputs: Sequence[int], outputs: Sequence[int | None]
    ) -> None:
        self.executor = executor
        self.machine = executor.machine
        self.plan = executor.plan
        self.binding = binding
        self.env = dict(binding.numbers)
        plan = self.plan
        self.base: dict[tuple[str, int], int] = {}
        for tensor, address in zip(plan.inputs, inputs, strict=True):
            self.base[tensor.place.kind, tensor.place.index] = address
        for tensor, given in zip(plan.outputs, outputs, strict=True):
            if given is not None:
                self.base[tensor.place.kind, tensor.place.index] = given
        for index in range(plan.constants):
            self.base[p.CONSTANT, index] = executor._own[p.CONSTANT, index].address
        self.base[p.FAULTS, 0] = executor._own[p.FAULTS, 0].address
        self.base[p.ARENA, 0] = executor.memory(p.ARENA, 0, binding.arena, "the arena").address
        self.reserve(binding.workspaces)

    def made(self) -> dict[int, Made]:
        """The outputs in growing memory."""
        return {
            number: Made(self.address(t.place), t.dtype, tuple(self.value(dim) for dim in t.shape))
            for number, t in enumerate(self.plan.outputs)
            if t.place.kind == p.GROWN
        }

    def value(self, dim: Dim) -> int:
        return dim if isinstance(dim, int) else evaluate(dim, self.env)

    def address(self, place: p.Place) -> int:
        """Where a place lies now; memory that has not grown yet lies at 0."""
        return self.base.get((place.kind, place.index), 0) + self.value(place.offset)

    def read(self, place: p.Place, dtype: str) -> int:
        """A number in memory, when everything before is done."""
        number = np.zeros(1, from_text(dtype).numpy)
        self.machine.download(number, self.address(place))
        return int(number[0])

    def steps(self, steps: Sequence[p.Step]) -> None:
        """Take steps, one after the other."""
        for step in steps:
            match step:
                case p.Launch():
                    self.launch(step)
                case p.Recur():
                    self.recur(step)
                case p.Evaluate():
                    self.evaluate(step)
                case p.Bind(symbol, place, dtype):
                    self.env[symbol] = self.read(place, dtype)
                case p.Check(guard):
                    _require(self.executor._guards[guard], self.env)
                case p.Set(symbols, values):
                    self.env.update(zip(symbols, [self.value(value) for value in values], strict=True))
                case p.Grow(index, size):
                    self.grow(index, self.value(size))
                case p.Reserve(sizes):
                    self.reserve([self.value(size) for size in sizes])
                case p.Copy(source, target, size):
                    self.machine.copy(self.address(target), self.address(source), self.value(size))
                case p.Branch(condition, then, otherwise, symbols):
                    self.inside(then if self.read(condition, "bool") else otherwise, symbols)
                case p.Repeat():
                    self.repeat(step)

    def inside(self, steps: Sequence[p.Step], symbols: Sequence[str]) -> None:
        """Take the steps of a branch or loop, whose bindings end with them, but for those of `symbols`."""
        outside = dict(self.env)
        self.steps(steps)
        outside.update((symbol, self.env[symbol]) for symbol in symbols)
        self.env = outside

    def repeat(self, step: p.Repeat) -> None:
        trip = None if step.trip is None else self.value(step.trip)
        condition, count = step.condition, 0
        while (trip is None or count < trip) and (condition is None or self.read(condition, "bool")):
            if count >= step.limit:
                raise LimitError(
                    f"a loop takes more than {step.limit} iterations", node=step.origin or None
                )
            self.env[step.number] = count
            if step.counter is not None:
                self.machine.upload(self.address(step.counter), np.array([count], np.int64))
            self.inside(step.body, step.symbols)
            condition, count = step.again, count + 1
        self.env.pop(step.number, None)

    def grow(self, index: int, size: int) -> None:
        key = (p.GROWN, index)
        held = self.executor._own.get(key)
        if held is None or held.size < size:
            # Twice as much, so that a value that grows step by step is not copied in each.
            more = self.machine.allocate(max(size, 2 * held.size if held else 1), "a growing value")
            if held is not None:
                self.machine.copy(more.address, held.address, held.size)
                self.machine.synchronize()
                held.close()
            self.executor._own[key] = held = more
        self.base[key] = held.address

    def reserve(self, sizes: Sequence[int]) -> None:
        """Have workspaces of at least these sizes, each where it was at first."""
        for index in range(len(self.plan.workspaces)):
            size = sizes[index] if index < len(sizes) else 0
            memory = self.executor.memory(p.WORKSPACE, index, size, "a workspace")
            self.base[p.WORKSPACE, index] = memory.address

    def launch(self, step: p.Launch) -> None:
        addresses = [self.address(place) for place in step.pointers]
        key = id(step)
        known = self.binding.launches.get(key)
        if known is not None:
            passed = self.binding.passed[key]
            for index, (old, new) in enumerate(zip(passed, addresses)):
                if old != new:
                    known.patch(index, new)
            self.binding.passed[key] = addresses
            known()
            return
        dims = (*step.grid, *step.scalars, step.elements)
        if step.most and self.value(step.elements) > step.most:
            raise UnsupportedError(
                f"a tensor has more than {step.most:,} elements, where the model's kernels do not reach",
                hint="compile the model with these extents fixed by shapes=",
                node=step.origin or None,
                code="unsupported",
            )
        grid = tuple(self.value(extent) for extent in step.grid)
        launch = self.machine.prepare(
            step.function, grid, [*addresses, *(self.value(dim) for dim in step.scalars)]
        )
        if self.executor._known(dims, self.binding.numbers) is not None:
            self.binding.launches[key] = launch
            self.binding.passed[key] = addresses
        launch()

    def recur(self, step: p.Recur) -> None:
        numbers = range(self.value(step.extent))
        for number in reversed(numbers) if step.reverse else numbers:
            self.env[step.axis] = number
            for launch in step.body:
                self.launch(launch)
            for one, other in step.swapped:
                first, second = (p.WORKSPACE, one), (p.WORKSPACE, other)
                self.base[first], self.base[second] = self.base[second], self.base[first]
        self.env.pop(step.axis, None)

    def evaluate(self, step: p.Evaluate) -> None:
        """A kernel on the host: what it reads is copied there, what it writes copied back."""
        kernel = self.executor.kernel(step.kernel)
        arrays: list[tuple[int, Array]] = []
        tensors: dict[str, TensorMemory] = {}
        for param, place in zip(kernel.params, step.places, strict=True):
            physical = tuple(self.value(extent) for extent in param.type.physical_shape)
            array: Array = np.zeros(physical, param.type.dtype.numpy)
            address = self.address(place)
            self.machine.download(array, address)
            shape = tuple(self.value(extent) for extent in param.type.shape)
            tensors[param.name] = TensorMemory(array, param.type, shape)
            if param.access is not Access.READ:
                arrays.append((address, array))
        try:
            evaluate_kernel(kernel, tensors, self.env)
        except IndexFault as fault:
            raise IndexFault(fault.message, node=step.origin or None) from None
        for address, array in arrays:
            self.machine.upload(address, array)


def _require(guard: Guard, env: Mapping[str, Any]) -> None:
    if not guard.holds(env):
        raise InputError(guard.message, node=guard.origin)
