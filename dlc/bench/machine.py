"""What a result depends on: the machine and the versions, without anything that names it or its user."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import dlc
from dlc.host import cpu_quota, memory_limit, usable_cpus

_PACKAGES = (
    "llvmlite", "ml_dtypes", "networkx", "numpy", "onnx", "onnxruntime", "openvino", "torch", "triton",
)  # fmt: skip

#: CPU features that decide which code is generated, as /proc/cpuinfo writes them.
_FEATURES = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
)  # fmt: skip


def machine_facts() -> dict[str, Any]:
    """Processor, features, cores, memory, operating system, load, and the versions of what takes part."""
    cpu = _cpuinfo()
    flags = set(cpu.get("flags", "").split())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": cpu.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "features": [feature for feature in _FEATURES if feature in flags],
        "logical_cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "cpu_quota": cpu_quota(),
        "memory_bytes": memory_limit(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": load,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": package_versions(),
    }


def package_versions() -> dict[str, str]:
    """dlc's version and those of the packages that it builds on or is compared with, as far as installed."""
    versions = {"dlc": dlc.__version__}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpuinfo() -> dict[str, str]:
    """The first processor's fields in /proc/cpuinfo; empty where there is no such file."""
    if sys.platform != "linux":
        return {}
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
