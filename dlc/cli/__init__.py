"""The command line: `dlc COMMAND`. One file a command; everything heavy is imported when a command runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the `dlc` script and of `python -m dlc`."""
    from dlc.cli.app import run

    sys.exit(run(sys.argv[1:]))
