"""Compiling in a child process: what a model does to the compiler ends the child alone.

The child is a fresh interpreter (a fork would share locks with threads that it does not have). It gets the
request as JSON on its standard input, tells each phase on its standard output, and leaves a package and an
answer as files. The parent loads the package like any other: its digests are checked, and nothing of it is
unpickled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc import errors
from dlc.api.assemble import Artifact
from dlc.api.load import from_package
from dlc.errors import Error, Finding, InputError, InternalError, LimitError, UnsupportedError, printable
from dlc.options import Options
from dlc.runtime.package import Package

if TYPE_CHECKING:
    from dlc.api.gpu.build import GpuArtifact

MODEL, PACKAGE, ANSWER, LOG = "model.onnx", "model.dlc", "answer.json", "log.txt"
#: Starts the lines of the child that tell a phase.
PHASE = "phase: "
#: What LLVM and the C++ library say when memory ends; they abort then.
_NO_MEMORY = ("out of memory", "bad_alloc", "Cannot allocate memory")
_KEPT = 2000
#: What the child runs, with the parent's path of modules.
PROGRAM = "from dlc.api.isolated import main; main()"


def compile_in_child(
    source: Any, options: Options, progress: Callable[[str], None]
) -> Artifact | GpuArtifact:
    """What a child process makes of `source` within the limits `compile_seconds` and `compile_bytes`.

    Raises what the child raised; LimitError when a limit ended it; InternalError, with the command that
    makes a small reproducer, when it died.
    """
    with tempfile.TemporaryDirectory(prefix="dlc-") as name:
        folder = Path(name)
        request = {
            "folder": name,
            "path": _place(source, folder),
            "options": dataclasses.replace(options, isolate=False).to_dict(),
        }
        status = _run(request, folder / LOG, options.limits.compile_seconds, progress)
        answer = _answer(folder / ANSWER)
        if answer is None:
            raise _death(status, _log(folder / LOG), source, options)
        if "error" in answer:
            raise _rebuild(answer["error"], source)
        phases = tuple((phase, seconds) for phase, seconds in answer["phases"])
        # The file is mapped: it lives as long as the model, though its name goes now.
        artifact = from_package(Package.open(folder / PACKAGE))
        passes = tuple((step, seconds) for step, seconds in answer["passes"])
        report = dataclasses.replace(artifact.report, phases=phases, passes=passes)
        return dataclasses.replace(artifact, report=report)


def reproducer(source: Any) -> str:
    """The command that reduces a model that the compiler fails on."""
    named = isinstance(source, str | os.PathLike)
    path = shlex.quote(printable(os.fsdecode(os.fspath(source)), 1000)) if named else "MODEL"
    saved = "" if named else " with the model saved as MODEL"
    return f"`dlc reduce {path} -o small.onnx` makes a small reproducer{saved}"


def _place(source: Any, folder: Path) -> str | None:
    """The path of a model that is a file; another one is written for the child, which reads it as bytes."""
    if isinstance(source, str | os.PathLike):
        return os.path.abspath(os.fsdecode(os.fspath(source)))
    if hasattr(source, "read"):
        source = source.read()
    elif hasattr(source, "SerializeToString"):
        try:
            source = source.SerializeToString()
        except ValueError as error:
            raise InputError(f"the model cannot be passed on: {printable(str(error))}") from None
    if not isinstance(source, bytes | bytearray | memoryview):
        raise InputError(f"isolate=True takes no {type(source).__name__}", hint="give a path or bytes")
    (folder / MODEL).write_bytes(source)
    return None


def _run(request: Any, log: Path, seconds: int, progress: Callable[[str], None]) -> int | None:
    """Run the child to its end: its return code, None if it took too long."""
    program = f"import sys; sys.path[:] = {sys.path!r}; {PROGRAM}"
    with open(log, "wb") as errors_file:
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors_file,
            text=True,
            errors="backslashreplace",
        )
    with child, _killed_at_the_end(child), _timer(child, seconds) as timed_out:
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(request))
            child.stdin.close()
        for line in child.stdout:
            if line.startswith(PHASE):
                progress(line.removeprefix(PHASE).rstrip("\n"))
        status = child.wait()
    return None if timed_out.is_set() or status == -signal.SIGXCPU else status


@contextlib.contextmanager
def _killed_at_the_end(child: subprocess.Popen[str]) -> Iterator[None]:
    """No child outlives its parent's interest in it: an interrupt, an exception of `progress`."""
    try:
        yield
    finally:
        child.kill()


@contextlib.contextmanager
def _timer(child: subprocess.Popen[str], seconds: int) -> Iterator[threading.Event]:
    """Ends the child after `seconds`, and tells if it did."""
    timed_out = threading.Event()

    def end() -> None:
        timed_out.set()
        child.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield timed_out
    finally:
        timer.cancel()


def _answer(path: Path) -> Any:
    """What the child answered; None if it did not come to that."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _log(path: Path) -> str:
    return path.read_bytes()[-_KEPT:].decode("utf-8", "replace")


def _death(status: int | None, log: str, source: Any, options: Options) -> Error:
    """The error for a child that ended without an answer."""
    limits = options.limits
    if status is None:
        return LimitError(
            f"the compilation took longer than {limits.compile_seconds:,} seconds",
            hint="if the model is trusted, raise it with limits=dlc.Limits(compile_seconds=...)",
        )
    if any(text in log for text in _NO_MEMORY) or status == -signal.SIGKILL:
        return too_large(options)
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
    detail = f": {printable(last.strip())}" if last else ""
    return InternalError(f"the compiler died of {how}{detail}", hint=reproducer(source))


def too_large(options: Options) -> LimitError:
    """The error for a compilation whose memory is at an end."""
    return LimitError(
        f"the compilation takes more than {options.limits.compile_bytes:,} bytes of memory",
        hint="if the model is trusted, raise it with limits=dlc.Limits(compile_bytes=...)",
    )


def _rebuild(data: dict[str, Any], source: Any) -> Error:
    """The error that the child described."""
    kind = getattr(errors, data["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, Error)):
        return InternalError(f"{printable(data['error'])}: {printable(data['message'])}")
    given = {key: data[key] for key in ("node", "hint", "code")}
    if kind is UnsupportedError:
        lists = ("dtypes", "shapes")
        findings = [Finding(**{**f, **{k: tuple(f[k]) for k in lists}}) for f in data["findings"]]
        return UnsupportedError(data["message"], findings=findings, **given)
    if kind is InternalError:
        given["hint"] = reproducer(source)
    return kind(data["message"], **given)
