"""The wheel holds everything that runs: data files, type marker, entry point, licence; and no tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dlc

ROOT = Path(dlc.__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the sources, so that no build folder is left in the checkout."""
    import shutil

    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "dlc", source / "dlc", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", str(source), *options], check=True)
    return zipfile.ZipFile(next(target.glob("dlc-*.whl")))


def test_every_source_and_data_file_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    kinds = {".py", ".ll", ".h", ".onnx", ".npz", ".typed"}
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "dlc").rglob("*")
        if path.is_file() and (path.suffix in kinds or path.name == "py.typed")
    }
    packed = set(wheel.namelist())
    assert {"dlc/models/digits.onnx", "dlc/models/digits_test.npz", "dlc/py.typed"} <= wanted
    assert wanted <= packed, sorted(wanted - packed)
    assert all(name.startswith(("dlc/", "dlc-")) for name in packed)


def test_metadata(wheel: zipfile.ZipFile) -> None:
    info = f"dlc-{dlc.__version__}.dist-info"
    text = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in text and "Requires-Python: >=3.10" in text
    assert "dlc = dlc.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
