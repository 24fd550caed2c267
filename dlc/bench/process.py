"""The parent's side of a worker: start it, ask it, notice when it dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import dlc
from dlc.errors import Error, printable


class WorkerFailure(Error):
    """An engine could not do what it was asked: it raised, died or took too long."""


class WorkerProcess:
    """One engine in its own process. A context manager: leaving it ends the process.

    `timeout` bounds each request in seconds. All requests raise WorkerFailure.
    """

    def __init__(self, engine: str, threads: int, timeout: float = 600.0) -> None:
        self.engine = engine
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        roots = [str(Path(dlc.__file__).parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(roots),
            "OMP_NUM_THREADS": str(threads),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dlc.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        self._unread = b""

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """The worker's reply to one request."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise self._death() from None
        reply: dict[str, Any] = json.loads(self._line())
        if "error" in reply:
            raise WorkerFailure(f"{self.engine}: {printable(reply['message'], limit=500)}")
        return reply

    def close(self) -> None:
        """End the process and forget its output."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _line(self) -> bytes:
        """One line of the worker's output, without blocking beyond the time allowed."""
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + self._timeout
        while b"\n" not in self._unread:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self._process.kill()
                raise WorkerFailure(f"{self.engine}: no answer within {self._timeout:g} s")
            chunk = os.read(stdout.fileno(), 1 << 16)
            if not chunk:
                raise self._death()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _death(self) -> WorkerFailure:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"ended by signal {-code}" if code < 0 else f"exited with status {code}"
        last = f": {printable(lines[-1])}" if lines else ""
        return WorkerFailure(f"{self.engine}: its process {how}{last}")
