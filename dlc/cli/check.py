"""`dlc check`: can dlc compile this model, and if not, what stands in the way?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click

import dlc
from dlc.cli.exit_codes import ExitCode
from dlc.cli.output import Output
from dlc.cli.parameters import EXISTING_FILE, dim_option, json_option, parse_limits, target_option
from dlc.errors import printable
from dlc.limits import Limits
from dlc.options import ShapeSpec


@click.command("check")
@click.argument("model", type=EXISTING_FILE)
@click.option("--strict", is_flag=True, help="Nodes that would run on the host are problems, too.")
@click.option("--limit", "limits", metavar="FIELD=NUMBER", multiple=True, callback=parse_limits)
@target_option
@dim_option
@json_option
def command(
    model: Path, strict: bool, limits: Limits, target: str, dims: Mapping[str, ShapeSpec], output: Output
) -> int:
    """List everything that keeps MODEL (an ONNX file) from being compiled, and what would run on the host."""
    report = dlc.check(model, target=target, shapes=dims, limits=limits)
    supported = not report.findings and not (strict and report.hosts)
    data = {
        "supported": supported,
        "findings": [finding.to_dict() for finding in report.findings],
        "hosts": [asdict(host) for host in report.hosts],
    }
    problems = len(report.findings) + (len(report.hosts) if strict else 0)
    head = f"{printable(model.name)}: " + ("supported" if supported else f"{problems} problems")
    findings = [f"  {finding}" for finding in report.findings]
    hosts = [f"  on the host: {host}" for host in report.hosts]
    output.result(data, head, *findings, *(printable(line, limit=1000) for line in hosts))
    return ExitCode.OK if supported else ExitCode.UNSUPPORTED
