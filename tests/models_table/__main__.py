"""Verify the models of a folder, and write docs/models.md anew."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.models_table import table, verifying


def main() -> None:
    """Verify what is asked for, one model after the other, then write the file."""
    parser = argparse.ArgumentParser(prog="python -m tests.models_table", description=__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", help="holds a folder a model; without, only write the table"
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="verify these models")
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("*/model.onnx")) if arguments.folder else []
    for path in paths:
        if not arguments.only or path.parent.name in arguments.only:
            print(path.parent.name, file=sys.stderr)
            verifying.keep(verifying.verify_model(path.parent, lambda text: print(text, file=sys.stderr)))
    table.PATH.write_text(table.document(), encoding="utf-8")


if __name__ == "__main__":
    main()
