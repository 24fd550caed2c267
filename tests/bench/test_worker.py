"""The worker's protocol, in this process and across pipes, with engines that fail, die and hang."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from dlc.bench.arrays import load_arrays, save_arrays
from dlc.bench.process import WorkerFailure, WorkerProcess
from dlc.bench.worker import resident_bytes, serve, time_calls
from dlc.models import digits_path

IMAGE = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8) % 17
LOAD = {"do": "load", "engine": "onnxruntime", "model": str(digits_path()), "threads": 1, "options": {}}


def ask(*requests: dict[str, Any]) -> list[dict[str, Any]]:
    replies = io.StringIO()
    serve(io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), replies)
    return [json.loads(line) for line in replies.getvalue().splitlines()]


def test_arrays_keep_their_dtypes_and_names(tmp_path: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "plain": np.arange(6, dtype=np.int64).reshape(2, 3),
        "../odd name\n": np.array([1.5, -0.0, np.inf], ml_dtypes.bfloat16),
        "scalar": np.array(2.5, np.float16),
        "empty": np.empty((0, 3), ml_dtypes.float8_e4m3fn),
        "nibbles": np.array([-8, 7], ml_dtypes.int4),
        "words": np.array(["a", "bc"], object),
    }
    manifest = save_arrays(tmp_path / "folder", arrays)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [f"{i}.npy" for i in range(6)]
    restored = load_arrays(tmp_path / "folder", json.loads(json.dumps(manifest)))
    assert list(restored) == list(arrays)
    for name, array in arrays.items():
        assert restored[name].dtype == array.dtype and restored[name].shape == array.shape
        np.testing.assert_array_equal(restored[name], array)


def test_protocol(tmp_path: Path) -> None:
    manifest = save_arrays(tmp_path / "in", {"image": IMAGE})
    loaded, first, timed, outputs, memory = ask(
        LOAD,
        {"do": "inputs", "folder": str(tmp_path / "in"), "manifest": manifest},
        {"do": "time", "seconds": 0.0, "least": 4},
        {"do": "outputs", "folder": str(tmp_path / "out")},
        {"do": "memory"},
    )
    assert loaded["load_seconds"] > 0 and first["first_seconds"] > 0 and loaded["version"]
    assert len(timed["nanoseconds"]) == 4 and min(timed["nanoseconds"]) > 0
    logits = load_arrays(tmp_path / "out", outputs["manifest"])["logits"]
    assert logits.shape == (1, 10) and logits.dtype == np.float32
    assert memory["peak_bytes"] >= loaded["base_bytes"] > 1 << 20


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"do": "time", "seconds": 1, "least": 1}, "unexpected request 'time'"),
        ({"do": "nothing"}, "unexpected request"),
        ({**LOAD, "engine": "abacus"}, "unknown engine 'abacus'"),
        ({**LOAD, "model": "missing.onnx"}, "missing.onnx"),
    ],
)
def test_failures_are_answers(request_: dict[str, Any], words: str) -> None:
    failed, memory = ask(request_, {"do": "memory"})
    assert words in failed["message"] and failed["error"] and "peak_bytes" in memory


def test_time_calls_honours_both_bounds() -> None:
    assert len(time_calls(lambda: None, seconds=0.0, least=7)) == 7
    assert len(time_calls(lambda: None, seconds=0.01, least=1)) > 7


def test_resident_bytes() -> None:
    assert resident_bytes("VmHWM") >= resident_bytes("VmRSS") > 1 << 20
    assert resident_bytes("NoSuchField") == 0


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess("onnxruntime", threads=1, timeout=30) as started:
        yield started


def pid_of(worker: WorkerProcess) -> int:
    return worker._process.pid


def test_a_worker_process_answers_and_ends(worker: WorkerProcess, tmp_path: Path) -> None:
    manifest = save_arrays(tmp_path, {"image": IMAGE})
    assert worker.ask(**LOAD)["version"]
    worker.ask(do="inputs", folder=str(tmp_path), manifest=manifest)
    assert len(worker.ask(do="time", seconds=0, least=2)["nanoseconds"]) == 2
    with pytest.raises(WorkerFailure, match="onnxruntime: unexpected request"):
        worker.ask(do="nothing")
    assert worker.ask(do="memory")["peak_bytes"] > 0
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid_of(worker), 0)


def test_death_is_reported_with_its_signal(worker: WorkerProcess) -> None:
    worker.ask(do="memory")
    os.kill(pid_of(worker), signal.SIGSEGV)
    with pytest.raises(WorkerFailure, match="ended by signal 11"):
        worker.ask(do="memory")


def test_a_hanging_engine_is_ended(tmp_path: Path) -> None:
    manifest = save_arrays(tmp_path, {"image": IMAGE})
    with WorkerProcess("onnxruntime", threads=1, timeout=30) as worker:
        worker.ask(**LOAD)
        worker.ask(do="inputs", folder=str(tmp_path), manifest=manifest)
        worker._timeout = 0.2
        with pytest.raises(WorkerFailure, match=r"no answer within 0\.2 s"):
            worker.ask(do="time", seconds=60, least=1)
