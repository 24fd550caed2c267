"""Memory of the GPU: allocations, copies from and to the host, fills."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_uint64, c_ulonglong, c_void_p
from typing import Any

from numpy.typing import NDArray

from dlc.errors import Error, LimitError, ResourceError
from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.interface import (
    ALLOCATION_PINNED,
    HOST_PORTABLE,
    LOCATION_DEVICE,
    POOL_RELEASE_THRESHOLD,
    PoolProperties,
)
from dlc.runtime.cuda.resource import Resource
from dlc.runtime.cuda.status import Status
from dlc.runtime.cuda.stream import Stream

#: Alignment of every allocation in bytes; the driver's own.
ALIGNMENT = 256


class Allocation(Resource):
    """`size` bytes of a device's memory at `address`. Base of what allocates them.

    Copies and fills are put into a stream and return before they are done; arrays of the host must be
    contiguous, and must live and stay unchanged until the stream has been waited for.
    """

    def __init__(self, device: Device, size: int) -> None:
        super().__init__(device)
        if size < 0:
            raise ValueError("sizes are not negative")
        self.size = size
        self.address = 0

    def upload(self, source: NDArray[Any], stream: Stream, offset: int = 0) -> None:
        """Copy the bytes of `source` to `offset` bytes from the start."""
        self._check_range(offset, source.nbytes)
        upload(self.address + offset, source, stream)

    def download(self, target: NDArray[Any], stream: Stream, offset: int = 0) -> None:
        """Fill `target` with the bytes from `offset` on."""
        self._check_range(offset, target.nbytes)
        download(target, self.address + offset, stream)

    def fill(self, byte: int, stream: Stream) -> None:
        """Set every byte."""
        fill(self.address, byte, self.size, stream)

    def _check_range(self, offset: int, size: int) -> None:
        if offset < 0 or offset + size > self.size:
            raise ValueError(f"{size} bytes at {offset} do not lie within {self.size} bytes of memory")


class DeviceMemory(Allocation):
    """`size` bytes of the device's memory, aligned to 256 bytes, not initialised. Freeing it waits for the
    device.

    Raises LimitError if `size` exceeds `limit`, ResourceError if the device does not have it, before
    anything is taken. `what` names the memory in messages.
    """

    def __init__(
        self, device: Device, size: int, *, limit: int | None = None, what: str = "memory of the GPU"
    ) -> None:
        super().__init__(device, size)
        if limit is not None and size > limit:
            raise LimitError(
                f"{what}: {size:,} bytes exceed the limit of {limit:,}",
                hint=f"if the model is trusted, raise it with limits=dlc.Limits(arena_bytes={size})",
            )
        address = c_ulonglong()
        with device:
            status = device.driver.status("cuMemAlloc_v2", byref(address), max(size, 1))
            _check_allocation(device, status, size, what)
        self.address = address.value
        self._released_by("cuMemFree_v2", self.address)


class MemoryPool(Resource):
    """Memory that is allocated and freed in the order of streams, and kept for reuse: up to `keep` bytes are
    not given back to the device when a stream is waited for. Allocations must be closed before their pool.
    """

    def __init__(self, device: Device, keep: int) -> None:
        super().__init__(device)
        properties = PoolProperties(
            allocation_type=ALLOCATION_PINNED, location_type=LOCATION_DEVICE, location=device.ordinal
        )
        pool, what = c_void_p(), "creating a pool of the GPU's memory"
        with device:
            device.driver.call("cuMemPoolCreate", byref(pool), byref(properties), what=what)
            self._released_by("cuMemPoolDestroy", pool.value)
            self.handle = pool.value or 0
            threshold = c_uint64(keep)
            device.driver.call(
                "cuMemPoolSetAttribute", pool, POOL_RELEASE_THRESHOLD, byref(threshold), what=what
            )

    def allocate(self, size: int, stream: Stream, *, what: str = "memory of the GPU") -> PooledMemory:
        """`size` bytes for work in `stream`, which must outlive them; ResourceError if the device does not
        have them."""
        return PooledMemory(self, size, stream, what)


class PooledMemory(Allocation):
    """Memory of a pool: to be used by work in `stream` behind this call, or in streams that wait for it, and
    free for reuse by work in `stream` behind :meth:`close`."""

    def __init__(self, pool: MemoryPool, size: int, stream: Stream, what: str) -> None:
        device = pool.device
        super().__init__(device, size)
        address = c_ulonglong()
        with device:
            status = device.driver.status(
                "cuMemAllocFromPoolAsync", byref(address), max(size, 1), pool.handle, stream.handle
            )
            _check_allocation(device, status, size, what)
        self.address = address.value
        self._released_by("cuMemFreeAsync", self.address, stream.handle, keep=(pool, stream))


class Staging(Resource):
    """`size` bytes of page-locked memory of the host, through which small results are read: a copy into it
    needs no detour. One thread at a time may use it."""

    def __init__(self, device: Device, size: int = 4096) -> None:
        super().__init__(device)
        self.size = size
        address = c_void_p()
        with device:
            what = "allocating page-locked memory"
            device.driver.call("cuMemHostAlloc", byref(address), max(size, 1), HOST_PORTABLE, what=what)
        self._address = address.value or 0
        self._released_by("cuMemFreeHost", self._address)

    def read(self, address: int, size: int, stream: Stream) -> bytes:
        """Wait for the work in `stream`, and return `size` bytes of the device's memory at `address`."""
        if not 0 <= size <= self.size:
            raise ValueError(f"{size} bytes do not fit into {self.size} bytes of staging memory")
        if not size:
            return b""
        _copy("cuMemcpyDtoHAsync_v2", self._address, address, size, stream)
        stream.synchronize()
        return ctypes.string_at(self._address, size)


