"""`dlc ops`: the ONNX operators that dlc imports."""

from __future__ import annotations

import click

from dlc.cli.output import Output
from dlc.cli.parameters import json_option


@click.command("ops")
@click.option("--domain", help="Only the operators of this domain; '' is the standard one.")
@json_option
def command(domain: str | None, output: Output) -> None:
    """List the ONNX operators that dlc imports, each with the opsets at which its import changed."""
    from rich import box
    from rich.table import Table

    from dlc.frontend.onnx.registry import operators

    found = {key: since for key, since in operators().items() if domain is None or key[0] == domain}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("operator", "domain", "since opset"):
        table.add_column(column)
    for (where, name), since in found.items():
        table.add_row(name, where or "ai.onnx", ", ".join(map(str, since)))
    data = {
        "operators": [
            {"domain": where, "name": name, "since": since} for (where, name), since in found.items()
        ]
    }
    output.result(data, table, f"{len(found)} operators")
