"""Compiling GPU functions in several processes at once.

Triton compiles one function at a time in a process. A worker is a fresh interpreter: a fork would share
locks with threads that it does not have, and the CUDA driver does not survive it; `multiprocessing`'s other
ways to start a process run the user's main module again. Functions and binaries travel over a socket that
only the two processes hold.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from dlc.backends.triton.function import TritonFunction
from dlc.errors import Error, InternalError
from dlc.target import GpuTarget

if TYPE_CHECKING:
    from dlc.backends.triton.binary import GpuBinary

#: What a worker runs, with the parent's path of modules and the number of its end of the socket.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from dlc.backends.triton.workers import serve; serve({end})"


def compile_in_processes(
    functions: Sequence[TritonFunction], target: GpuTarget, jobs: int
) -> list[GpuBinary]:
    """The binaries of `functions`, in order, compiled by `jobs` processes.

    Raises the error of the first function that has one; InternalError if its process died of it.
    """
    results: dict[int, GpuBinary | Error] = {}
    waiting = list(enumerate(functions))[::-1]
    busy: dict[Connection, int] = {}

    def give(connection: Connection) -> None:
        if waiting:
            position, function = waiting.pop()
            # The grid is the business of a launch.
            connection.send((dataclasses.replace(function, grid=(1,)), target))
            busy[connection] = position

    with contextlib.ExitStack() as stack:
        for connection in [_start(stack) for _ in range(jobs)]:
            give(connection)
        while busy:
            ready = wait(list(busy))
            for connection in [connection for connection in busy if connection in ready]:
                position = busy.pop(connection)
                result = _receive(connection, functions[position])
                results[position] = result
                if isinstance(result, Error):
                    waiting.clear()
                else:
                    give(connection)
    binaries = []
    for position in sorted(results):
        result = results[position]
        if isinstance(result, Error):
            raise result
        binaries.append(result)
    return binaries


def serve(end: int) -> None:
    """Compile what comes over the socket `end` until the parent closes it."""
    from dlc.backends.triton.binary import compile_function

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the parent, which then ends this
    connection = Connection(end)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            function, target = connection.recv()
            try:
                connection.send(compile_function(function, target))
            except Error as error:
                connection.send(error)


def _start(stack: contextlib.ExitStack) -> Connection:
    """The socket to a new worker, which `stack` ends."""
    ours, theirs = Pipe()
    stack.callback(ours.close)
    with theirs:
        program = _PROGRAM.format(path=sys.path, end=theirs.fileno())
        worker = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
    stack.callback(worker.wait)
    stack.callback(worker.kill)
    return ours


def _receive(connection: Connection, function: TritonFunction) -> GpuBinary | Error:
    try:
        result: GpuBinary | Error = connection.recv()
    except (EOFError, ConnectionError):
        return InternalError(f"the process that compiled the function {function.name} for a GPU died")
    return result
