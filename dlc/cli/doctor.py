"""`dlc doctor`: what this machine and this installation offer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from dlc.cli.output import Output
from dlc.cli.parameters import json_option
from dlc.errors import Error, printable

_NVIDIA = Path("/proc/driver/nvidia/gpus")


@click.command("doctor")
@json_option
def command(output: Output) -> None:
    """Show versions, processor, threads, memory, compile cache and what is missing."""
    from dlc.bench.machine import machine_facts

    data = {
        **machine_facts(),
        "target": _target(),
        "threads": _threads(),
        "cache": _cache(),
        "gpus": _gpus(),
        "cuda": _cuda(),
        "environment": {name: value for name, value in os.environ.items() if name.startswith("DLC_")},
        "optional": {name: _installed(name) for name in ("onnxruntime", "openvino", "torch", "triton")},
    }
    output.result(data, *_lines(data))


def _target() -> dict[str, Any]:
    """The native target as code generation sees it, or why there is none."""
    from dlc.target import native

    try:
        import llvmlite.binding as llvm
    except ImportError:
        return {"llvm": None, "error": "llvmlite is not installed: models run on GPUs alone"}
    version = ".".join(map(str, llvm.llvm_version_info))
    try:
        target = native()
    except Error as error:
        return {"llvm": version, "error": str(error)}
    described: dict[str, Any] = {"llvm": version, "cpu": target.cpu, "vector_bits": target.vector_bits}
    for name in ("fma", "f16c", "vnni", "bf16", "l1", "l2", "l3"):
        described[name] = getattr(target, name)
    return described


def _threads() -> int | str:
    """The default thread count, or what is wrong with DLC_NUM_THREADS."""
    from dlc.runtime.threads import default_threads

    try:
        return default_threads()
    except Error as error:
        return str(error)


def _cache() -> dict[str, Any]:
    """The compile cache, or what is wrong with the environment that names it."""
    from dlc.runtime.cache import default_cache

    try:
        return asdict(default_cache().info())
    except Error as error:
        return {"error": str(error)}


def _gpus() -> list[str]:
    """Names of NVIDIA GPUs whose driver is loaded."""
    found = []
    for path in sorted(_NVIDIA.glob("*/information")) if _NVIDIA.is_dir() else []:
        fields = (line.partition(":") for line in path.read_text().splitlines())
        found += [value.strip() for key, _, value in fields if key == "Model"]
    return found


def _cuda() -> dict[str, Any]:
    """The CUDA driver and the target of its first GPU, or why no model runs on one; Triton's version."""
    from dlc.runtime.cuda import load_driver
    from dlc.target import resolve_gpu

    found: dict[str, Any] = {"triton": metadata.version("triton") if _installed("triton") else None}
    try:
        found["driver"] = load_driver().cuda
        found["target"] = resolve_gpu("cuda").name
    except Error as error:
        found["error"] = error.message
    return found


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _lines(data: Mapping[str, Any]) -> list[str]:
    target, cache = data["target"], data["cache"]
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    memory, quota = data["memory_bytes"], data["cpu_quota"]
    rows = {
        "versions": versions,
        "python": f"{data['python']}, {data['system']}, {data['architecture']}",
        "processor": f"{data['processor']} ({', '.join(data['features'])})",
        "target": target.get("error") or _target_line(target),
        "cpus": f"{data['usable_cpus']} usable of {data['logical_cpus']}"
        + (f", cgroup quota {quota:g}" if quota is not None else "")
        + f"; default threads: {data['threads']}",
        "memory": "unknown" if memory is None else f"{memory / 2**30:.1f} GiB",
        "cache": cache.get("error") or _cache_line(cache),
        "gpus": ", ".join(data["gpus"]) or "none with an NVIDIA driver",
        "cuda": _cuda_line(data["cuda"]),
        "environment": ", ".join(f"{key}={value}" for key, value in data["environment"].items()) or "-",
        "not installed": ", ".join(name for name, there in data["optional"].items() if not there) or "-",
    }
    return [f"{name:<14} {printable(str(value), limit=500)}" for name, value in rows.items()]


def _cuda_line(cuda: Mapping[str, Any]) -> str:
    """Whether models run on a GPU here, and whether they are compiled for one."""
    runs = cuda.get("error") or f"target cuda is {cuda['target']}, the driver serves CUDA {cuda['driver']}"
    triton = cuda["triton"]
    compiles = (
        "not installed: no compilation for GPUs" if triton is None else f"{triton} compiles for any GPU"
    )
    return f"{runs}; triton {compiles}"


def _cache_line(cache: Mapping[str, Any]) -> str:
    return f"{cache['directory'] or 'off'}, {cache['entries']} entries, {cache['bytes'] / 2**20:.1f} MiB"


def _target_line(target: Mapping[str, Any]) -> str:
    features = ", ".join(name for name in ("fma", "f16c", "vnni", "bf16") if target[name])
    caches = ", ".join(f"{name} {target[name] // 1024} KiB" for name in ("l1", "l2", "l3") if target[name])
    vectors = f"{target['vector_bits']}-bit vectors"
    return f"{target['cpu']}, {vectors}, {features}; {caches}; LLVM {target['llvm']}"
