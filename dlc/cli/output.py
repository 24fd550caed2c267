"""Where a command's words go: results to standard output, as text or JSON; progress to standard error."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

#: Width of tables where standard output is no terminal.
_PLAIN_WIDTH = 160


@dataclass(frozen=True)
class Output:
    """The output of one command; `as_json` when `--json` was given."""

    as_json: bool

    def result(self, data: dict[str, Any], *parts: str | Table) -> None:
        """Print `data` under `--json`, else the text and tables in `parts`.

        Strings that came from a model or a file must have gone through `dlc.errors.printable` in `parts`;
        JSON escapes what is in `data`.
        """
        if self.as_json:
            from dlc.verify.result import json_numbers

            click.echo(json.dumps(json_numbers(data), indent=2))
            return
        for part in parts:
            if isinstance(part, str):
                click.echo(part)
            else:
                _print_table(part)

    def progress(self, message: str) -> None:
        """A line for whoever waits."""
        click.echo(message, err=True)


def _print_table(table: Table) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PLAIN_WIDTH
    Console(file=sys.stdout, width=width, highlight=False, markup=False).print(table)
