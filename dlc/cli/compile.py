"""`dlc compile`: an ONNX model to a package."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import dlc
from dlc.cli.output import Output
from dlc.cli.parameters import EXISTING_FILE, compile_options, dim_option, json_option
from dlc.cli.stages import is_gpu
from dlc.errors import InputError, printable
from dlc.options import Options, ShapeSpec

if TYPE_CHECKING:
    from dlc.passes.manager import Pipeline


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
    help="Write the report (phases, kernels, fusions with reasons) to this file: a page if it is named "
    "*.html, else JSON.",
)
@click.option("--no-self-test", is_flag=True, help="Leave out the test that `dlc verify PACKAGE` repeats.")
@click.option("--print-passes", is_flag=True, help="List the passes that are run, with their options.")
@click.option("--skip", metavar="PASS", multiple=True, help="Leave out this pass. Repeatable.")
@click.option(
    "--dump-ir",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the model as imported and after each pass, its program with kernels, the reasons for "
    "fusions and its LLVM IR (for a GPU: its functions in Triton) as text files into this folder.",
)
@click.option("--timings", is_flag=True, help="Show the time of each phase and of each pass.")
@dim_option
@compile_options
@json_option
def command(
    model: Path,
    package: Path,
    targets: tuple[str, ...],
    report_file: Path | None,
    no_self_test: bool,
    print_passes: bool,
    skip: tuple[str, ...],
    folder: Path | None,
    timings: bool,
    dims: Mapping[str, ShapeSpec],
    options: Mapping[str, Any],
    output: Output,
) -> None:
    """Compile MODEL (an ONNX file) and save the package."""
    from dlc.api.selftest import KEY

    target = targets if len(targets) > 1 else (targets or ("native",))[0]
    given = {"target": target, "shapes": dims, **options}
    pipeline = _pipeline(Options(**given), skip)
    started = time.perf_counter()
    if skip or folder is not None:
        compiled = _compile_hooked(model, given, skip, folder, output)
    else:
        compiled = dlc.compile(model, progress=output.progress, **given)
    seconds = time.perf_counter() - started
    compiled.save(package, self_test=not no_self_test)
    report = compiled.report()
    if report_file is not None:
        is_page = report_file.suffix.lower() in (".html", ".htm")
        _write(report_file, report.to_html() if is_page else report.to_json() + "\n")
    size = package.stat().st_size
    data = {
        "package": str(package),
        "bytes": size,
        "seconds": seconds,
        "report": json.loads(report.to_json()),
    }
    if print_passes:
        data["passes"] = [{"pass": str(step), "numerics": step.numerics.value} for step in pipeline.passes]
    lines = _pass_lines(pipeline) if print_passes else []
    lines.append(f"{printable(str(package))}: {size / 2**20:.1f} MiB, compiled in {seconds:.2f} s")
    lines.append(str(report))
    if is_gpu(targets[0] if targets else "") and not no_self_test and KEY not in compiled.manifest.extra:
        lines.append("without a self-test, which is recorded where the GPU is")
    output.result(data, *lines, *(_timing_lines(report) if timings else ()))


def _pipeline(options: Options, skip: tuple[str, ...]) -> Pipeline:
    """The passes that are run; InputError for one to skip that does not exist."""
    from dlc.passes.pipeline import default_pipeline, gpu_pipeline

    passes = gpu_pipeline if is_gpu(options.targets[0]) else default_pipeline
    return passes(options.optimize, options.limits, options.precision).without(*skip)


def _compile_hooked(
    model: Path, given: Mapping[str, Any], skip: tuple[str, ...], folder: Path | None, output: Output
) -> dlc.CompiledModel:
    """Compile without the cache, leaving passes out and writing texts."""
    from dlc.api.compile import Hooks, compile_hooked

    def dump(name: str, text: str) -> None:
        assert folder is not None
        _write(folder / name, text)

    hooks = Hooks(skip, None if folder is None else dump)
    return compile_hooked(model, Options(**given), output.progress, hooks)


def _pass_lines(pipeline: Pipeline) -> list[str]:
    """One pass a line."""
    if not pipeline.passes:
        return ["no passes"]
    width = max(len(str(step)) for step in pipeline.passes)
    return [f"{step!s:<{width}}  {step.numerics.value}" for step in pipeline.passes]


def _timing_lines(report: dlc.Report) -> list[str]:
    """Times of phases and passes, in milliseconds."""
    lines = [f"{1e3 * seconds:10.2f} ms  {name}" for name, seconds in report.phases]
    return [*lines, *(f"{1e3 * seconds:10.2f} ms  pass {name}" for name, seconds in report.passes)]


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror}", code="input/file") from None
