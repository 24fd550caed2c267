"""`dlc fuzz`: random graphs compared with other engines, and damaged files that must end in typed errors."""

from __future__ import annotations

from pathlib import Path

import click

from dlc.cli.exit_codes import ExitCode
from dlc.cli.output import Output
from dlc.cli.parameters import json_option


@click.command("fuzz")
@click.option("--graphs", type=click.IntRange(min=0), default=0, help="Number of random graphs.")
@click.option("--bytes", "files", type=click.IntRange(min=0), default=0, help="Number of damaged files.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the campaign.")
@click.option("--start", type=click.IntRange(min=0), default=0, help="Number of the first case.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="A folder for findings: the model, its inputs, and how to see the fault again.",
)
@click.option(
    "--reduce/--no-reduce",
    default=True,
    show_default=True,
    help="With --out, put a smaller model with the same fault beside each graph that is a finding.",
)
@click.option(
    "--debug-codegen",
    is_flag=True,
    help="Check every access to memory of the generated code, with red zones around buffers. Slow.",
)
@json_option
def command(
    graphs: int,
    files: int,
    seed: int,
    start: int,
    out: Path | None,
    reduce: bool,
    debug_codegen: bool,
    output: Output,
) -> int:
    """Look for faults of dlc. The same seed gives the same cases; each runs in a child process.

    Random graphs are compiled, run and compared with onnxruntime and the ONNX reference. Damaged files must
    compile or be refused with a typed error. Exit status 1 says that something was found.
    """
    from dlc.fuzz import fuzz_bytes, fuzz_graphs

    if not graphs and not files:
        raise click.UsageError("give --graphs N or --bytes N")
    campaigns = [
        fuzz(
            count,
            seed,
            start=start,
            out=out,
            reduce=reduce,
            debug_codegen=debug_codegen,
            progress=output.progress,
        )
        for fuzz, count in ((fuzz_graphs, graphs), (fuzz_bytes, files))
        if count
    ]
    found = not all(campaigns)
    data = {"found": found, "campaigns": [campaign.to_dict() for campaign in campaigns]}
    output.result(data, *(str(campaign) for campaign in campaigns))
    return ExitCode.DIFFERS if found else ExitCode.OK
