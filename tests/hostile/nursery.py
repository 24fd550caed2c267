"""A process that imports models in children of its own, each with little memory and little time.

Reads paths from stdin, a JSON string a line; answers each with a line of JSON: {"outcome": ..., "seconds":
..., "mebibytes": ...}, or {"died": status} for a child that was killed. The modules are loaded once, before
forking.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from dlc.errors import Error
from dlc.frontend.onnx import registry
from dlc.frontend.onnx.importer import import_model
from dlc.ir.text import to_text
from dlc.ir.verify import verify

#: Address space that a child may add to what the loaded modules take.
ADDRESS_SPACE = 1 << 30
CPU_SECONDS = 10


def import_and_print(path: str) -> str:
    """Import the model at `path`, verify and print it: the class and text of the error, or "imported"."""
    try:
        folder = Path(path).parent / "weights"
        graph = import_model(path, external_data_dir=folder if folder.is_dir() else None).graph
        verify(graph)
        text = to_text(graph, digests=False)
        return "imported" if all(line.isprintable() for line in text.split("\n")) else "unprintable text"
    except Error as error:
        return f"{type(error).__name__}: {error}"


def child(path: str) -> dict[str, Any]:
    """What one import gives, within the limits."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(3 * CPU_SECONDS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    outcome = import_and_print(path)
    seconds = time.process_time() - started
    mebibytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    return {"outcome": outcome, "seconds": seconds, "mebibytes": mebibytes}


def _warm_up() -> None:
    """Load what every import loads."""
    registry.operators()
    info = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "g", [info], [onnx.ValueInfoProto(name="y")]
    )
    import_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


def main() -> None:
    """Serve requests until stdin ends."""
    _warm_up()
    for line in sys.stdin:
        sys.stdout.flush()
        process = os.fork()
        if process == 0:
            status = 1
            try:
                print(json.dumps(child(json.loads(line))), flush=True)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(process, 0)
        if status:
            print(json.dumps({"died": status}), flush=True)


if __name__ == "__main__":
    main()
