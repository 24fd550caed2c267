"""`dlc profile` and `dlc bench --roof`: tables, JSON, traces, and their ways to fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc.models import digits_path

DIGITS = digits_path()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, compiled."""
    import dlc

    path = tmp_path_factory.mktemp("profile") / "m.dlc"
    with dlc.compile(DIGITS, cache=False) as model:
        model.save(path, self_test=False)
    return path


def test_the_launches_of_a_model(cli: Callable[..., Any], tmp_path: Path) -> None:
    trace = tmp_path / "t.json"
    arguments = ("--random", 3, "--dim", "batch=2", "--threads", 1, "--runs", 3, "--trace", trace)
    ran = cli("profile", DIGITS, *arguments, "--no-cache", "--no-roof", "--json")
    assert ran.status == 0
    data = json.loads(ran.out)
    assert (data["model"], data["threads"], data["runs"], data["roof"]) == ("digits", 1, 3, None)
    (last,) = (kernel for kernel in data["kernels"] if "logits/Gemm" in kernel["nodes"])
    assert last["flops"] == 2 * 2 * 64 * 10 and last["calls"] == 1
    assert sum(kernel["share"] for kernel in data["kernels"]) + data["overhead_share"] == pytest.approx(1)
    events = json.loads(trace.read_text())["traceEvents"]
    assert len(events) == 1 + sum(kernel["calls"] for kernel in data["kernels"])


def test_the_table_of_a_package(cli: Callable[..., Any], package: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.ones((3, 1, 8, 8), np.float32))
    ran = cli("profile", package, "--inputs", tmp_path / "x.npz", "--runs", 2, "--threads", 1)
    assert ran.status == 0
    first, *rows = ran.out.splitlines()
    assert first.startswith("digits for native on 1 thread: ") and "median of 2" in first
    assert any("logits/Gemm" in row and "gemm" in row for row in rows)
    assert any("between" in row for row in rows) and any("100.0%" in row for row in rows)
    assert rows[-1].startswith("roof of 1 thread: ")


def test_what_a_profile_needs(cli: Callable[..., Any], package: Path, tmp_path: Path) -> None:
    assert cli("profile", package, "--runs", 0).status == 2
    missing = cli("profile", package, "--no-roof", "--runs", 1, "--trace", tmp_path / "none" / "t.json")
    assert missing.status == 2 and "cannot write" in missing.err


def test_the_roof_of_the_machine(cli: Callable[..., Any], tmp_path: Path) -> None:
    ran = cli("bench", "--roof", "--threads", "1", "--json", tmp_path / "roof.json")
    assert ran.status == 0 and "DRAM read GB/s" in ran.out
    (roof,) = json.loads((tmp_path / "roof.json").read_text())["roofs"]
    assert roof["threads"] == 1 and roof["flops"] > 0 and roof["l2"]["read"] > 0 and roof["dram"]["copy"] > 0
    assert cli("bench", "--roof", DIGITS).status == 2
    assert cli("bench").status == 2
