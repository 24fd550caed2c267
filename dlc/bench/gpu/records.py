"""Records of finished cases: files of JSON lines in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dlc.errors import InputError, printable
from dlc.verify.result import json_numbers

Record = dict[str, Any]


def load_records(folder: Path) -> dict[str, Record]:
    """All records of the *.jsonl files in `folder` by key, the last of each; InputError if one is damaged."""
    found: dict[str, Record] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                record = json.loads(line)
                found[record["key"]] = record
            except (ValueError, KeyError, TypeError):
                message = f"{printable(str(path))}, line {number}, is no record of a benchmark"
                raise InputError(message, hint="remove the line", code="input/file") from None
    return found


def append_record(path: Path, record: Record) -> None:
    """Add a record at the end of a file."""
    with path.open("a") as file:
        file.write(json.dumps(json_numbers(record)) + "\n")