def upload(address: int, source: NDArray[Any], stream: Stream) -> None:
    """Copy a contiguous array of the host to the device's memory at `address`, in `stream`."""
    _check_contiguous(source)
    _copy("cuMemcpyHtoDAsync_v2", address, source.ctypes.data, source.nbytes, stream)


def download(target: NDArray[Any], address: int, stream: Stream) -> None:
    """Fill a contiguous array of the host from the device's memory at `address`, in `stream`."""
    _check_contiguous(target)
    if not target.flags.writeable:
        raise ValueError("a read-only array cannot be copied to")
    _copy("cuMemcpyDtoHAsync_v2", target.ctypes.data, address, target.nbytes, stream)


def copy(target: int, source: int, size: int, stream: Stream) -> None:
    """Copy `size` bytes within the device's memory, from address `source` to address `target`."""
    _copy("cuMemcpyDtoDAsync_v2", target, source, size, stream)


def fill(address: int, byte: int, size: int, stream: Stream) -> None:
    """Set `size` bytes of the device's memory at `address` to `byte`."""
    if size:
        with stream.device:
            stream.device.driver.call(
                "cuMemsetD8Async", address, byte, size, stream.handle, what=f"filling {size:,} bytes"
            )


def _copy(function: str, target: int, source: int, size: int, stream: Stream) -> None:
    if size:
        with stream.device:
            stream.device.driver.call(
                function, target, source, size, stream.handle, what=f"copying {size:,} bytes"
            )


def _check_contiguous(array: NDArray[Any]) -> None:
    if not array.flags.c_contiguous:
        raise ValueError("only contiguous arrays are copied")


def _check_allocation(device: Device, status: int, size: int, what: str) -> None:
    """ResourceError with the device's figures if an allocation found no memory; other errors as they are."""
    if status != Status.OUT_OF_MEMORY:
        device.driver.check(status, f"{what}: allocating {size:,} bytes")
        return
    try:
        free, total = device.free_memory()
        figures = f"{free:,} of {total:,} bytes are free"
    except Error:
        figures = f"{device.memory:,} bytes in all"
    raise ResourceError(
        f"{what}: {size:,} bytes cannot be allocated on {device.name}: {figures}",
        hint="use smaller inputs, or free memory that other programs hold",
    )
