"""`dlc verify`: does the compiled model compute what another engine does?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dlc.cli.exit_codes import ExitCode
from dlc.cli.models import is_package, open_model, require_device
from dlc.cli.output import Output
from dlc.cli.parameters import (
    EXISTING_FILE,
    compile_options,
    dim_option,
    json_option,
    target_option,
    threads_option,
)
from dlc.options import ShapeSpec


@click.command("verify")
@click.argument("model", type=EXISTING_FILE)
@click.option(
    "--package",
    type=EXISTING_FILE,
    help="Judge this package, compiled from MODEL before, instead of compiling MODEL now.",
)
@click.option(
    "--against",
    default="onnxruntime",
    show_default=True,
    help="onnxruntime (where it cannot run the model: reference), reference, or an .npz file of outputs.",
)
@click.option("--inputs", type=EXISTING_FILE, multiple=True, help="An .npz file of inputs. Repeatable.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of random inputs.")
@click.option("--rtol", type=click.FloatRange(min=0), help="Replaces the table of tolerances, with --atol:")
@click.option("--atol", type=click.FloatRange(min=0), help="|a - b| <= atol + rtol * |b|.")
@click.option("--no-float64", is_flag=True, help="Leave out the distance of both engines to float64.")
@click.option(
    "--bisect",
    is_flag=True,
    help="Compare each two neighbouring steps of the compilation, and name the first pass, kernel or launch "
    "at which they go apart.",
)
@target_option
@dim_option
@threads_option
@compile_options
@json_option
def command(
    model: Path,
    package: Path | None,
    against: str,
    inputs: tuple[Path, ...],
    seed: int,
    rtol: float | None,
    atol: float | None,
    no_float64: bool,
    bisect: bool,
    target: str,
    dims: Mapping[str, ShapeSpec],
    threads: int | None,
    options: Mapping[str, Any],
    output: Output,
) -> int:
    """Compile MODEL (an ONNX file), run it next to another engine and compare the outputs.

    A package repeats its own self-test, which takes neither the model nor another engine; or it is compared
    with stored outputs, given --inputs and --against as .npz files.
    """
    from dlc.verify.verification import runner, verify

    options = {"target": target, **options}
    if is_package(model) and (package is not None or bisect):
        raise click.UsageError("--package and --bisect need the ONNX model")
    if not is_package(model):
        require_device(target)
    compiled = None if is_package(model) else runner(open_model(package or model, dims, threads, options))
    results = [
        verify(
            model,
            model=compiled,
            against=against,
            inputs=source,
            seed=seed,
            shapes=dims,
            rtol=rtol,
            atol=atol,
            float64=not no_float64,
            threads=threads,
            bisect=bisect,
            progress=output.progress,
            **options,
        )
        for source in (inputs or (None,))
    ]
    agrees = all(results)
    data = {"agrees": agrees, "verifications": [result.to_dict() for result in results]}
    output.result(data, *(str(result) for result in results))
    return ExitCode.OK if agrees else ExitCode.DIFFERS
