"""How many threads a model uses by default: as many as can compute at full speed at the same time."""

from __future__ import annotations

import os
from pathlib import Path

from dlc.host import usable_cpus
from dlc.options import Environment

_SYSFS_CPUS = Path("/sys/devices/system/cpu")


def default_threads(environment: Environment | None = None) -> int:
    """The physical cores in the affinity mask, or the control group's quota if that is less; at least 1.

    Two hardware threads of a core share its multipliers and caches, so the second one adds little to a
    model's speed; onnxruntime and PyTorch count cores, too. DLC_NUM_THREADS in `environment` (by default
    the process's) overrides all of this.
    """
    variables = Environment.read() if environment is None else environment
    if variables.num_threads is not None:
        return variables.num_threads
    return max(1, min(usable_cpus(), physical_cores(os.sched_getaffinity(0))))


def physical_cores(cpus: set[int], root: Path = _SYSFS_CPUS) -> int:
    """On how many different cores the logical `cpus` lie; where the system does not tell, each has its
    own."""
    return len({_siblings(root / f"cpu{cpu}") for cpu in cpus})


def _siblings(folder: Path) -> str:
    try:
        return (folder / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return folder.name
