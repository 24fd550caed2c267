"""The machine that is a GPU of NVIDIA, through its driver."""

from __future__ import annotations

import contextlib
import statistics
import sys
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Any

from dlc.api.gpu.machine import Array
from dlc.errors import ResourceError
from dlc.runtime.cuda import (
    DeviceMemory,
    Event,
    GraphCache,
    Kernel,
    KernelBinary,
    Launch,
    Stream,
    open_device,
)
from dlc.runtime.cuda.memory import copy, download, fill, upload

#: Most recorded runs that are kept.
_GRAPHS = 16


class CudaMachine:
    """The first GPU, with `binaries` of functions by number; UnsupportedError where there is none.

    Functions are loaded when they are launched first. All work goes through one stream.
    """

    def __init__(self, binaries: Sequence[KernelBinary]) -> None:
        self.device = open_device()
        self.name = self.device.name
        self._own_stream = self.stream = Stream(self.device)
        self._binaries = binaries
        self._kernels: dict[int, Kernel] = {}
        self._scratch: list[DeviceMemory | TorchMemory] = []
        self._graphs = GraphCache(self.device, _GRAPHS)

    def __enter__(self) -> CudaMachine:
        self.device.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.device.__exit__(kind, error, trace)

    def record(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do the work as a CUDA graph."""
        graph = self._graphs.get(key, (), lambda stream: self._into(stream, work))
        graph.launch(self.stream)

    def _into(self, stream: Stream, work: Callable[[], None]) -> None:
        """Do the work in another stream."""
        own, self.stream = self.stream, stream
        try:
            work()
        finally:
            self.stream = own

    def use_stream(self, handle: int | None) -> None:
        """Work in another stream follows that in the one before, as both use the same memory."""
        if handle == (None if self.stream is self._own_stream else self.stream.handle):
            return
        self.stream.synchronize()
        self.stream = self._own_stream if handle is None else Stream(self.device, handle)

    def allocate(self, size: int, what: str) -> DeviceMemory | TorchMemory:
        """Memory of the GPU, from torch where that is in use, so that both share what is free."""
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            return TorchMemory(torch, self.device.ordinal, size, what)
        return DeviceMemory(self.device, size, what=what)

    def upload(self, address: int, source: Array) -> None:
        """Copy an array to the GPU, and wait for it: the array may change or go afterwards."""
        upload(address, source, self.stream)
        self.stream.synchronize()

    def download(self, target: Array, address: int) -> None:
        """Fill an array from the GPU."""
        download(target, address, self.stream)
        self.stream.synchronize()

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the GPU's memory."""
        copy(target, source, size, self.stream)

    def fill(self, address: int, byte: int, size: int) -> None:
        """Set bytes of the GPU's memory."""
        fill(address, byte, size, self.stream)

    def prepare(self, function: int, grid: tuple[int, ...], values: Sequence[int]) -> StreamLaunch:
        """A launch of a loaded function."""
        kernel = self._kernels.get(function)
        if kernel is None:
            kernel = self._kernels[function] = Kernel(self.device, self._binaries[function])
        x, y, z = (*grid, 1, 1, 1)[:3]
        needed = kernel.scratch_bytes((x, y, z))
        scratch = 0
        if needed:
            memory = self.allocate(needed, "scratch memory of a kernel")
            self._scratch.append(memory)
            scratch = memory.address
        return StreamLaunch(self, Launch(kernel, (x, y, z), values, scratch=scratch))

    def time(self, work: Callable[[], object], repeats: int) -> float:
        """Seconds on the GPU."""
        for _ in range(repeats):
            work()
        events = [Event(self.device) for _ in range(repeats + 1)]
        events[0].record(self.stream)
        for event in events[1:]:
            work()
            event.record(self.stream)
        events[-1].synchronize()
        found = statistics.median(after.seconds_since(before) for before, after in pairwise(events))
        for event in events:
            event.close()
        return found

    def synchronize(self) -> None:
        """Wait for the GPU."""
        self.stream.synchronize()

    def close(self) -> None:
        """Unload the functions."""
        with contextlib.suppress(Exception):
            self.stream.synchronize()
        self._graphs.close()
        resources: list[Any] = [*self._kernels.values(), *self._scratch, self._own_stream]
        for resource in resources:
            resource.close()
        self._kernels.clear()
        self._scratch.clear()


class TorchMemory:
    """Memory from torch's allocator; ResourceError where it has none."""

    def __init__(self, torch: Any, ordinal: int, size: int, what: str) -> None:
        try:
            self._tensor = torch.empty(size, dtype=torch.uint8, device=f"cuda:{ordinal}")
        except torch.OutOfMemoryError as error:
            raise ResourceError(f"{what}: torch has no {size:,} bytes of the GPU's memory") from error
        self.address: int = self._tensor.data_ptr()
        self.size = size

    def close(self) -> None:
        """Give it back to torch."""
        self._tensor = None


class StreamLaunch:
    """A launch into the stream of a machine."""

    def __init__(self, machine: CudaMachine, launch: Launch) -> None:
        self._machine = machine
        self._launch = launch
        self.patch = launch.patch

    def __call__(self) -> None:
        self._launch(self._machine.stream)
