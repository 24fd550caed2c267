"""What a package for a GPU holds: its functions, and what they work for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlc.errors import printable

if TYPE_CHECKING:
    from dlc.api.gpu import plan as p
    from dlc.runtime.package import Package


def describe_functions(package: Package) -> list[dict[str, Any]]:
    """Each function with its resources, how often the plan launches it (once a step of a recurrence or
    loop), and the nodes that it works for.
    """
    from dlc.api.gpu.build import from_gpu_package
    from dlc.api.load import stored_report
    from dlc.backends.triton.footprint import footprint

    artifact = from_gpu_package(package, package.manifest.targets[0], stored_report(package))
    launches: list[list[str]] = [[] for _ in artifact.binaries]
    for launch in _launches(artifact.plan.steps):
        launches[launch.function].append(launch.origin)
    described = []
    for binary, origins in zip(artifact.binaries, launches, strict=True):
        used = footprint(binary.code)
        described.append(
            {
                "name": binary.entry,
                "arch": binary.arch,
                "bytes": len(binary.code),
                "warps": binary.num_warps,
                "shared_bytes": binary.shared,
                "registers": used.registers,
                "stack_bytes": used.stack_bytes,
                "launches": len(origins),
                "nodes": list(dict.fromkeys(origins)),
            }
        )
    return described


def _launches(steps: Sequence[p.Step]) -> Iterator[p.Launch]:
    from dlc.api.gpu import plan

    for step in steps:
        match step:
            case plan.Launch():
                yield step
            case plan.Recur() | plan.Repeat():
                yield from _launches(step.body)
            case plan.Branch():
                yield from _launches((*step.then, *step.otherwise))


def function_lines(functions: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a function."""
    lines = ["functions"]
    for number, function in enumerate(functions):
        stack = f", {function['stack_bytes']} bytes of stack" if function["stack_bytes"] else ""
        lines.append(
            f"  {number}: {printable(function['name'])}, {function['arch']}, {function['warps']} warps, "
            f"{function['shared_bytes']} bytes of shared memory, {function['registers']} registers{stack}, "
            f"launches: {function['launches']}, for {printable('; '.join(function['nodes']), 200)}"
        )
    return lines
