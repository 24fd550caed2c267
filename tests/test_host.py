"""Quotas and limits of cgroups, read from files laid out as the kernel does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlc import host
from dlc.host import Cgroup


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("membership", "files", "quota", "memory"),
    [
        ("0::/", {"cpu.max": "max 100000", "memory.max": "max"}, None, None),
        ("0::/", {"cpu.max": "150000 100000", "memory.max": "4096"}, 1.5, 4096),
        (
            "0::/a/b",
            {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000", "a/memory.max": "77"},
            2.0,
            77,
        ),
        (
            "4:memory:/x\n1:cpu,cpuacct:/",
            {
                "cpu/cpu.cfs_quota_us": "50000",
                "cpu/cpu.cfs_period_us": "100000",
                "memory/x/memory.limit_in_bytes": "1000",
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            0.5,
            1000,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, None),
        ("0::/../outside", {"cpu.max": "100000 100000"}, 1.0, None),
        ("", {}, None, None),
    ],
)
def test_cgroup(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float | None, memory: int | None
) -> None:
    write(tmp_path, files)
    group = Cgroup(tmp_path, membership)
    assert group.cpu_quota() == quota and group.memory_limit() == memory


@pytest.mark.parametrize(("quota", "expected"), [(None, 4), (0.2, 1), (1.5, 2), (9.0, 4)])
def test_usable_cpus(monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int) -> None:
    monkeypatch.setattr(host, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    assert host.usable_cpus() == expected


def test_this_machine() -> None:
    limit = host.memory_limit()
    assert host.usable_cpus() >= 1 and (limit is None or limit > 1 << 20)
