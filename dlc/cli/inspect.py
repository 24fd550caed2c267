"""`dlc inspect`: what is in a model, and what becomes of it on its way to code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import dlc
from dlc.cli.models import is_package
from dlc.cli.output import Output
from dlc.cli.parameters import EXISTING_FILE, dim_option, json_option
from dlc.cli.stages import GPU_STAGES, STAGES, Stages, is_gpu
from dlc.errors import InputError, printable
from dlc.options import ShapeSpec

if TYPE_CHECKING:
    from dlc.runtime.manifest import TensorInfo
    from dlc.runtime.package import Package

_LINE_LIMIT = 100_000


@click.command("inspect")
@click.argument("model", type=EXISTING_FILE)
@click.option(
    "--stage",
    type=click.Choice(tuple(dict.fromkeys((*STAGES, *GPU_STAGES)))),
    help="Print the model as imported, after the passes, as kernels, as a program of steps over memory, as "
    "LLVM IR or assembly, or for a GPU as Triton's source or PTX, instead of a summary.",
)
@click.option("--node", metavar="NAME", help="Of that stage, only what comes from this ONNX node.")
@click.option("-O", "optimize", type=click.IntRange(0, 3), default=2, help="Level of the passes.")
@click.option("--skip", metavar="PASS", multiple=True, help="Leave out this pass. Repeatable.")
@click.option(
    "--target", default="native", help="What kernels are generated for: a CPU, or a GPU such as cuda:sm_90."
)
@dim_option
@json_option
def command(
    model: Path,
    stage: str | None,
    node: str | None,
    optimize: int,
    skip: tuple[str, ...],
    target: str,
    dims: Mapping[str, ShapeSpec],
    output: Output,
) -> None:
    """Describe MODEL: inputs, outputs, symbols, operators, identity; or print one of its stages.

    Of a package there is a description only: it holds code, no model.
    """
    if is_package(model):
        if stage is not None:
            raise click.UsageError("a package has no stages; give the ONNX model")
        data = package_summary(model)
        output.result(data, *_package_lines(data))
        return
    if stage is None:
        if node is not None:
            raise click.UsageError("--node needs a --stage")
        data = summary(model, dims, target)
        output.result(data, *_summary_lines(data))
        return
    text = _stages(stage, target)(model, dims, optimize, target, skip).text(stage, node)
    lines = (printable(line.expandtabs(), _LINE_LIMIT) for line in text.rstrip("\n").split("\n"))
    output.result({"stage": stage, "node": node, "text": text}, *lines)


def _stages(stage: str, target: str) -> type[Stages]:
    """What makes the stages of a target; InputError for one of other targets."""
    if stage not in (GPU_STAGES if is_gpu(target) else STAGES):
        hint = f"of '{target}' there are: " + ", ".join(GPU_STAGES if is_gpu(target) else STAGES)
        if stage in GPU_STAGES:
            hint += "; --target cuda:sm_90 names a GPU"
        raise InputError(
            f"stage {stage} is none of target '{printable(target)}'", hint=hint, code="input/option"
        )
    if not is_gpu(target):
        return Stages
    from dlc.cli.gpu_stages import GpuStages

    return GpuStages


def summary(model: Path, dims: Mapping[str, ShapeSpec], target: str = "native") -> dict[str, Any]:
    """The model's interface, identity and operator counts, and what would run on the host."""
    from dlc.frontend.onnx.importer import import_model

    imported = import_model(model, shapes=dims)
    meta = imported.metadata
    operators = Counter(node.op.name for node in imported.graph.nodes)
    inputs = zip(imported.inputs, imported.graph.inputs)
    results = zip(imported.outputs, imported.graph.outputs)
    return {
        "name": imported.name,
        "sha256": imported.sha256,
        "producer": f"{meta.producer} {meta.producer_version}".strip(),
        "ir_version": meta.ir_version,
        "opsets": dict(imported.opsets),
        "inputs": {spec.name: str(value.type) for spec, value in inputs},
        "outputs": {name: str(value.type) for name, value in results},
        "symbols": dict(meta.dim_names),
        "operators": dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        "hosts": [str(host) for host in dlc.check(model, target=target, shapes=dims).hosts],
    }


def _summary_lines(data: Mapping[str, Any]) -> list[str]:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in data["opsets"].items())
    identity = [data["name"], data["producer"], f"IR {data['ir_version']}", opsets]
    lines = [", ".join(printable(part) for part in identity if part), f"sha256 {data['sha256']}"]
    for title in ("inputs", "outputs", "symbols", "operators"):
        lines.append(title)
        lines += [f"  {printable(key)}: {printable(str(value))}" for key, value in data[title].items()]
    return lines + _host_lines(data["hosts"])


def _host_lines(hosts: Sequence[str]) -> list[str]:
    """The nodes that run on the host, if there are any."""
    return ["on the host", *(f"  {printable(host, 500)}" for host in hosts)] if hosts else []


def package_summary(path: Path) -> dict[str, Any]:
    """What a package says of itself."""
    from dlc.api.load import stored_report
    from dlc.api.selftest import KEY
    from dlc.runtime.package import Package

    with Package.open(path) as package:
        manifest = package.manifest
        return {
            "name": manifest.model.name,
            "sha256": manifest.model.sha256,
            "dlc": manifest.dlc,
            "opsets": dict(manifest.model.opsets),
            "inputs": {info.name: _type_text(info) for info in manifest.inputs},
            "outputs": {info.name: _type_text(info) for info in manifest.outputs},
            "symbols": {
                s.name: f"{s.minimum}..{'' if s.maximum is None else s.maximum}" for s in manifest.symbols
            },
            "targets": {target.name: ", ".join(target.features) for target in manifest.targets},
            "members": dict(package.members),
            "functions": _functions(package),
            "constants": len(manifest.constants),
            "self_test": KEY in manifest.extra,
            "hosts": list(map(str, stored_report(package).hosts)),
        }


def _functions(package: Package) -> list[dict[str, Any]]:
    """The functions of a package for a GPU; none of one for CPUs."""
    if not any(is_gpu(target.name) for target in package.manifest.targets):
        return []
    from dlc.cli.gpu_package import describe_functions

    return describe_functions(package)


def _type_text(info: TensorInfo) -> str:
    return info.type or f"{info.dtype}{list(info.shape)}"


def _package_lines(data: Mapping[str, Any]) -> list[str]:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in data["opsets"].items())
    test = "with a self-test" if data["self_test"] else "without a self-test"
    lines = [f"{printable(data['name'])}, {printable(opsets)}, by dlc {printable(data['dlc'])}, {test}"]
    lines.append(f"sha256 {data['sha256']}")
    for title in ("inputs", "outputs", "symbols", "targets", "members"):
        lines.append(title)
        lines += [f"  {printable(key)}: {printable(str(value), 500)}" for key, value in data[title].items()]
    if data["functions"]:
        from dlc.cli.gpu_package import function_lines

        lines += function_lines(data["functions"])
    return lines + _host_lines(data["hosts"])
