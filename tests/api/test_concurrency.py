"""One model in many threads, in forked processes, closed while in use, and opened a thousand times."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import dlc
from dlc.errors import Error, InputError
from tests.api.small_models import AFFINE, PRODUCT, affine_inputs

Array: TypeAlias = "np.ndarray[Any, Any]"

#: Growth of the resident set that a thousand cycles may cost: allocators keep some.
MAX_GROWTH_BYTES = 24 << 20


def product_inputs(rows: int, seed: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    return {
        "x": generator.standard_normal((rows, 256)).astype(np.float32),
        "w": generator.standard_normal((256, 512)).astype(np.float32),
    }


@pytest.mark.parametrize("threads", [1, 2])
def test_many_threads_call_one_model(threads: int) -> None:
    with dlc.compile(PRODUCT, cache=False, threads=threads) as model:
        feeds = [product_inputs(rows, rows) for rows in range(1, 25)]
        expected = [model(each)["y"] for each in feeds]
        with ThreadPoolExecutor(12) as pool:
            for _ in range(3):
                for found, wanted in zip(pool.map(model, feeds), expected, strict=True):
                    assert np.array_equal(found["y"], wanted)


def test_models_share_the_threads() -> None:
    models = [dlc.compile(PRODUCT, cache=False, threads=2, optimize=level) for level in (1, 2)]
    feeds = product_inputs(17, 0)
    expected = [model(feeds)["y"] for model in models]

    def work(number: int) -> bool:
        return np.array_equal(models[number % 2](feeds)["y"], expected[number % 2])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(60)))
    for model in models:
        model.close()


def test_closing_waits_for_calls() -> None:
    model = dlc.compile(PRODUCT, cache=False, threads=1)
    feeds = product_inputs(64, 1)
    wanted = model(feeds)["y"]
    wrong: list[object] = []
    started = threading.Barrier(5)

    def call() -> None:
        started.wait()
        for _ in range(200):
            try:
                if not np.array_equal(model(feeds)["y"], wanted):
                    wrong.append("another result")
            except InputError:
                return
            except BaseException as error:
                wrong.append(error)
                return

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    started.wait()
    model.close()
    for caller in callers:
        caller.join()
    assert not wrong
    with pytest.raises(InputError):
        model(feeds)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_process_uses_its_parents_model(threads: int) -> None:
    with dlc.compile(PRODUCT, cache=False, threads=threads) as model:
        feeds = product_inputs(40, 2)
        wanted = model(feeds)["y"]
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    again = all(np.array_equal(model(feeds)["y"], wanted) for _ in range(5))
                    fresh = dlc.compile(AFFINE, cache=False, threads=threads)
                    status = 0 if again and fresh(affine_inputs())["y"].shape == (4, 3) else 2
                finally:
                    os._exit(status)
            children.append(child)
        assert np.array_equal(model(feeds)["y"], wanted)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


def test_a_model_is_pickled_by_its_package() -> None:
    with dlc.compile(AFFINE, cache=False) as model:
        again = pickle.loads(pickle.dumps(model))
        assert np.array_equal(again(affine_inputs())["y"], model(affine_inputs())["y"])
        again.close()


SOAK = """
import gc, os, sys
import numpy as np
import dlc

path, package, cycles = sys.argv[1], sys.argv[2], int(sys.argv[3])
x = np.ones((4, 3), np.float32)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

def cycle(number):
    # Afresh every hundredth time, and else from the cache or a package: code is mapped, run and unmapped.
    model = dlc.load(package) if number % 4 == 0 else dlc.compile(path, cache=number % 100 != 1)
    result = model({"x": x, "b": x[0]})["y"]
    model.close()
    assert result.shape == (4, 3)

for number in range(100):
    cycle(number)
gc.collect()
before, files = resident(), len(os.listdir("/proc/self/fd"))
for number in range(cycles):
    cycle(number)
gc.collect()
print(resident() - before, len(os.listdir("/proc/self/fd")) - files)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_thousand_cycles_keep_within_their_memory(tmp_path: Path) -> None:
    model, package = tmp_path / "m.onnx", tmp_path / "m.dlc"
    model.write_bytes(AFFINE.SerializeToString())
    with dlc.compile(model, cache=False) as compiled:
        compiled.save(package)
    environment = {**os.environ, "DLC_CACHE_DIR": str(tmp_path / "cache")}
    run = subprocess.run(
        [sys.executable, "-c", SOAK, str(model), str(package), "1000"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    growth, files = map(int, run.stdout.split())
    assert growth < MAX_GROWTH_BYTES and files <= 2, (growth, files)


def test_errors_of_one_thread_leave_the_others_alone() -> None:
    with dlc.compile(AFFINE, cache=False) as model:
        good, bad = affine_inputs(), affine_inputs() | {"b": np.zeros(4, np.float32)}
        wanted = model(good)["y"]

        def call(number: int) -> bool:
            if number % 3:
                return np.array_equal(model(good)["y"], wanted)
            with pytest.raises(Error):
                model(bad)
            return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(call, range(120)))
