"""Things of a device that are given back once."""

from __future__ import annotations

import contextlib
import weakref
from types import TracebackType
from typing import Any, TypeVar

from dlc.errors import Error
from dlc.runtime.cuda.device import Device

Self = TypeVar("Self", bound="Resource")


class Resource:
    """Something of `device` that is given back once: by :meth:`close`, at the end of a ``with``, or when the
    object dies. At the end of the process, and in a forked child, nothing is given back."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def _released_by(self, function: str, *arguments: Any, keep: tuple[Resource, ...] = ()) -> None:
        """The driver's `function`, called with `arguments`, is what gives it back; `keep` is what that needs
        to be alive."""
        self._finalizer = weakref.finalize(self, _release, self.device, keep, function, *arguments)
        self._finalizer.atexit = False

    @property
    def is_closed(self) -> bool:
        return self._finalizer is None or not self._finalizer.alive

    def close(self) -> None:
        """Give it back; a second call does nothing. Work on the GPU that uses it has been waited for."""
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _release(device: Device, keep: tuple[Resource, ...], function: str, *arguments: Any) -> None:
    """No status is looked at: after a fault of a kernel all calls fail, and the fault has been reported."""
    if device.driver.is_usable:
        with contextlib.suppress(Error), device:
            device.driver.status(function, *arguments)
