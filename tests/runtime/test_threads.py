"""The default number of threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlc.errors import InputError
from dlc.options import Environment
from dlc.runtime import threads
from dlc.runtime.threads import default_threads, physical_cores


def _topology(root: Path, siblings: dict[int, str]) -> Path:
    for cpu, text in siblings.items():
        folder = root / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(text + "\n")
    return root


def test_hardware_threads_of_a_core_count_once(tmp_path: Path) -> None:
    root = _topology(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})
    assert physical_cores({0, 1, 2, 3}, root) == 2
    assert physical_cores({0, 2}, root) == 1
    assert physical_cores({3}, root) == 1


def test_unknown_topology_counts_each_cpu(tmp_path: Path) -> None:
    assert physical_cores({0, 1, 7}, tmp_path) == 3


def test_the_variable_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_threads(Environment(num_threads=7)) == 7
    monkeypatch.setenv("DLC_NUM_THREADS", "5")
    assert default_threads() == 5
    monkeypatch.setenv("DLC_NUM_THREADS", "many")
    with pytest.raises(InputError, match="DLC_NUM_THREADS"):
        default_threads()


def test_affinity_and_quota_bound_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment()
    assert 1 <= default_threads(environment) <= len(os.sched_getaffinity(0))
    monkeypatch.setattr(threads, "usable_cpus", lambda: 3)
    monkeypatch.setattr(threads, "physical_cores", lambda cpus: 8)
    assert default_threads(environment) == 3
    monkeypatch.setattr(threads, "usable_cpus", lambda: 8)
    monkeypatch.setattr(threads, "physical_cores", lambda cpus: 4)
    assert default_threads(environment) == 4
