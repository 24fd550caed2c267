"""GPUs: what they are, and their primary contexts, which dlc shares with whoever else uses them (PyTorch)."""

from __future__ import annotations

from ctypes import byref, c_int, c_size_t, c_void_p, create_string_buffer
from types import TracebackType

from dlc.runtime.cuda.driver import Driver, load_driver
from dlc.runtime.cuda.interface import DeviceAttribute

_devices: dict[int, Device] = {}


class Device:
    """The GPU number `ordinal` of those that CUDA_VISIBLE_DEVICES leaves; UnsupportedError if there is none.
    :func:`open_device` keeps one a process.

    `name`; `capability`: (major, minor) of its architecture; `multiprocessors`; `shared_memory`: most bytes
    of shared memory that a block may opt in to; `memory`: bytes in all.

    ``with device:`` makes its primary context current in this thread, and afterwards the one that was before.
    Launches of kernels and of graphs need that; everything else in this package does it by itself. The
    context is kept until the process ends.
    """

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self.driver = driver
        self.ordinal = ordinal
        what = f"opening GPU {ordinal}"
        handle = c_int()
        driver.call("cuDeviceGet", byref(handle), ordinal, what=what)
        self._handle = handle.value
        name = create_string_buffer(256)
        driver.call("cuDeviceGetName", name, len(name), handle, what=what)
        self.name = name.value.decode("utf-8", "replace")
        self.capability = (
            self._attribute(DeviceAttribute.COMPUTE_CAPABILITY_MAJOR),
            self._attribute(DeviceAttribute.COMPUTE_CAPABILITY_MINOR),
        )
        self.multiprocessors = self._attribute(DeviceAttribute.MULTIPROCESSOR_COUNT)
        self.shared_memory = self._attribute(DeviceAttribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        memory = c_size_t()
        driver.call("cuDeviceTotalMem_v2", byref(memory), handle, what=what)
        self.memory = memory.value
        self._context = c_void_p()
        driver.call("cuDevicePrimaryCtxRetain", byref(self._context), handle, what=what)

    @property
    def arch(self) -> str:
        """The architecture as compilers name it: ``sm_90``."""
        major, minor = self.capability
        return f"sm_{major}{minor}"

    def free_memory(self) -> tuple[int, int]:
        """(free, total) bytes of the device's memory now, with what all processes hold."""
        free, total = c_size_t(), c_size_t()
        with self:
            what = "asking for the GPU's free memory"
            self.driver.call("cuMemGetInfo_v2", byref(free), byref(total), what=what)
        return free.value, total.value

    def __enter__(self) -> Device:
        self.driver.call("cuCtxPushCurrent_v2", self._context, what="entering the GPU's context")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After a fault of a kernel this fails as well; the error on its way says more.
        self.driver.status("cuCtxPopCurrent_v2", byref(c_void_p()))

    def __repr__(self) -> str:
        return f"Device({self.ordinal}: {self.name}, {self.arch})"

    def _attribute(self, attribute: DeviceAttribute) -> int:
        value = c_int()
        what = f"asking GPU {self.ordinal} for its {attribute.name.lower()}"
        self.driver.call("cuDeviceGetAttribute", byref(value), attribute, self._handle, what=what)
        return value.value


def device_count() -> int:
    """How many GPUs this process may use; UnsupportedError without a driver or a GPU."""
    library = load_driver()
    count = c_int()
    library.call("cuDeviceGetCount", byref(count), what="counting GPUs")
    return count.value


def open_device(ordinal: int = 0) -> Device:
    """The GPU number `ordinal`, opened by the first call and kept. UnsupportedError without a driver or
    that GPU."""
    found = _devices.get(ordinal)
    if found is None:
        # Of two threads that come first, one has its device kept; the context is the same.
        found = _devices.setdefault(ordinal, Device(load_driver(), ordinal))
    return found
