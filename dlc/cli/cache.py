"""`dlc cache`: where the compile cache is, how full, and how to empty it."""

from __future__ import annotations

from dataclasses import asdict

import click

from dlc.cli.output import Output
from dlc.cli.parameters import json_option
from dlc.errors import printable


@click.group("cache")
def command() -> None:
    """Look at the compile cache, or empty it."""


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
