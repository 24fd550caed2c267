"""The examples run and say what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_the_tour_of_the_api() -> None:
    script = [sys.executable, str(EXAMPLES / "api_tour.py")]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert "the saved model gives the same bits: True" in done.stdout
    assert "a prepared call writes into the same arrays: True" in done.stdout
    assert "there are: image" in done.stdout
