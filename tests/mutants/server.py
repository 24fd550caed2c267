"""A process that plants faults in children of its own, each of which runs the suite once.

Reads the names of faults from stdin, a JSON string a line ("" for no fault); answers each with a line of
JSON: what the suite found, or null. Modules are loaded and answers computed once, before forking.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys

from tests.mutants.faults import FAULTS
from tests.mutants.plant import NotPlantableError
from tests.mutants.suite import Trial, prepare, search

#: Seconds after which a child counts as hanging; the suite takes some three.
LIMIT = 120


def main() -> None:
    """Serve requests until stdin ends."""
    trials = prepare()
    load_compiler()
    for line in sys.stdin:
        print(json.dumps(in_child(json.loads(line), trials)), flush=True)


def load_compiler() -> None:
    """Import what a compilation imports, so that children need not."""
    import dlc.api.compile
    import dlc.backends.cpu.backend
    import dlc.frontend.onnx.importer
    import dlc.lowering.lower
    import dlc.passes.pipeline
    from dlc.frontend.onnx import registry
    from dlc.lowering.rules.registry import lowered_operators

    registry.operators()
    assert lowered_operators() and dlc.api.compile and dlc.backends.cpu.backend


def in_child(name: str, trials: list[Trial]) -> str | None:
    """What the suite finds with the fault of that name planted, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as answer:
            answer.write(json.dumps(found_with(name, trials)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"the process ended with signal {os.WTERMSIG(status)}"
    found: str | None = json.loads(text) if text else "the process ended without an answer"
    return found


def found_with(name: str, trials: list[Trial]) -> str | None:
    """What the suite finds with the fault of that name planted."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(LIMIT)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a broken allocator has to say
    with contextlib.ExitStack() as stack:
        first = ""
        if name:
            fault = next(fault for fault in FAULTS if fault.name == name)
            first = fault.seen_in
            try:
                stack.enter_context(fault.planted())
            except NotPlantableError as error:
                return f"cannot be planted: {error}"
        return search(trials, first)


if __name__ == "__main__":
    main()
