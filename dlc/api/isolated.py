"""The child process of an isolated compilation (isolation.py): compiles one model and answers in files."""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from dlc.api.isolation import ANSWER, MODEL, PACKAGE, PHASE, too_large
from dlc.errors import Error, InternalError
from dlc.options import Options


def main() -> None:
    """Serve the request on standard input, and end."""
    request = json.load(sys.stdin)
    folder = Path(request["folder"])
    options = Options.from_dict(request["options"])
    # Results of libraries that print go to the log: standard output is for phases.
    phases = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        _load_libraries()
        _limit(options)
        answer = _compile(request["path"] or (folder / MODEL).read_bytes(), folder, options, phases)
    except Error as error:
        answer = {"error": error.to_dict()}
    except MemoryError:
        answer = {"error": too_large(options).to_dict()}
    except Exception as error:
        answer = {"error": InternalError(f"{type(error).__name__}: {error}").to_dict()}
    temporary = folder / (ANSWER + ".part")
    temporary.write_text(json.dumps(answer))
    temporary.replace(folder / ANSWER)


def _load_libraries() -> None:
    """Load what every compilation needs: that is no part of what the limits are for."""
    import llvmlite.binding  # noqa: F401

    import dlc.api.compile  # noqa: F401
    from dlc.frontend.onnx import registry

    registry.operators()


def _limit(options: Options) -> None:
    """Bound the memory and the time of this process."""
    limits = options.limits
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + limits.compile_bytes,) * 2)
    # All cores together: more than one can be busy in the libraries.
    seconds = limits.compile_seconds * (os.cpu_count() or 1) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _compile(source: Any, folder: Path, options: Options, phases: Any) -> dict[str, Any]:
    from dlc.api.compile import Hooks, build
    from dlc.runtime.package import write_package

    def progress(phase: str) -> None:
        print(PHASE + phase, file=phases, flush=True)

    try:
        artifact = build(source, options, progress, Hooks())
    except MemoryError:
        raise too_large(options) from None
    write_package(artifact.manifest, artifact.members, folder / PACKAGE)
    return {"phases": artifact.report.phases, "passes": artifact.report.passes}

