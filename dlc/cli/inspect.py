"""`dlc inspect`: what is in a model, and what becomes of it on its way to code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dlc.cli.output import Output
from dlc.cli.parameters import EXISTING_FILE, dim_option, json_option
from dlc.errors import printable
from dlc.options import ShapeSpec

#: The stages that have a text, in the order in which a model passes them.
STAGES = ("import", "optimized", "llvm")
_LINE_LIMIT = 100_000


@click.command("inspect")
@click.argument("model", type=EXISTING_FILE)
@click.option(
    "--stage",
    type=click.Choice(STAGES),
    help="Print the model as imported, after the passes, or as LLVM IR, instead of a summary.",
)
@click.option("-O", "optimize", type=click.IntRange(0, 3), default=2, help="Level of the passes.")
@click.option("--target", default="native", help="The CPU that LLVM IR is for.")
@dim_option
@json_option
def command(
    model: Path,
    stage: str | None,
    optimize: int,
    target: str,
    dims: Mapping[str, ShapeSpec],
    output: Output,
) -> None:
    """Describe MODEL (an ONNX file) as dlc reads it: inputs, outputs, symbols, operators, identity."""
    if stage is None:
        data = summary(model, dims)
        output.result(data, *_summary_lines(data))
        return
    text = stage_text(model, stage, dims, optimize, target)
    lines = (printable(line, _LINE_LIMIT) for line in text.split("\n"))
    output.result({"stage": stage, "text": text}, *lines)


def stage_text(
    model: Path, stage: str, dims: Mapping[str, ShapeSpec], optimize: int = 2, target: str = "native"
) -> str:
    """The text of the model at one of STAGES."""
    from dlc.backends.cpu.backend import generate
    from dlc.frontend.onnx.importer import import_model
    from dlc.ir.text import to_text
    from dlc.lowering.lower import lower
    from dlc.passes.pipeline import default_pipeline
    from dlc.target import resolve

    graph = import_model(model, shapes=dims).graph
    if stage == "import":
        return to_text(graph)
    default_pipeline(optimize).run(graph)
    if stage == "optimized":
        return to_text(graph)
    return generate(lower(graph), resolve(target)).text


def summary(model: Path, dims: Mapping[str, ShapeSpec]) -> dict[str, Any]:
    """The model's interface, identity and operator counts."""
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
    }


def _summary_lines(data: Mapping[str, Any]) -> list[str]:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in data["opsets"].items())
    identity = [data["name"], data["producer"], f"IR {data['ir_version']}", opsets]
    lines = [", ".join(printable(part) for part in identity if part), f"sha256 {data['sha256']}"]
    for title in ("inputs", "outputs", "symbols", "operators"):
        lines.append(title)
        lines += [f"  {printable(key)}: {printable(str(value))}" for key, value in data[title].items()]
    return lines
