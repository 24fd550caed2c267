"""`dlc bench`: dlc's time next to other engines', and next to its own of another day."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dlc.cli.exit_codes import ExitCode
from dlc.cli.models import require_device
from dlc.cli.output import Output
from dlc.cli.parameters import EXISTING_FILE, compile_options, dim_option, parse_integers, target_option
from dlc.errors import InputError
from dlc.options import ShapeSpec

if TYPE_CHECKING:
    from dlc.bench import BenchReport


@click.command("bench")
@click.argument("models", type=EXISTING_FILE, nargs=-1)
@click.option(
    "--against",
    default="onnxruntime",
    show_default=True,
    help="Other engines, separated by commas: onnxruntime, openvino, torch (needs MODEL.pt2); or none.",
)
@click.option("--threads", callback=parse_integers, default="1", show_default=True, help="Thread counts.")
@click.option("--batch", "batches", callback=parse_integers, help="Extents of the batch dim to measure.")
@click.option("--seconds", type=click.FloatRange(min=0.001), default=3.0, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True)
@click.option("--inputs", type=EXISTING_FILE, help="An .npz file of inputs; random ones otherwise.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of random inputs.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1.0),
    default=600.0,
    show_default=True,
    help="Seconds that an engine may take for one step.",
)
@click.option(
    "--json",
    "json_target",
    is_flag=False,
    flag_value="-",
    metavar="[FILE.json]",
    help="Write the report as JSON to a file; without one, or with -, to standard output.",
)
@click.option("--compare", "old", type=EXISTING_FILE, help="An older report (from --json) to compare with.")
@click.option(
    "--fail-below",
    type=click.FloatRange(min=0.0),
    default=0.95,
    show_default=True,
    help="With --compare: exit with 1 if a case has less than this share of its former speed.",
)
@click.option(
    "--roof", is_flag=True, help="Instead of models, measure what this machine can do at each thread count."
)
@target_option
@dim_option
@compile_options
def command(
    models: tuple[Path, ...],
    against: str,
    threads: tuple[int, ...],
    batches: tuple[int, ...] | None,
    seconds: float,
    rounds: int,
    inputs: Path | None,
    seed: int,
    timeout: float,
    json_target: str | None,
    old: Path | None,
    fail_below: float,
    roof: bool,
    target: str,
    dims: Mapping[str, ShapeSpec],
    options: Mapping[str, Any],
) -> int:
    """Measure each of MODELS (ONNX files or packages), each engine in its own process.

    A single report written by --json instead of models is shown, and compared, without measuring anything.
    """
    from dlc.bench import BenchPlan, BenchReport, compare_reports, measure
    from dlc.bench.table import regression_table

    if json_target is not None and json_target != "-" and not json_target.endswith(".json"):
        raise click.UsageError(f"--json writes to a file named *.json, not '{json_target}'")
    output = Output(as_json=json_target == "-")
    if roof == bool(models):
        raise click.UsageError("give models to measure, or --roof")
    if roof:
        _roof(threads, output, json_target)
        return ExitCode.OK
    before = None if old is None else BenchReport.load(old)
    if len(models) == 1 and models[0].suffix == ".json":
        report = BenchReport.load(models[0])
    else:
        require_device(target)
        engines = ("dlc", *(name for name in against.split(",") if name and name != "none"))
        plan = BenchPlan(
            models=models,
            engines=engines,
            threads=threads,
            batches=batches or (None,),
            bindings=dims,
            seconds=seconds,
            rounds=rounds,
            seed=seed,
            inputs=inputs,
            options=_plain({"target": target, **options}),
            timeout=timeout,
        )
        report = measure(plan, output.progress)
    if json_target not in (None, "-"):
        _write(Path(str(json_target)), report.to_json())
    found = [] if before is None else compare_reports(before, report)
    if before is not None and not found:
        raise InputError("the two reports have no case in common", code="input/file")
    regressed = [item for item in found if item.fails(fail_below)]
    failed = [case for case in report.cases if case.engines[0].error is not None]
    data = report.to_dict() | {"regressions": [list(item.case.key) for item in regressed]}
    tables = [regression_table(found, fail_below)] if found else []
    output.result(data, *_shown(report), *tables)
    return ExitCode.DIFFERS if regressed or failed or _differs(report) else ExitCode.OK


def _shown(report: BenchReport) -> list[Any]:
    """The table, and the geometric mean where there are several cases."""
    from dlc.bench.table import geometric_mean, result_table

    shown: list[Any] = [result_table(report)]
    others = dict.fromkeys(engine.engine for case in report.cases for engine in case.engines[1:])
    for other in others if len(report.cases) > 1 else ():
        mean = geometric_mean(report, other)
        if mean is not None:
            shown.append(f"geometric mean against {other}: {mean:.3f}x")
    return shown


def _differs(report: BenchReport) -> bool:
    """Whether an engine's outputs differ from dlc's: a fast wrong answer is no result."""
    return any(engine.agrees is False for case in report.cases for engine in case.engines)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as JSON-compatible data for the worker, as far as they differ from the defaults."""
    from dlc.options import Options

    given, defaults = Options(**options).to_dict(), Options().to_dict()
    return {name: value for name, value in given.items() if value != defaults[name] and name != "cache"}


def _roof(threads: Sequence[int], output: Output, json_target: str | None) -> None:
    """Measure the machine, and show or write what it can do."""
    from dlc.api.roof import roof
    from dlc.bench.table import roof_table

    found = [roof(count) for count in threads]
    data = {"roofs": [asdict(item) for item in found]}
    if json_target not in (None, "-"):
        _write(Path(str(json_target)), json.dumps(data, indent=1))
    output.result(data, roof_table(found))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror}", code="input/file") from None
