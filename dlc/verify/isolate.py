"""Running a function in a child process of its own, with bounds on its time and memory.

A child is forked, so it has all modules and models of its parent at once, and what it does to itself (a
crash in native code, an abort in LLVM, an endless loop, all memory taken) ends the child alone.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from dlc.errors import Error, printable

#: This file, and the folder of dlc.
_THIS = Path(__file__)
_ROOT = _THIS.parent.parent

#: The end of what a child wrote that is kept, in characters.
_KEPT = 2000


class Ending(Enum):
    """How a child ended."""

    RETURNED = "returned"
    RAISED = "raised"
    DIED = "died"
    TOO_LONG = "too long"


@dataclass(frozen=True)
class Failure:
    """An exception of a child: its class, dlc's code (None if it is none of dlc's), its text and its place.

    The place is "file.py:function" of the innermost frame in dlc.
    """

    kind: str
    code: str | None
    message: str
    place: str

    def __str__(self) -> str:
        code = "" if self.code is None else f" ({self.code})"
        return printable(f"{self.kind}{code} in {self.place}: {self.message}", 500)


@dataclass(frozen=True)
class Outcome:
    """What became of a child: the function's result, or its exception, or the signal that ended it.

    `output` is the end of what the child wrote to standard output and standard error.
    """

    ending: Ending
    value: Any = None
    error: Failure | None = None
    signal: int | None = None
    output: str = ""

    def __str__(self) -> str:
        match self.ending:
            case Ending.RETURNED:
                return "returned"
            case Ending.RAISED:
                return str(self.error)
            case Ending.DIED if self.signal:
                return f"died of {signal.Signals(self.signal).name}"
            case Ending.DIED:
                return "ended without an answer"
            case Ending.TOO_LONG:
                return "took too long"


def isolated(function: Callable[[], Any], *, seconds: float = 60, memory: int = 4 << 30) -> Outcome:
    """Call `function` in a child that may run `seconds` and add `memory` bytes to its address space.

    The result must be JSON-compatible. Threads of the parent do not exist in the child.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _serve(function, writing, log.fileno(), seconds, memory)
        os.close(writing)
        answer, in_time = _collect(reading, seconds)
        if not in_time:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        log.seek(0)
        output = log.read()[-_KEPT:].decode("utf-8", "replace")
    if not in_time or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        return Outcome(Ending.TOO_LONG, output=output)
    if os.WIFSIGNALED(status):
        return Outcome(Ending.DIED, signal=os.WTERMSIG(status), output=output)
    try:
        data = json.loads(answer)
    except ValueError:  # nothing, or half an answer
        return Outcome(Ending.DIED, output=output)
    if "failure" in data:
        return Outcome(Ending.RAISED, error=Failure(**data["failure"]), output=output)
    return Outcome(Ending.RETURNED, data["value"], output=output)


def tell(text: str) -> None:
    """Write a line into the output of this process, if it is a child; its parent sees it, however it ends."""
    if _is_child:
        os.write(2, f"{text}\n".encode())


_is_child = False


def _collect(pipe: int, seconds: float) -> tuple[bytes, bool]:
    """What a child writes until it closes its end, and whether it did within `seconds`."""
    parts: list[bytes] = []
    deadline = time.monotonic() + seconds
    with os.fdopen(pipe, "rb", buffering=0) as stream:
        while select.select([stream], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = stream.read(1 << 20)
            if not part:
                return b"".join(parts), True
            parts.append(part)
    return b"", False


def _serve(function: Callable[[], Any], pipe: int, log: int, seconds: float, memory: int) -> None:
    """The child: never returns."""
    global _is_child
    _is_child, status = True, 1
    faulthandler.disable()  # whose report of a crash would be longer than what is kept
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(2 * seconds) + 1,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            answer = {"value": function()}
        except BaseException as error:
            answer = {"failure": asdict(describe_failure(error))}
        with os.fdopen(pipe, "wb") as stream:
            stream.write(json.dumps(answer).encode())
        status = 0
    finally:
        os._exit(status)


def describe_failure(error: BaseException) -> Failure:
    """What an exception says; of a chain, the place of its first cause."""
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    frames = [(Path(frame.filename), frame.name) for frame in traceback.extract_tb(first.__traceback__)]
    inner = [(file, name) for file, name in frames if _ROOT in file.parents and file != _THIS]
    place = f"{inner[-1][0].relative_to(_ROOT)}:{inner[-1][1]}" if inner else "-"
    code = error.code if isinstance(error, Error) else None
    return Failure(type(error).__name__, code, printable(str(error), 1000), place)
