"""Streams, in which work on the GPU keeps its order, and events, which mark places in them."""

from __future__ import annotations

from ctypes import byref, c_float, c_void_p

from dlc.runtime.cuda.device import Device
from dlc.runtime.cuda.interface import STREAM_NON_BLOCKING
from dlc.runtime.cuda.resource import Resource
from dlc.runtime.cuda.status import Status


class Stream(Resource):
    """A stream of `device`. Work in it does not wait for the legacy default stream, nor that for it.

    With `handle`, a CUstream that others own (``torch.cuda.current_stream().cuda_stream``; 0 is the legacy
    default stream): it is used and never destroyed, and must live as long as this object is used.
    """

    def __init__(self, device: Device, handle: int | None = None) -> None:
        super().__init__(device)
        if handle is not None:
            self.handle = handle
            return
        created = c_void_p()
        with device:
            device.driver.call(
                "cuStreamCreate", byref(created), STREAM_NON_BLOCKING, what="creating a stream"
            )
        self.handle = created.value or 0
        self._released_by("cuStreamDestroy_v2", self.handle)

    def synchronize(self) -> None:
        """Wait until all work in it is done. Faults of its kernels are raised here as InternalError."""
        with self.device:
            self.device.driver.call("cuStreamSynchronize", self.handle, what="waiting for the GPU")

    def is_idle(self) -> bool:
        """Whether all work in it is done; faults are raised as by :meth:`synchronize`."""
        with self.device:
            status = self.device.driver.status("cuStreamQuery", self.handle)
            if status != Status.NOT_READY:
                self.device.driver.check(status, "asking for the state of a stream")
        return status == Status.SUCCESS

    def wait(self, event: Event) -> None:
        """Let work that is put into it from now on wait for `event`."""
        with self.device:
            self.device.driver.call(
                "cuStreamWaitEvent", self.handle, event.handle, 0, what="ordering two streams"
            )


class Event(Resource):
    """A place in a stream that others can wait for and that time can be measured between."""

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        created = c_void_p()
        with device:
            device.driver.call("cuEventCreate", byref(created), 0, what="creating an event")
        self.handle = created.value or 0
        self._released_by("cuEventDestroy_v2", self.handle)

    def record(self, stream: Stream) -> None:
        """Place it behind all work that `stream` has now."""
        with self.device:
            self.device.driver.call("cuEventRecord", self.handle, stream.handle, what="recording an event")

    def synchronize(self) -> None:
        """Wait until the work before it is done; faults are raised as by :meth:`Stream.synchronize`."""
        with self.device:
            self.device.driver.call("cuEventSynchronize", self.handle, what="waiting for an event")

    def seconds_since(self, start: Event) -> float:
        """Seconds on the GPU from `start` to this event; both are recorded and have been reached. The
        resolution is about half a microsecond."""
        milliseconds = c_float()
        with self.device:
            self.device.driver.call(
                "cuEventElapsedTime", byref(milliseconds), start.handle, self.handle, what="reading the time"
            )
        return milliseconds.value / 1000
