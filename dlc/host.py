"""What the process may use of this machine: CPUs by affinity and cgroup quota, memory by cgroup and RAM."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cgroup:
    """The control groups of this process, version 2 or version 1, as files under `root`.

    `membership` is the text of /proc/self/cgroup. A limit may stand at any level above the process; the
    tightest counts. Inside a container the path may not exist under the mount; its root is always looked at.
    """

    root: Path = Path("/sys/fs/cgroup")
    membership: str | None = None

    def cpu_quota(self) -> float | None:
        """CPUs' worth of time granted (1.5: 150 ms in every 100 ms), or None without a quota."""
        quotas = [
            int(fields[0]) / int(fields[1])
            for folder in self._levels(None)
            if len(fields := _read(folder / "cpu.max").split()) == 2 and fields[0] != "max"
        ]
        for folder in self._levels("cpu"):
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
            if quota and period and int(quota) > 0:
                quotas.append(int(quota) / int(period))
        return min(quotas, default=None)

    def memory_limit(self) -> int | None:
        """Bytes of memory granted, or None without a limit."""
        texts = [_read(folder / "memory.max") for folder in self._levels(None)]
        texts += [_read(folder / "memory.limit_in_bytes") for folder in self._levels("memory")]
        return min((int(text) for text in texts if text and text != "max"), default=None)

    def _levels(self, controller: str | None) -> Iterator[Path]:
        """Folders of a version 1 controller, or of version 2 (None), from the process's own to the root."""
        root = self.root if controller is None else self.root / controller
        membership = _read(Path("/proc/self/cgroup")) if self.membership is None else self.membership
        for line in membership.splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers.split(",") == [""] if controller is None else controller in controllers.split(","):
                relative = Path(path.lstrip("/"))
                if ".." not in relative.parts:
                    yield from (root / level for level in (relative, *relative.parents) if level != Path("."))
        yield root


def cpu_quota() -> float | None:
    """CPUs' worth of time that the cgroup grants this process, or None without a quota."""
    return Cgroup().cpu_quota()


def usable_cpus() -> int:
    """CPUs that this process can keep busy: its affinity mask, cut to the cgroup's quota; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    quota = cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def memory_limit() -> int | None:
    """Bytes that this process can hope for: the lesser of RAM and the cgroup's limit; None if unknown."""
    limits = [Cgroup().memory_limit()]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min((limit for limit in limits if limit is not None), default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
