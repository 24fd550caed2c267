"""Records of a run: when each launch and each host step began and ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from ctypes import addressof, c_void_p, cast
from dataclasses import dataclass
from typing import Any

from dlc.runtime.abi import Context, LaunchRecord
from dlc.runtime.hosts import Host, host_callback

#: Launches of a run that are kept; those beyond are only counted.
MOST_LAUNCHES = 1 << 16


@dataclass(frozen=True)
class Launch:
    """One launch of a recorded run: address of the kernel's function, chunks, nanoseconds from start to end,
    and the number of the program's step that launched it."""

    kernel: int
    chunks: int
    start: int
    end: int
    step: int = 0


@dataclass(frozen=True)
class HostCall:
    """One host step of a recorded run: its number in the program, nanoseconds from start to end."""

    step: int
    start: int
    end: int


@dataclass(frozen=True)
class Recording:
    """A run from `start` to `end`, in nanoseconds of CLOCK_MONOTONIC; launches and host steps in order.

    `lost` is the number of launches that were not kept.
    """

    start: int
    end: int
    launches: tuple[Launch, ...]
    hosts: tuple[HostCall, ...]
    lost: int = 0


class Recorder:
    """Records the runs of one context: those that happen in a `with` statement over it, one each time."""

    def __init__(self, context: Context, host: Host | None, errors: list[BaseException]) -> None:
        self._context = context
        self._records = (LaunchRecord * MOST_LAUNCHES)()
        self._hosts: list[HostCall] = []
        self._plain = context.host
        self._timed: Any = None if host is None else host_callback(_Timed(host, self._hosts), errors)
        self._start = self._end = 0

    def __enter__(self) -> Recorder:
        context = self._context
        context.profile, context.profile_capacity = addressof(self._records), len(self._records)
        context.profile_count = 0
        self._hosts.clear()
        if self._timed is not None:
            context.host = cast(self._timed, c_void_p).value
        self._start = time.monotonic_ns()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end = time.monotonic_ns()
        self._context.profile = None
        self._context.host = self._plain

    def recording(self) -> Recording:
        """What the last run did."""
        seen = self._context.profile_count
        kept = self._records[: min(seen, len(self._records))]
        launches = tuple(Launch(r.kernel, r.chunks, r.start, r.end, r.step) for r in kept)
        return Recording(self._start, self._end, launches, tuple(self._hosts), seen - len(launches))


class _Timed:
    """A host whose steps are timed."""

    def __init__(self, host: Host, calls: list[HostCall]) -> None:
        self._host = host
        self._calls = calls

    def __call__(self, step: int, buffers: int, symbols: int) -> None:
        start = time.monotonic_ns()
        self._host(step, buffers, symbols)
        self._calls.append(HostCall(step, start, time.monotonic_ns()))

    def begin(self, objects: Sequence[Any]) -> None:
        self._host.begin(objects)

    def end(self) -> None:
        self._host.end()
