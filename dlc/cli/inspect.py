"""`dlc inspect`: what is in a model?"""

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


@click.command("inspect")
@click.argument("model", type=EXISTING_FILE)
@dim_option
@json_option
def command(model: Path, dims: Mapping[str, ShapeSpec], output: Output) -> None:
    """Describe MODEL (an ONNX file) as dlc reads it: inputs, outputs, symbols, operators, identity."""
    from dlc.frontend.onnx.importer import import_model

    imported = import_model(model, shapes=dims)
    meta = imported.metadata
    operators = Counter(node.op.name for node in imported.graph.nodes)
    results = zip(imported.outputs, imported.graph.outputs)
    data: dict[str, Any] = {
        "name": imported.name,
        "sha256": imported.sha256,
        "producer": f"{meta.producer} {meta.producer_version}".strip(),
        "ir_version": meta.ir_version,
        "opsets": dict(imported.opsets),
        "inputs": {spec.name: str(value.type) for spec, value in zip(imported.inputs, imported.graph.inputs)},
        "outputs": {name: str(value.type) for name, value in results},
        "symbols": dict(meta.dim_names),
        "operators": dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
    }
    output.result(data, *_lines(data))


def _lines(data: Mapping[str, Any]) -> list[str]:
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in data["opsets"].items())
    identity = [data["name"], data["producer"], f"IR {data['ir_version']}", opsets]
    lines = [", ".join(printable(part) for part in identity if part), f"sha256 {data['sha256']}"]
    for title in ("inputs", "outputs", "symbols", "operators"):
        lines.append(title)
        lines += [f"  {printable(key)}: {printable(str(value))}" for key, value in data[title].items()]
    return lines
