"""The examples run and say what they promise."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_the_tour_of_the_api() -> None:
    script = [sys.executable, str(EXAMPLES / "api_tour.py")]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert "the saved model gives the same bits: True" in done.stdout
    assert "a prepared call writes into the same arrays: True" in done.stdout
    assert "there are: image" in done.stdout


@pytest.mark.skipif(not (find_spec("torch") and find_spec("onnxscript")), reason="torch is not installed")
def test_a_torch_module() -> None:
    script = [sys.executable, str(EXAMPLES / "torch_module.py")]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    agreements = [line for line in done.stdout.splitlines() if "agrees with PyTorch" in line]
    assert len(agreements) == 4 and all(line.endswith("True") for line in agreements), done.stdout
    assert "100% native" in done.stdout
    assert "torch.no_grad()" in done.stdout
