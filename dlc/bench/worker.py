"""One engine in a process of its own: `python -m dlc.bench.worker`, driven by JSON lines on its pipes.

    {"do": "load", "engine", "model", "threads", "options"}  -> {"version", "load_seconds", "base_bytes"}
    {"do": "inputs", "folder", "manifest"}                   -> {"first_seconds"}
    {"do": "time", "seconds", "least"}                       -> {"nanoseconds": [one a call]}
    {"do": "outputs", "folder"}                              -> {"manifest"}
    {"do": "memory"}                                         -> {"peak_bytes"}

A request that fails answers {"error", "message"}; the end of standard input ends the process. Whatever an
engine prints goes to standard error, so that it cannot disturb the protocol.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from dlc.bench.adapters import Loaded, adapter
from dlc.bench.arrays import load_arrays, save_arrays


class Worker:
    """The state of the process: the loaded model and the prepared call."""

    def __init__(self) -> None:
        self._loaded: Loaded | None = None
        self._call: Callable[[], Any] | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request."""
        match request:
            case {"do": "load", "engine": engine, "model": model, "threads": threads, "options": options}:
                load = adapter(engine)
                import_module(engine)
                base = resident_bytes("VmRSS")
                started = time.perf_counter()
                self._loaded = load(Path(model), threads, options)
                seconds = time.perf_counter() - started
                return {"version": self._loaded.version, "load_seconds": seconds, "base_bytes": base}
            case {"do": "inputs", "folder": folder, "manifest": manifest} if self._loaded is not None:
                self._call = self._loaded.prepare(load_arrays(Path(folder), manifest))
                started = time.perf_counter()
                self._call()
                return {"first_seconds": time.perf_counter() - started}
            case {"do": "time", "seconds": seconds, "least": least} if self._call is not None:
                return {"nanoseconds": time_calls(self._call, seconds, least)}
            case {"do": "outputs", "folder": folder} if self._loaded is not None and self._call is not None:
                arrays = [np.asarray(value) for value in self._call() if not isinstance(value, list)]
                return {"manifest": save_arrays(Path(folder), dict(zip(self._loaded.outputs, arrays)))}
            case {"do": "memory"}:
                return {"peak_bytes": resident_bytes("VmHWM")}
        raise ValueError(f"unexpected request {request.get('do')!r}")


def time_calls(call: Callable[[], Any], seconds: float, least: int) -> list[int]:
    """Durations in nanoseconds of calls during about `seconds`, and of at least `least` calls."""
    clock = time.perf_counter_ns
    durations: list[int] = []
    end = clock() + int(seconds * 1e9)
    while len(durations) < least or clock() < end:
        started = clock()
        call()
        durations.append(clock() - started)
    return durations


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (greatest so far) of this process; 0 where /proc does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer requests until there are no more."""
    worker = Worker()
    for line in requests:
        try:
            reply = worker.answer(json.loads(line))
        except Exception as error:  # the parent reports whatever an engine may raise
            reply = {"error": type(error).__name__, "message": str(error)}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main(arguments: Sequence[str] = ()) -> None:
    """Serve on the process's pipes, with standard output kept for replies."""
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
