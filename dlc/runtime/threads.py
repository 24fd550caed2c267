"""How many threads a model uses by default: as many as can run at once and compute at full speed."""

from __future__ import annotations

import os
from pathlib import Path

from dlc.options import Environment


def default_threads(environment: Environment | None = None) -> int:
    """The number of physical cores in the affinity mask, at most the CPU time quota of the control group,
    >= 1.

    Hardware threads of one core share its multipliers, so the second adds little to a model's speed and
    takes cache; onnxruntime and PyTorch count cores, too. DLC_NUM_THREADS in `environment` (by default the
    process's) overrides all of this.
    """
    variables = Environment.read() if environment is None else environment
    if variables.num_threads is not None:
        return variables.num_threads
    quota = cpu_quota()
    cores = physical_cores(affinity())
    return cores if quota is None else max(1, min(cores, int(quota + 0.5)))


def affinity() -> frozenset[int]:
    """The logical CPUs that this process may use."""
    return frozenset(os.sched_getaffinity(0))


def physical_cores(cpus: frozenset[int], root: Path = Path("/sys/devices/system/cpu")) -> int:
    """How many different cores `cpus` lie on; each counts as one where the system does not tell."""
    cores = set()
    for cpu in cpus:
        topology = root / f"cpu{cpu}" / "topology"
        try:
            core = (topology / "thread_siblings_list").read_text().strip()
        except OSError:
            core = f"cpu{cpu}"
        cores.add(core)
    return max(1, len(cores))


def cpu_quota(
    root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> float | None:
    """CPUs' worth of time that the control group (version 2 or 1) and its parents grant; None without a
    limit."""
    quotas = []
    for folder in control_group_folders("cpu", root, membership):
        quota = _quota_v2(folder / "cpu.max")
        if quota is None:
            quota = _quota_v1(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
        if quota is not None:
            quotas.append(quota)
    return min(quotas, default=None)


def control_group_folders(controller: str, root: Path, membership: Path) -> list[Path]:
    """The folders that hold this process's limits for `controller`, from its group up to the root.

    Each line of `membership` (/proc/self/cgroup) is ``hierarchy:controllers:path``; version 2 has no
    controllers in it. Inside a container the path is often not visible, but the root then is the group's own.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = root
        elif controller in controllers.split(","):
            base = root / controllers if (root / controllers).is_dir() else root / controller
        else:
            continue
        group = base / path.lstrip("/")
        while True:
            folders.append(group)
            if group == base or base not in group.parents:
                break
            group = group.parent
    return [folder for folder in folders if folder.is_dir()]


def _quota_v2(path: Path) -> float | None:
    """``cpu.max`` is "max 100000" or "200000 100000": microseconds of CPU time in each period."""
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(quota_path: Path, period_path: Path) -> float | None:
    try:
        quota, period = int(quota_path.read_text()), int(period_path.read_text())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None
