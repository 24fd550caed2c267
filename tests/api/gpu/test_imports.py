"""What GPU targets import: compiling needs Triton and no llvmlite, loading a package neither."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton")

import dlc
from dlc.models import digits_path
from tests.helpers.gpu_models import TARGET
from tests.test_layers import third_party

HIDDEN = "import sys; sys.modules['llvmlite'] = None\n"


def test_importing_dlc_imports_no_triton() -> None:
    assert not {"triton", "torch", "llvmlite"} & third_party("import dlc, dlc.api.gpu")


def test_compiling_for_a_gpu_needs_no_llvmlite(tmp_path: Path) -> None:
    path = tmp_path / "digits.dlc"
    statement = (
        f"{HIDDEN}import dlc\n"
        f"with dlc.compile({str(digits_path())!r}, target={TARGET!r}, cache=False) as model:\n"
        f"    model.save({str(path)!r})"
    )
    assert "triton" in third_party(statement) and path.stat().st_size > 0


def test_a_package_loads_and_is_called_without_a_compiler(tmp_path: Path) -> None:
    """Without a GPU the call fails, at the driver and not at an import."""
    path = tmp_path / "digits.dlc"
    with dlc.compile(digits_path(), target=TARGET, cache=False) as model:
        model.save(path)
        image = [1 if isinstance(n, str) else n for n in model.inputs[0].shape]
    statement = (
        f"{HIDDEN}import dlc, numpy as np\n"
        f"model = dlc.load({str(path)!r})\n"
        "try:\n"
        f"    model(np.zeros({image}, np.float32))\n"
        "except dlc.UnsupportedError as error:\n"
        "    assert 'driver' in error.message or 'GPU' in error.message"
    )
    assert third_party(statement) <= {"llvmlite", "ml_dtypes", "numpy", "platformdirs"}
