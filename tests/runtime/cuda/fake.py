"""A CUDA driver in Python: real memory of the host in place of the GPU's, every call checked and recorded.

Its functions are C function pointers, so that what dlc passes goes through ctypes as it does to libcuda.
Work in streams is done at once, or kept where the stream is being recorded. What a test must know of a launch
is in :attr:`FakeCuda.launches`, as read from the memory that the driver would read.
"""

from __future__ import annotations

import ctypes
import itertools
import struct
import threading
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_char_p, c_int, c_void_p
from dataclasses import dataclass, field
from typing import Any

from dlc.runtime.cuda.cubin import kernel_parameters
from dlc.runtime.cuda.interface import PROTOTYPES, LaunchConfig

INVALID_VALUE, OUT_OF_MEMORY, INVALID_IMAGE, INVALID_CONTEXT, INVALID_HANDLE = 1, 2, 200, 201, 400
NOT_FOUND, UPDATE_FAILURE, UNKNOWN = 500, 910, 999

NAMES = {
    2: ("CUDA_ERROR_OUT_OF_MEMORY", "out of memory"),
    100: ("CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
    700: ("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"),
}

#: Functions that need no current context.
WITHOUT_CONTEXT = (
    "cuInit cuDriverGetVersion cuGetErrorName cuGetErrorString cuDeviceGetCount cuDeviceGet cuDeviceGetName "
    "cuDeviceGetAttribute cuDeviceTotalMem_v2 cuDevicePrimaryCtxRetain cuCtxPushCurrent_v2 cuCtxPopCurrent_v2"
).split()

#: What a kernel does, given the bytes of each parameter and the grid.
Body = Callable[[tuple[bytes, ...], tuple[int, int, int]], None]


@dataclass
class FakeKernel:
    """What the fake knows of a kernel: its attributes by number, and what it does."""

    body: Body = lambda parameters, grid: None
    attributes: dict[int, int] = field(default_factory=lambda: {0: 1024, 1: 0, 3: 0, 4: 32})


@dataclass(frozen=True)
class LaunchRecord:
    """A launch, as the driver reads it. `attributes`: the 64 bytes of each, by id."""

    entry: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    stream: int
    parameters: tuple[bytes, ...]
    attributes: dict[int, bytes]


class FakeCuda:
    """`fail`: function -> status that it returns instead of doing anything. `kernels`: entry -> what the fake
    knows of it. `problems`: what no correct program does; tests check that it is empty."""

    def __init__(self, *, capability: tuple[int, int] = (9, 0), memory: int = 1 << 24) -> None:
        self.attributes = {16: 132, 75: capability[0], 76: capability[1], 97: 232448}
        self.memory = memory
        self.version = 12080
        self.fail: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self.kernels: dict[str, FakeKernel] = defaultdict(FakeKernel)
        self.launches: list[LaunchRecord] = []
        self.problems: list[str] = []
        #: address -> (size, ctypes buffer), and pages that are locked.
        self.allocations: dict[int, tuple[int, Any]] = {}
        self.pinned: dict[int, Any] = {}
        self.pools: dict[int, int] = {}
        self.modules: dict[int, bytes] = {}
        self.functions: dict[int, tuple[int, str]] = {}
        self.set_attributes: dict[tuple[str, int], int] = {}
        self.streams: set[int] = {0}
        self.events: dict[int, float | None] = {}
        self.graphs: dict[int, list[tuple[str, Callable[[], None]]]] = {}
        self.executables: dict[int, list[tuple[str, Callable[[], None]]]] = {}
        self.recording: dict[int, list[tuple[str, Callable[[], None]]]] = {}
        self.time = 0.0
        self._handles = itertools.count(0x1000, 16)
        self._contexts: dict[int, list[int]] = defaultdict(list)
        self._texts: list[bytes] = []
        self._functions: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in PROTOTYPES:
            raise AttributeError(name)
        if name not in self._functions:
            types = tuple(c_void_p if each is c_char_p else each for each in PROTOTYPES[name])
            self._functions[name] = CFUNCTYPE(c_int, *types)(self._guarded(name))
        return self._functions[name]

    def _guarded(self, name: str) -> Callable[..., int]:
        handler = getattr(self, "_" + name.removesuffix("_v2"))

        def call(*arguments: Any) -> int:
            self.calls[name] += 1
            if name in self.fail:
                return self.fail[name]
            if name not in WITHOUT_CONTEXT and not self._contexts[threading.get_ident()]:
                return INVALID_CONTEXT
            try:
                return handler(*arguments) or 0
            except Exception:
                self.problems.append(traceback.format_exc())
                return UNKNOWN

        return call

    @property
    def current_contexts(self) -> list[int]:
        return self._contexts[threading.get_ident()]

    def bytes_at(self, address: int, size: int) -> bytes:
        """Memory of the "GPU", which must be allocated."""
        assert self._is_device(address, size), hex(address)
        return ctypes.string_at(address, size)

    def _is_device(self, address: int, size: int) -> bool:
        ranges = ((start, start + most) for start, (most, _) in self.allocations.items())
        return any(start <= address and address + size <= end for start, end in ranges)

    # Initialisation, errors, devices and contexts.

    def _cuInit(self, flags: int) -> None:
        assert flags == 0

    def _cuDriverGetVersion(self, version: Any) -> None:
        version[0] = self.version

    def _text(self, status: int, text: Any, which: int) -> int:
        if status not in NAMES:
            return INVALID_VALUE
        self._texts.append(NAMES[status][which].encode())
        text[0] = self._texts[-1]
        return 0

    def _cuGetErrorName(self, status: int, text: Any) -> int:
        return self._text(status, text, 0)

    def _cuGetErrorString(self, status: int, text: Any) -> int:
        return self._text(status, text, 1)

    def _cuDeviceGetCount(self, count: Any) -> None:
        count[0] = 1

    def _cuDeviceGet(self, handle: Any, ordinal: int) -> int:
        handle[0] = 7
        return 0 if ordinal == 0 else 101

    def _cuDeviceGetName(self, name: Any, size: int, handle: int) -> None:
        assert handle == 7
        ctypes.memmove(name, b"Fake H200\0", 10)

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, handle: int) -> None:
        assert handle == 7
        value[0] = self.attributes[attribute]

    def _cuDeviceTotalMem(self, size: Any, handle: int) -> None:
        size[0] = self.memory

    def _cuDevicePrimaryCtxRetain(self, context: Any, handle: int) -> None:
        context[0] = 0xC0

    def _cuCtxPushCurrent(self, context: int) -> None:
        self._contexts[threading.get_ident()].append(context)

    def _cuCtxPopCurrent(self, context: Any) -> None:
        context[0] = self._contexts[threading.get_ident()].pop()

    # Modules and launches.

    def _cuModuleLoadData(self, module: Any, image: int) -> int:
        header = ctypes.string_at(image, 64)
        if header[:4] != b"\x7fELF":
            return INVALID_IMAGE
        (table,) = struct.unpack_from("<Q", header, 40)
        (count,) = struct.unpack_from("<H", header, 60)
        module[0] = handle = next(self._handles)
        self.modules[handle] = ctypes.string_at(image, table + 64 * count)
        return 0

    def _cuModuleUnload(self, module: int) -> None:
        del self.modules[module]

    def _cuModuleGetFunction(self, function: Any, module: int, name: int) -> int:
        entry = ctypes.string_at(name)
        if b".nv.info." + entry + b"\0" not in self.modules[module]:
            return NOT_FOUND
        function[0] = handle = next(self._handles)
        self.functions[handle] = (module, entry.decode())
        return 0

    def _cuFuncGetAttribute(self, value: Any, attribute: int, function: int) -> None:
        value[0] = self.kernels[self.functions[function][1]].attributes[attribute]

    def _cuFuncSetAttribute(self, function: int, attribute: int, value: int) -> None:
        self.set_attributes[self.functions[function][1], attribute] = value

    def _cuFuncSetCacheConfig(self, function: int, config: int) -> None:
        assert config == 1

    def _cuLaunchKernelEx(self, config: int, function: int, parameter_list: int, extra: int | None) -> int:
        assert not extra
        pointers = ctypes.cast(parameter_list, ctypes.POINTER(c_void_p))
        module, entry = self.functions[function]
        shape = LaunchConfig.from_address(config)
        grid, block = (
            (shape.grid_x, shape.grid_y, shape.grid_z),
            (shape.block_x, shape.block_y, shape.block_z),
        )
        slots = kernel_parameters(self.modules[module], entry)
        start = pointers[0]
        assert start % 8 == 0 and all(pointers[i] == start + slot.offset for i, slot in enumerate(slots))
        parameters = tuple(ctypes.string_at(start + slot.offset, slot.size) for slot in slots)
        attributes = {
            shape.attributes[i].id: bytes(shape.attributes[i].value) for i in range(shape.attribute_count)
        }
        opted = self.set_attributes.get((entry, 8), 0)
        if 0 in grid or shape.shared > max(48 << 10, opted):
            return INVALID_VALUE
        record = LaunchRecord(entry, grid, block, shape.shared, shape.stream or 0, parameters, attributes)

        def run() -> None:
            self.launches.append(record)
            self.kernels[entry].body(parameters, grid)

        return self._enqueue(record.stream, f"launch {entry}", run)

    # Memory.

    def _allocate(self, address: Any, size: int) -> int:
        assert size > 0
        if size > self.memory - sum(taken for taken, _ in self.allocations.values()):
            return OUT_OF_MEMORY
        buffer = ctypes.create_string_buffer(b"\xcd" * (size + 256), size + 256)
        start = -(-ctypes.addressof(buffer) // 256) * 256
        self.allocations[start] = (size, buffer)
        address[0] = start
        return 0

    def _cuMemGetInfo(self, free: Any, total: Any) -> None:
        free[0] = self.memory - sum(size for size, _ in self.allocations.values())
        total[0] = self.memory

    def _cuMemAlloc(self, address: Any, size: int) -> int:
        return self._allocate(address, size)

    def _cuMemFree(self, address: int) -> None:
        del self.allocations[address]

    def _cuMemPoolCreate(self, pool: Any, properties: Any) -> None:
        given = properties[0]
        assert (given.allocation_type, given.location_type, given.location) == (1, 1, 0)
        pool[0] = handle = next(self._handles)
        self.pools[handle] = 0

    def _cuMemPoolSetAttribute(self, pool: int, attribute: int, value: int) -> None:
        assert attribute == 4
        self.pools[pool] = ctypes.c_uint64.from_address(value).value

    def _cuMemPoolDestroy(self, pool: int) -> None:
        del self.pools[pool]

    def _cuMemAllocFromPoolAsync(self, address: Any, size: int, pool: int, stream: int | None) -> int:
        assert pool in self.pools and (stream or 0) in self.streams
        return self._allocate(address, size)

    def _cuMemFreeAsync(self, address: int, stream: int | None) -> None:
        assert (stream or 0) in self.streams
        del self.allocations[address]

    def _cuMemHostAlloc(self, address: Any, size: int, flags: int) -> None:
        assert flags == 1
        buffer = ctypes.create_string_buffer(size)
        address[0] = ctypes.addressof(buffer)
        self.pinned[ctypes.addressof(buffer)] = buffer

    def _cuMemFreeHost(self, address: int) -> None:
        del self.pinned[address]

    def _cuMemcpyHtoDAsync(self, target: int, source: int, size: int, stream: int | None) -> int:
        assert self._is_device(target, size) and not self._is_device(source, 1)
        return self._enqueue(stream, "copy", lambda: ctypes.memmove(target, source, size))

    def _cuMemcpyDtoHAsync(self, target: int, source: int, size: int, stream: int | None) -> int:
        assert self._is_device(source, size) and not self._is_device(target, 1)
        return self._enqueue(stream, "copy", lambda: ctypes.memmove(target, source, size))

    def _cuMemcpyDtoDAsync(self, target: int, source: int, size: int, stream: int | None) -> int:
        assert self._is_device(source, size) and self._is_device(target, size)
        return self._enqueue(stream, "copy", lambda: ctypes.memmove(target, source, size))

    def _cuMemsetD8Async(self, target: int, byte: int, size: int, stream: int | None) -> int:
        assert self._is_device(target, size)
        return self._enqueue(stream, "fill", lambda: ctypes.memset(target, byte, size))

    # Streams and events.

    def _enqueue(self, stream: int | None, what: str, work: Callable[[], Any]) -> int:
        handle = stream or 0
        if handle not in self.streams:
            return INVALID_HANDLE
        self.time += 0.001
        if handle in self.recording:
            self.recording[handle].append((what, work))
        else:
            work()
        return 0

    def _cuStreamCreate(self, stream: Any, flags: int) -> None:
        assert flags == 1
        stream[0] = handle = next(self._handles)
        self.streams.add(handle)

    def _cuStreamDestroy(self, stream: int) -> None:
        self.streams.remove(stream)

    def _cuStreamSynchronize(self, stream: int | None) -> int:
        return 0 if (stream or 0) in self.streams else INVALID_HANDLE

    def _cuStreamQuery(self, stream: int | None) -> int:
        return 0 if (stream or 0) in self.streams else INVALID_HANDLE

    def _cuStreamWaitEvent(self, stream: int | None, event: int, flags: int) -> None:
        assert event in self.events and flags == 0 and (stream or 0) in self.streams

    def _cuEventCreate(self, event: Any, flags: int) -> None:
        assert flags == 0
        event[0] = handle = next(self._handles)
        self.events[handle] = None

    def _cuEventDestroy(self, event: int) -> None:
        del self.events[event]

    def _cuEventRecord(self, event: int, stream: int | None) -> None:
        assert event in self.events
        self.events[event] = self.time

    def _cuEventSynchronize(self, event: int) -> None:
        assert self.events[event] is not None

    def _cuEventElapsedTime(self, milliseconds: Any, start: int, end: int) -> None:
        first, last = self.events[start], self.events[end]
        assert first is not None and last is not None
        milliseconds[0] = (last - first) * 1000

    # Graphs.

    def _cuStreamBeginCapture(self, stream: int | None, mode: int) -> int:
        if stream not in self.streams or stream in self.recording:
            return INVALID_VALUE
        assert stream and mode == 2
        self.recording[stream] = []
        return 0

    def _cuStreamEndCapture(self, stream: int, graph: Any) -> None:
        graph[0] = handle = next(self._handles)
        self.graphs[handle] = self.recording.pop(stream)

    def _cuGraphInstantiateWithFlags(self, executable: Any, graph: int, flags: int) -> None:
        assert flags == 0
        executable[0] = handle = next(self._handles)
        self.executables[handle] = self.graphs[graph]

    def _cuGraphExecUpdate(self, executable: int, graph: int, result: Any) -> int:
        kinds = [[what for what, _ in work] for work in (self.executables[executable], self.graphs[graph])]
        if kinds[0] != kinds[1]:
            result[0].result = 3
            return UPDATE_FAILURE
        self.executables[executable] = self.graphs[graph]
        return 0

    def _cuGraphLaunch(self, executable: int, stream: int | None) -> int:
        for what, work in self.executables[executable]:
            if status := self._enqueue(stream, what, work):
                return status
        return 0

    def _cuGraphExecDestroy(self, executable: int) -> None:
        del self.executables[executable]

    def _cuGraphDestroy(self, graph: int) -> None:
        del self.graphs[graph]
