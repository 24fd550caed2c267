"""`dlc reduce`: a failing model made small."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dlc.cli.output import Output
from dlc.cli.parameters import EXISTING_FILE, compile_options, dim_option, json_option, threads_option
from dlc.errors import printable
from dlc.options import ShapeSpec


@click.command("reduce")
@click.argument("model", type=EXISTING_FILE)
@click.option(
    "-o", "target", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The small model."
)
@click.option("--inputs", type=EXISTING_FILE, help="An .npz file of the inputs that show the fault.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of random inputs.")
@click.option(
    "--against",
    type=click.Choice(["onnxruntime", "reference"]),
    help="The engine that says what is right. Default: both must contradict dlc.",
)
@click.option(
    "--seconds", type=click.FloatRange(min=1), default=600, show_default=True, help="Time for the search."
)
@dim_option
@threads_option
@compile_options
@json_option
def command(
    model: Path,
    target: Path,
    inputs: Path | None,
    seed: int,
    against: str | None,
    seconds: float,
    dims: Mapping[str, ShapeSpec],
    threads: int | None,
    options: Mapping[str, Any],
    output: Output,
) -> int:
    """Shrink MODEL (an ONNX file) while its fault persists: a wrong answer, an error, a crash, a delay.

    Writes the small model, and its inputs beside it as .npz.
    """
    from dlc.verify.judges import JUDGES
    from dlc.verify.reduce import reduce

    reduction = reduce(
        model,
        inputs=inputs,
        against=tuple(JUDGES) if against is None else against,
        seed=seed,
        shapes=dims,
        seconds=seconds,
        progress=output.progress,
        threads=threads,
        **options,
    )
    arrays = reduction.save(target)
    data = {**reduction.to_dict(), "model": str(target), "inputs": None if arrays is None else str(arrays)}
    written = str(target) if arrays is None else f"{target} and {arrays}"
    output.result(data, str(reduction), f"written: {printable(written)}")
    return 0
