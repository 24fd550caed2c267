"""Choosing between ways to run kernels by measuring them on the GPU at hand; what was measured is kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version

import numpy as np

from dlc.api.gpu.machine import Machine, Memory
from dlc.backends.triton.backend import generate
from dlc.backends.triton.binary import compile_functions
from dlc.backends.triton.choices import Choices
from dlc.backends.triton.footprint import footprint
from dlc.backends.triton.function_builder import FAULT, Call
from dlc.backends.triton.select import GpuKernel, emit_kernel
from dlc.errors import UnsupportedError
from dlc.ir.dims import evaluate
from dlc.ir.dtypes import DType
from dlc.ir.types import TensorType
from dlc.lowering.program import Program
from dlc.options import Options
from dlc.runtime.cuda import KernelBinary
from dlc.runtime.records import Record, Records, default_records
from dlc.target import GpuTarget

#: What symbols without a hint are taken to be.
_GUESS = 64
#: Launches of one measurement, after as many to warm up.
_REPEATS = 20

#: Opens a machine for some binaries.
Open = Callable[[Sequence[KernelBinary]], Machine]


def choices_for(program: Program, target: GpuTarget, options: Options) -> Choices:
    """The ways to run the kernels of `program`: as measured before; with `options.tune`, measured now.

    Raises UnsupportedError where there is nothing to measure on.
    """
    records = default_records() if options.cache else None
    tuner = Tuner(target, records, typical_sizes(program, options))
    if not options.tune:
        return tuner.known(program)
    if options.targets[0] != "cuda":
        raise UnsupportedError(
            f"tune=True measures on the GPU at hand, and the target is {options.targets[0]}",
            hint="compile for the target \"cuda\" on a machine with that GPU",
            code="unsupported/target",
        )
    from dlc.api.gpu.cuda import CudaMachine

    return tuner.tune(program, CudaMachine)


def typical_sizes(program: Program, options: Options) -> dict[str, int]:
    """A number for every symbol: its hint, else a guess within its range."""
    sizes = {}
    for symbol in (*program.symbols, *program.run_symbols):
        hint = options.shapes.get(symbol.name)
        typical = hint[1] if isinstance(hint, tuple) and len(hint) == 3 else None
        number = typical if isinstance(typical, int) else _GUESS
        low = symbol.lo or 0
        sizes[symbol.name] = max(low, number if symbol.hi is None else min(number, symbol.hi))
    return sizes


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """One way to do a piece of work: its calls, and the types of the memories that they speak of."""

    calls: tuple[Call, ...]
    types: Mapping[str, TensorType]


class Tuner:
    """Measures ways to run kernels on `target`, for the numbers `sizes` of the symbols.

    What is found is kept in `records`, if there are any.
    """

    def __init__(self, target: GpuTarget, records: Records | None, sizes: Mapping[str, int]) -> None:
        self.target = target
        self.records = records
        self.sizes = sizes
        self.versions = f"triton {version('triton')}"
        self.device = f"{target.name}, {target.multiprocessors} multiprocessors, {target.bandwidth} B/s"

    def known(self, program: Program) -> Choices:
        """What the records say of the work of `program`."""
        choices = Choices()
        if self.records is None or not self.records.path.exists():
            return choices
        for key, kernel, ways in self._works(program):
            record = self._record(key, kernel)
            if record is not None and isinstance(record.choice, int) and 0 <= record.choice < ways:
                choices.chosen[key] = record.choice
        return choices

    def tune(self, program: Program, open_machine: Open) -> Choices:
        """Measure what the records do not know, and choose the fastest way of each piece of work."""
        choices = self.known(program)
        for key, kernel, ways in self._works(program):
            if key in choices.chosen:
                continue
            candidates = [self._candidate(kernel, key, way) for way in range(ways)]
            seconds = [self._measure(candidate, open_machine) for candidate in candidates]
            best = seconds.index(min(seconds))
            choices.chosen[key] = best
            if self.records is not None:
                name = self._name(key, kernel)
                self.records.put(Record(name, self.device, self.versions, best, seconds[best]))
        return choices

    def _works(self, program: Program) -> Iterator[tuple[str, GpuKernel, int]]:
        """(key, a kernel that has it, number of ways) of each piece of work with several."""
        seen: set[str] = set()
        kernels = [k for k in generate(program, self.target).kernels if isinstance(k, GpuKernel)]
        for kernel in kernels:
            for call in kernel.calls:
                work = call.work
                if work is not None and work.ways > 1 and work.key not in seen:
                    seen.add(work.key)
                    yield work.key, kernel, work.ways

    def _record(self, key: str, kernel: GpuKernel) -> Record | None:
        if self.records is None:
            return None
        return self.records.find(self._name(key, kernel), self.device, self.versions)

    def _name(self, key: str, kernel: GpuKernel) -> str:
        """What a record calls a piece of work: with the sizes that it was measured for."""
        from dlc.lowering.text import kernel_symbols

        names = sorted(symbol.name for symbol in kernel_symbols(kernel.kernel))
        sizes = ", ".join(f"{name}={self.sizes.get(name, _GUESS)}" for name in names)
        return f"{key} {sizes}".strip()

    # --- measuring

    def _candidate(self, kernel: GpuKernel, key: str, way: int) -> _Candidate:
        """One way to do a piece of work of a kernel."""
        made = emit_kernel(kernel.kernel, self.target, Choices({key: way}))
        types = {param.name: param.type for param in made.kernel.params}
        types |= {space.name: space.type for space in made.workspaces}
        calls = tuple(call for call in made.calls if call.work is not None and call.work.key == key)
        return _Candidate(calls, types)

    def _measure(self, candidate: _Candidate, open_machine: Open) -> float:
        """Seconds that the calls of a candidate take, one after the other; infinite where they spill."""
        from dlc.api.gpu.build import kernel_binary

        functions = [call.function for call in candidate.calls]
        compiled = compile_functions(functions, self.target)
        if any(b.backend == "cuda" and footprint(b.code).stack_bytes for b in compiled):
            return math.inf
        machine = open_machine([kernel_binary(binary) for binary in compiled])
        memories: list[Memory] = []
        try:
            addresses = {
                name: self._fill(machine, type_, memories) for name, type_ in candidate.types.items()
            }
            reports = machine.allocate(64, "reports of faults")
            memories.append(reports)
            addresses[FAULT] = reports.address
            with machine:
                launches = []
                for number, call in enumerate(candidate.calls):
                    grid = tuple(evaluate(extent, self._env(call)) for extent in call.function.grid)
                    scalars = [evaluate(dim, self._env(call)) for dim in call.scalars]
                    values = [*(addresses[name] for name in call.pointers), *scalars]
                    launches.append(machine.prepare(number, grid, values))

                def run() -> None:
                    for launch in launches:
                        launch()

                return machine.time(run, _REPEATS)
        finally:
            for memory in memories:
                memory.close()
            machine.close()

    def _env(self, call: Call) -> dict[str, int]:
        """The sizes; a symbol that only the kernel has, as the axis of a recurrence, is 0."""
        from dlc.ir.dims import free_symbols

        dims = (*call.scalars, *call.function.grid)
        names = {symbol.name for dim in dims for symbol in free_symbols(dim)}
        return {**dict.fromkeys(names, 0), **self.sizes}

    def _fill(self, machine: Machine, type_: TensorType, memories: list[Memory]) -> int:
        """Memory for a tensor: floats are random, for a GPU's speed depends on their bits; the rest is 0."""
        count = math.prod(evaluate(extent, self.sizes) for extent in type_.physical_shape)
        memory = machine.allocate(max(1, count * type_.dtype.itemsize), "a tensor to measure with")
        memories.append(memory)
        data = np.zeros(count, type_.dtype.numpy)
        if type_.dtype in (DType.F64, DType.F32, DType.F16, DType.BF16):
            data = np.random.default_rng(0).standard_normal(count, np.float32).astype(type_.dtype.numpy)
        machine.upload(memory.address, data)
        return memory.address
