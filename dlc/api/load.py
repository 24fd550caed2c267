"""dlc.load: a package back to something that runs, without the compiler."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from dlc.api.assemble import INTERFACE_MEMBER, REPORT_MEMBER, Artifact
from dlc.api.host_plans import from_members
from dlc.api.model import CompiledModel
from dlc.api.report import Report
from dlc.errors import PackageError, UnsupportedError
from dlc.runtime.call import Interface, Site
from dlc.runtime.package import Package

if TYPE_CHECKING:
    from dlc.api.gpu.build import GpuArtifact


def load(
    source: str | os.PathLike[str] | bytes,
    *,
    threads: int | None = None,
    copy_weights: bool = False,
    verify: bool = False,
) -> CompiledModel:
    """Open a package (path or bytes). Weights are mapped from the file, unless `copy_weights`.

    A package is a program: load only what you would execute. Raises PackageError for a damaged package or one
    made for another machine, InputError when there is no such file.
    """
    return open_model(from_package(Package.open(source, copy=copy_weights, verify=verify)), threads=threads)


def open_model(artifact: Artifact | GpuArtifact, *, threads: int | None = None) -> CompiledModel:
    """The model of an artifact, for the machine that it was made for."""
    if isinstance(artifact, Artifact):
        return CompiledModel(artifact, threads=threads)
    from dlc.api.gpu.model import GpuModel

    return GpuModel(artifact, threads=threads)


def cpu_artifact(artifact: Artifact | GpuArtifact) -> Artifact:
    """An artifact that is for a CPU; UnsupportedError for others."""
    if not isinstance(artifact, Artifact):
        raise UnsupportedError(
            f"this is not offered for the target {artifact.target}",
            hint="compile the model for the CPU",
            code="unsupported/target",
        )
    return artifact


def from_package_bytes(content: bytes | memoryview) -> Artifact | GpuArtifact:
    """The artifact that a package in memory holds."""
    return from_package(Package.open(content))


def from_package(package: Package) -> Artifact | GpuArtifact:
    """The artifact that an open package holds; PackageError when this machine cannot run it."""
    manifest = package.manifest
    for target in manifest.targets:
        if target.name.startswith("cuda"):
            from dlc.api.gpu.build import from_gpu_package

            return from_gpu_package(package, target, stored_report(package))
    return _from_cpu_package(package)


def _from_cpu_package(package: Package) -> Artifact:
    from dlc.target.cpu import native

    manifest = package.manifest
    machine = native()
    target = manifest.target_for(machine.triple, machine.features)
    code = package.code(target)
    members = {name: package.member(name) for name in package.members if name != "manifest.json"}
    try:
        interface = _interface(json.loads(bytes(package.member(INTERFACE_MEMBER))))
    except (ValueError, TypeError, KeyError) as error:
        raise PackageError(f"the package's description is damaged: {error}") from None
    report = stored_report(package)
    constants = [package.constant(constant) for constant in manifest.constants]
    hosts = from_members(members)
    return Artifact(manifest, members, interface, constants, code[0], report, hosts, target.name)


def stored_report(package: Package) -> Report:
    """The report of the compilation, without its phases; PackageError where it is damaged."""
    try:
        return Report.from_dict(json.loads(bytes(package.member(REPORT_MEMBER))) | {"phases": []})
    except (ValueError, TypeError, KeyError) as error:
        raise PackageError(f"the package's report is damaged: {error}") from None


def _interface(data: dict[str, Any]) -> Interface:
    sites = {key: tuple(Site(**site) for site in data[key]) for key in ("guards", "kernels")}
    return Interface(
        **{
            **data,
            **sites,
            "symbols": tuple(data["symbols"]),
            "output_ranks": tuple(data["output_ranks"]),
            "grown": tuple(data["grown"]),
            "accesses": tuple(data.get("accesses", ())),
            "elements": tuple(data["elements"]),
        }
    )
