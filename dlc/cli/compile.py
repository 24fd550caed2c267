"""`dlc compile`: an ONNX model to a package."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import dlc
from dlc.cli.output import Output
from dlc.cli.parameters import EXISTING_FILE, compile_options, dim_option, json_option
from dlc.errors import printable
from dlc.options import ShapeSpec


@click.command("compile")
@click.argument("model", type=EXISTING_FILE)
@click.option(
    "-o",
    "--output",
    "package",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The package to write, by custom named *.dlc.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    help="native, x86-64-v3, x86-64-v4, cuda, cuda:sm_90, ...; repeatable for one package for several. "
    "Default: native.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report (phases, kernels, fusions with reasons) as JSON to this file.",
)
@click.option("--no-self-test", is_flag=True, help="Leave out the test that `dlc verify PACKAGE` repeats.")
@dim_option
@compile_options
@json_option
def command(
    model: Path,
    package: Path,
    targets: tuple[str, ...],
    report_file: Path | None,
    no_self_test: bool,
    dims: Mapping[str, ShapeSpec],
    options: Mapping[str, Any],
    output: Output,
) -> None:
    """Compile MODEL (an ONNX file) and save the package."""
    target = targets if len(targets) > 1 else (targets or ("native",))[0]
    started = time.perf_counter()
    compiled = dlc.compile(model, target=target, shapes=dims, progress=output.progress, **options)
    seconds = time.perf_counter() - started
    compiled.save(package, self_test=not no_self_test)
    report = compiled.report()
    if report_file is not None:
        report_file.write_text(report.to_json() + "\n")
    size = package.stat().st_size
    data = {
        "package": str(package),
        "bytes": size,
        "seconds": seconds,
        "report": json.loads(report.to_json()),
    }
    text = f"{printable(str(package))}: {size / 2**20:.1f} MiB, compiled in {seconds:.2f} s"
    output.result(data, text, str(report))
