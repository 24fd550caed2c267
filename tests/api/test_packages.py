"""Saving, loading and pickling; models in several threads and processes."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import dlc
from dlc.errors import InputError, PackageError, ResourceError
from tests.api.small_models import AFFINE, PRODUCT, affine_inputs, affine_outputs

ROOT = Path(dlc.__file__).parent.parent
INPUTS = affine_inputs()
Y = affine_outputs(**INPUTS)[0]


@pytest.fixture(scope="module")
def package(affine: dlc.CompiledModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packages") / "affine.dlc"
    affine.save(path)
    return path


def test_a_saved_model_is_the_same_model(affine: dlc.CompiledModel, package: Path) -> None:
    assert package.read_bytes() == affine.to_bytes()
    with dlc.load(package) as mapped, dlc.load(str(package), copy_weights=True, verify=True) as copied:
        for model in (mapped, copied, dlc.load(affine.to_bytes(), threads=1)):
            assert model.inputs == affine.inputs and model.outputs == affine.outputs
            assert model.name == affine.name and np.array_equal(model(INPUTS)["y"], Y)
            assert model.to_bytes() == affine.to_bytes()
            assert model.report().kernels == affine.report().kernels


def test_two_compilations_give_equal_bytes() -> None:
    one, two = (dlc.compile(AFFINE, cache=False).to_bytes() for _ in range(2))
    assert one == two


def test_a_package_holds_no_path_and_no_pickle(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        assert "manifest.json" in archive.namelist() and archive.testzip() is None
        text = archive.read("manifest.json")
    assert str(Path.home()).encode() not in text and str(package.parent).encode() not in text


def test_loading_needs_no_compiler(package: Path) -> None:
    code = (
        "import sys, numpy as np, dlc\n"
        "model = dlc.load(sys.argv[1], threads=1)\n"
        "y = model(x=np.ones((2, 3), np.float32), b=np.zeros(3, np.float32))['y']\n"
        "assert (y == 2).all()\n"
        "heavy = {'onnx', 'onnxruntime', 'networkx', 'rich', 'torch', 'click'} & set(sys.modules)\n"
        "compiler = ('dlc.frontend', 'dlc.passes', 'dlc.backends')\n"
        "heavy |= {name for name in sys.modules if name.startswith(compiler)}\n"
        "sys.exit(', '.join(sorted(heavy)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, package], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0 and done.stderr == ""


def test_files_that_are_no_packages(package: Path, tmp_path: Path) -> None:
    for source in ("no/such/file.dlc", tmp_path / "none.dlc"):
        with pytest.raises(InputError):
            dlc.load(source)
    content = package.read_bytes()
    for bad in (
        b"",
        b"garbage",
        content[: len(content) // 2],
        content[:-1],
        content.replace(b"\x7fELF", b"\x7fELf", 1),
    ):
        with pytest.raises(PackageError):
            dlc.load(bad)


def test_a_place_that_cannot_be_written(affine: dlc.CompiledModel, tmp_path: Path) -> None:
    with pytest.raises(ResourceError):
        affine.save(tmp_path / "no" / "folder" / "m.dlc")
    with pytest.raises(ResourceError):
        affine.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pickling(affine: dlc.CompiledModel) -> None:
    with pickle.loads(pickle.dumps(affine)) as model:
        assert np.array_equal(model(INPUTS)["y"], Y) and model.inputs == affine.inputs


# --- threads and processes


def product_inputs(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return (
        generator.standard_normal((rows, 256)).astype(np.float32),
        generator.standard_normal((256, 512)).astype(np.float32),
    )


def test_the_same_bits_on_every_number_of_threads() -> None:
    x, w = product_inputs(96, 0)
    results = []
    for threads in (1, 2, 3, 7):
        with dlc.compile(PRODUCT, threads=threads, cache=False) as model:
            results.append(model(x, w)["y"])
            alone = model(x[5:6], w)["y"]
            assert np.array_equal(alone[0], results[0][5])
    assert all(np.array_equal(result, results[0]) for result in results)
    assert np.allclose(results[0], np.maximum(x @ w, 0), atol=1e-3)


def test_many_threads_call_one_model() -> None:
    with dlc.compile(PRODUCT, threads=2, cache=False) as model:
        cases = [product_inputs(rows, rows) for rows in (1, 3, 17, 40)]
        expected = [model(*case)["y"] for case in cases]

        def work(number: int) -> bool:
            which = number % len(cases)
            return np.array_equal(model(*cases[which])["y"], expected[which])

        with ThreadPoolExecutor(12) as pool:
            assert all(pool.map(work, range(300)))


def test_closing_waits_for_calls() -> None:
    x, w = product_inputs(200, 1)
    model = dlc.compile(PRODUCT, threads=1, cache=False)
    expected = model(x, w)["y"]
    started, outcomes = threading.Event(), []

    def work() -> None:
        try:
            while True:
                started.set()
                outcomes.append(np.array_equal(model(x, w)["y"], expected))
        except InputError as error:
            outcomes.append(str(error))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    started.wait()
    model.close()
    for worker in workers:
        worker.join(timeout=60)
    assert not any(worker.is_alive() for worker in workers)
    assert [item for item in outcomes if item is not True] == ["the model is closed"] * 4


def _in_child(queue: multiprocessing.Queue, model: dlc.CompiledModel) -> None:  # type: ignore[type-arg]
    queue.put(model(INPUTS)["y"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_models_in_child_processes(affine: dlc.CompiledModel, method: str) -> None:
    affine(INPUTS)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, affine))
    child.start()
    try:
        assert np.array_equal(queue.get(timeout=60), Y)
    finally:
        child.join(60)
    assert child.exitcode == 0 and np.array_equal(affine(INPUTS)["y"], Y)
