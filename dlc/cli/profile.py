"""`dlc profile`: which kernels, and so which nodes, the time of a call goes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dlc.cli.exit_codes import ExitCode
from dlc.cli.models import model_inputs, open_model
from dlc.cli.output import Output
from dlc.cli.parameters import (
    EXISTING_FILE,
    compile_options,
    dim_option,
    json_option,
    target_option,
    threads_option,
)
from dlc.errors import printable
from dlc.options import ShapeSpec

if TYPE_CHECKING:
    from rich.table import Table

    from dlc.api.profile import KernelProfile, Profile

_COLUMNS = ("us", "share", "calls", "template", "Mflop", "KiB", "of the roof", "kernel", "nodes")
_TEXTS = {"template", "of the roof", "kernel", "nodes"}


@click.command("profile")
@click.argument("model", type=EXISTING_FILE)
@click.option("--inputs", type=EXISTING_FILE, help="An .npz file with the inputs by name.")
@click.option(
    "--random", "seed", type=click.IntRange(min=0), default=0, help="Seed of random inputs, without --inputs."
)
@click.option("--runs", type=click.IntRange(1, 1_000_000), default=50, show_default=True)
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one run to this file, for chrome://tracing or Perfetto.",
)
@click.option("--no-roof", is_flag=True, help="Do not measure what this machine can do.")
@target_option
@dim_option
@threads_option
@compile_options
@json_option
def command(
    model: Path,
    inputs: Path | None,
    seed: int,
    runs: int,
    trace: Path | None,
    no_roof: bool,
    target: str,
    dims: Mapping[str, ShapeSpec],
    threads: int | None,
    options: Mapping[str, Any],
    output: Output,
) -> int:
    """Run MODEL (an ONNX file or a package) and list its kernels by the time that they take.

    Times are medians over the runs. The share of the roof compares a kernel with what this machine can do in
    multiply-adds, or in bytes of memory, whichever it is closer to.
    """
    compiled = open_model(model, dims, threads, {"target": target, **options})
    values = model_inputs(model, compiled, dims, inputs, seed)
    profile = compiled.profile(values, runs, roof=not no_roof)
    if trace is not None:
        profile.save_trace(trace)
    output.result(profile.to_dict(), profile.headline(), profile_table(profile), *_remarks(profile))
    return ExitCode.OK


def profile_table(profile: Profile) -> Table:
    """A row each kernel that ran, host step, what is between, and all together."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in _TEXTS else "right", overflow="fold")
    rows = [(kernel.seconds, _kernel_row(kernel)) for kernel in profile.kernels if kernel.calls]
    for host in profile.hosts:
        if host.calls:
            cells = [_time(host.seconds), f"{host.share:.1%}", str(host.calls), "host", "", "", "", ""]
            rows.append((host.seconds, [*cells, printable(host.node)]))
    for _, cells in sorted(rows, key=lambda row: -row[0]):
        table.add_row(*map(Text, cells))
    between = [_time(profile.overhead), f"{profile.overhead_share:.1%}", "", "between", "", "", "", "", ""]
    table.add_row(*map(Text, between), end_section=True)
    table.add_row(*map(Text, _total_row(profile)))
    return table


def _kernel_row(kernel: KernelProfile) -> list[str]:
    return [
        _time(kernel.seconds),
        f"{kernel.share:.1%}",
        str(kernel.calls),
        kernel.template,
        "" if not kernel.flops else f"{kernel.flops / 1e6:.4g}",
        "" if kernel.bytes is None else f"{kernel.bytes / 1024:.4g}",
        "" if kernel.roof is None else f"{kernel.roof:.0%} {kernel.bound}",
        kernel.function,
        printable(", ".join(kernel.nodes), 200),
    ]


def _total_row(profile: Profile) -> list[str]:
    calls = sum(kernel.calls for kernel in profile.kernels) + sum(host.calls for host in profile.hosts)
    seconds = sum(kernel.seconds for kernel in profile.kernels) + sum(host.seconds for host in profile.hosts)
    flops, moved = f"{profile.flops / 1e6:.4g}", f"{profile.bytes / 1024:.4g}"
    return [_time(seconds + profile.overhead), "100.0%", str(calls), "all", flops, moved, "", "", ""]


def _remarks(profile: Profile) -> Iterator[str]:
    """What the roof is, and what is missing from the table."""
    if profile.roof is not None:
        roof = profile.roof
        yield (
            f"roof of {roof.threads} thread{'s' * (roof.threads > 1)}: "
            f"{roof.flops / 1e9:.4g} float32 Gflop/s, "
            f"DRAM {roof.dram.read / 1e9:.4g} GB/s, L2 {roof.l2.read / 1e9:.4g} GB/s"
        )
    if profile.lost:
        yield f"{profile.lost} launches of a call were too many to record; they count as between"


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"
