"""Imports hostile models in child processes that have little memory and little time."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one model: "imported", or the error's class and text; CPU seconds and MiB it took."""

    text: str
    seconds: float
    mebibytes: int

    @property
    def is_typed_error(self) -> bool:
        """Whether it ended in an error of dlc that is not a bug of dlc."""
        name = self.text.split(":")[0]
        return name.endswith(("Error", "Fault")) and name != "InternalError"


Attack = Callable[[Any], Outcome]


@pytest.fixture(scope="session")
def nursery() -> Iterator[subprocess.Popen[str]]:
    """The process whose children import the models."""
    command = [sys.executable, "-m", "tests.hostile.nursery"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def attack(tmp_path: Path, nursery: subprocess.Popen[str]) -> Attack:
    """Import a model, given as path, bytes or ModelProto, in a child process; fails when the child dies."""

    def run(model: Any) -> Outcome:
        path = model if isinstance(model, Path) else tmp_path / "model.onnx"
        if path is not model:
            path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        assert nursery.stdin is not None and nursery.stdout is not None
        nursery.stdin.write(json.dumps(str(path)) + "\n")
        nursery.stdin.flush()
        answer = json.loads(nursery.stdout.readline())
        assert "died" not in answer, f"the child was killed: {answer}"
        return Outcome(answer["outcome"], answer["seconds"], answer["mebibytes"])

    return run


@pytest.fixture
def refused(attack: Attack) -> Callable[..., str]:
    """Check that a model ends in a typed error soon and with little memory; returns the error's text."""

    def run(model: Any, seconds: float = 2.0, mebibytes: int = 300) -> str:
        outcome = attack(model)
        assert outcome.is_typed_error, outcome.text
        assert outcome.seconds < seconds, outcome
        assert outcome.mebibytes < mebibytes, outcome
        assert outcome.text.isprintable() or "\n  " in outcome.text, outcome.text
        return outcome.text

    return run
