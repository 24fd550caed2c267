"""A machine without a GPU: functions run under Triton's interpreter, in the memory of the process.

It is what tests run whole GPU programs on; it is some ten thousand times slower than a GPU.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from dlc.api.gpu.machine import Array
from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.interpreter import interpret

_ALIGNMENT = 256


class HostMemory:
    """An array that is aligned as a GPU's memory is, and full of NaNs."""

    def __init__(self, machine: InterpretedMachine, size: int) -> None:
        self.size = size
        raw = np.full(size + _ALIGNMENT, 0xFF, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        self.array = raw[start : start + size]
        self.address: int = raw.ctypes.data + start
        self._machine = machine
        machine.memories[self.address] = self

    def close(self) -> None:
        """Forget it."""
        self._machine.memories.pop(self.address, None)


class InterpretedMachine:
    """Runs `functions` by number."""

    name = "Triton's interpreter"

    def __init__(self, functions: Sequence[TritonFunction]) -> None:
        self.functions = functions
        self.memories: dict[int, HostMemory] = {}

    def __enter__(self) -> InterpretedMachine:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def record(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do it."""
        work()

    def use_stream(self, handle: int | None) -> None:
        """There is one order of everything."""

    def allocate(self, size: int, what: str) -> HostMemory:
        """Memory of the process."""
        return HostMemory(self, size)

    def bytes_at(self, address: int) -> Array:
        """The bytes from an address to the end of its memory."""
        starts = sorted(self.memories)
        start = starts[bisect.bisect_right(starts, address) - 1]
        return self.memories[start].array[address - start :]

    def upload(self, address: int, source: Array) -> None:
        """Copy an array to an address."""
        if source.nbytes:
            self.bytes_at(address)[: source.nbytes] = source.reshape(-1).view(np.uint8)

    def download(self, target: Array, address: int) -> None:
        """Fill an array from an address."""
        if target.nbytes:
            target.reshape(-1).view(np.uint8)[...] = self.bytes_at(address)[: target.nbytes]

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy bytes."""
        if size:
            self.bytes_at(target)[:size] = self.bytes_at(source)[:size].copy()

    def fill(self, address: int, byte: int, size: int) -> None:
        """Set bytes."""
        if size:
            self.bytes_at(address)[:size] = byte

    def prepare(self, function: int, grid: tuple[int, ...], values: Sequence[int]) -> InterpretedLaunch:
        """A launch that interprets its function."""
        return InterpretedLaunch(self, self.functions[function], grid, list(values))

    def time(self, work: Callable[[], object], repeats: int) -> float:
        """Seconds of the interpreter, measured once: they say nothing of a GPU."""
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    def close(self) -> None:
        """Forget all memory."""
        self.memories.clear()


class InterpretedLaunch:
    """A launch under the interpreter."""

    def __init__(
        self, machine: InterpretedMachine, function: TritonFunction, grid: tuple[int, ...], values: list[int]
    ) -> None:
        self._machine = machine
        self._function = function
        self._grid = grid
        self._values = values

    def patch(self, index: int, value: int) -> None:
        """Pass another value."""
        self._values[index] = value

    def __call__(self) -> None:
        """Run it now."""
        if not math.prod(self._grid):
            return
        types = [dtype.numpy for _, dtype in self._function.pointers]
        views = []
        for address, dtype in zip(self._values, types):
            found = self._machine.bytes_at(address)
            views.append(found[: len(found) // dtype.itemsize * dtype.itemsize].view(dtype))
        interpret(self._function, self._grid, views, self._values[len(types) :])
