"""`dlc cache`: where the compile cache is, how full, and how to empty it; and what tuning has measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlc.cli.output import Output
from dlc.cli.parameters import EXISTING_FILE, json_option
from dlc.errors import InputError, printable

if TYPE_CHECKING:
    from dlc.runtime.records import Records


@click.group("cache")
def command() -> None:
    """Look at the compile cache, or empty it; pass on what tuning has measured."""


@command.command("info")
@json_option
def info(output: Output) -> None:
    """Show where the cache is and how full."""
    from dlc.runtime.cache import default_cache

    found = default_cache().info()
    where = "switched off" if found.directory is None else printable(found.directory)
    size = f"{found.bytes / 2**20:.1f} of {found.limit_bytes / 2**20:.0f} MiB"
    output.result(asdict(found), where, f"{found.entries} entries, {size}")


@command.command("clear")
@json_option
def clear(output: Output) -> None:
    """Remove all entries."""
    from dlc.runtime.cache import default_cache

    removed = default_cache().clear()
    output.result({"removed": removed}, f"removed {removed} entries")


@command.command("measured")
@click.option(
    "--export",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Copy the records to this file, to be merged elsewhere.",
)
@json_option
def measured(target: Path | None, output: Output) -> None:
    """Show what --tune has measured."""
    from dlc.runtime.records import Records

    records = _records()
    found = records.all()
    lines = [f"{r.seconds * 1e6:.1f} us  way {r.choice}  {printable(r.work, 120)}" for r in found]
    if target is not None and found:
        Records(target).merge(records.path)
    count = f"{len(found)} record{'s' * (len(found) != 1)}"
    output.result({"records": [asdict(record) for record in found]}, *lines, count)


@command.command("merge")
@click.argument("file", type=EXISTING_FILE)
@json_option
def merge(file: Path, output: Output) -> None:
    """Take over the records of FILE that are faster than one's own, or new."""
    count = _records().merge(file)
    output.result({"records": count}, f"took over {count} of {printable(str(file))}, where they are faster")


def _records() -> Records:
    from dlc.runtime.records import default_records

    records = default_records()
    if records is None:
        raise InputError("the cache is switched off, and with it records", code="input/option")
    return records
