"""`dlc check`: can dlc compile this model, and if not, what stands in the way?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from dlc.cli.exit_codes import ExitCode
from dlc.cli.output import Output
from dlc.cli.parameters import EXISTING_FILE, dim_option, json_option, parse_limits
from dlc.errors import printable
from dlc.limits import Limits
from dlc.options import ShapeSpec


@click.command("check")
@click.argument("model", type=EXISTING_FILE)
@click.option("--limit", "limits", metavar="FIELD=NUMBER", multiple=True, callback=parse_limits)
@dim_option
@json_option
def command(model: Path, limits: Limits, dims: Mapping[str, ShapeSpec], output: Output) -> int:
    """Import MODEL (an ONNX file) and list everything that keeps it from being compiled."""
    from dlc.frontend.onnx.importer import check

    findings = check(model, shapes=dims, limits=limits)
    data = {"supported": not findings, "findings": [finding.to_dict() for finding in findings]}
    name = printable(model.name)
    head = f"{name}: supported" if not findings else f"{name}: {len(findings)} problems"
    output.result(data, head, *(f"  {finding}" for finding in findings))
    return ExitCode.UNSUPPORTED if findings else ExitCode.OK
