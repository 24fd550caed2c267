"""The CUDA driver as loaded into this process, with every return code turned into a typed error."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int
from typing import Any, NoReturn

from dlc.errors import UnsupportedError
from dlc.runtime.cuda.interface import OLDEST_VERSION, PROTOTYPES
from dlc.runtime.cuda.status import FORK_HINT, NO_GPU_HINT, Status, error_for

_LIBRARY = "libcuda.so.1"

_lock = threading.Lock()
_driver: Driver | None = None


class Driver:
    """The functions of `library`, which is libcuda as loaded by ctypes or something that has the same
    functions, initialised.

    Raises UnsupportedError if the library lacks functions that dlc needs, or has no device. In a process
    forked from one that has a driver, every use of that driver raises UnsupportedError: the CUDA driver does
    not survive a fork.
    """

    def __init__(self, library: Any) -> None:
        self._functions = {name: _resolve(library, name, types) for name, types in PROTOTYPES.items()}
        #: The two calls that take part in every inference, unchecked: they return a status for :meth:`check`.
        self.launch_kernel = self._functions["cuLaunchKernelEx"]
        self.launch_graph = self._functions["cuGraphLaunch"]
        #: False in a forked child, where nothing of this driver may be touched, not even to free it.
        self.is_usable = True
        self.call("cuInit", 0, what="initialising the CUDA driver")
        version = c_int()
        self.call("cuDriverGetVersion", byref(version), what="asking the CUDA driver for its version")
        #: As the driver counts: 1000 * major + 10 * minor.
        self.version = version.value
        if self.version < OLDEST_VERSION:
            raise _too_old(f"serves CUDA {self.cuda}")
        _drivers.add(self)

    @property
    def cuda(self) -> str:
        """The newest CUDA version that the driver serves: ``12.4``."""
        return _version_text(self.version)

    def call(self, name: str, *arguments: Any, what: str) -> None:
        """Call the function `name`; raise the error that its status means. `what` says what it is for, in
        messages."""
        status = self._functions[name](*arguments)
        if status:
            raise error_for(status, self.describe(status), what)

    def status(self, name: str, *arguments: Any) -> int:
        """Call the function `name` where some statuses are answers and no errors."""
        return self._functions[name](*arguments)

    def check(self, status: int, what: str) -> None:
        """Raise the error that `status` means, unless it is success."""
        if status:
            raise error_for(status, self.describe(status), what)

    def describe(self, status: int) -> str:
        """``CUDA_ERROR_NO_DEVICE (no CUDA-capable device is detected)``."""
        texts = []
        for name in ("cuGetErrorName", "cuGetErrorString"):
            text = c_char_p()
            found = self._functions[name](status, byref(text)) == Status.SUCCESS and text.value
            texts.append(found.decode("utf-8", "replace") if found else f"CUDA status {status}")
        return f"{texts[0]} ({texts[1]})"

    def abandon(self) -> None:
        """Make every use raise, in a forked child."""

        def refuse(*_: Any) -> NoReturn:
            raise UnsupportedError(
                "the GPU was used before this process was forked, and cannot be used in the child",
                code="unsupported/target",
                hint=FORK_HINT,
            )

        self.is_usable = False
        self._functions = dict.fromkeys(self._functions, refuse)
        self.launch_kernel = self.launch_graph = refuse


_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()


def load_driver() -> Driver:
    """The driver of this process, loaded by the first call and never unloaded.

    Raises UnsupportedError without an NVIDIA driver, without a device, or with a driver older than CUDA
    12.0; a later call tries again.
    """
    global _driver
    with _lock:
        if _driver is None:
            try:
                library = ctypes.CDLL(_LIBRARY)
            except OSError as error:
                raise UnsupportedError(
                    f"no NVIDIA driver on this machine: {_LIBRARY} cannot be loaded",
                    code="unsupported/target",
                    hint=NO_GPU_HINT,
                ) from error
            _driver = Driver(library)
        return _driver


def _resolve(library: Any, name: str, types: tuple[Any, ...]) -> Callable[..., int]:
    try:
        function = getattr(library, name)
    except AttributeError as error:
        raise _too_old(f"has no function {name}") from error
    function.argtypes = types
    function.restype = c_int
    typed: Callable[..., int] = function
    return typed


def _too_old(why: str) -> UnsupportedError:
    return UnsupportedError(
        f"the NVIDIA driver is too old: it {why}, and CUDA {_version_text(OLDEST_VERSION)} is needed",
        code="unsupported/target",
        hint="update the NVIDIA driver to version 525 or later",
    )


def _version_text(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    for each in tuple(_drivers):
        each.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
