"""What was measured: the best choice for a piece of work on a machine, in a small SQLite database.

A record says which of several ways to run a kernel took least time. Records only ever choose between ways
that the compiler would take anyway, so a wrong one costs time and never an answer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dlc.errors import InputError, ResourceError, printable
from dlc.runtime.codec import Json

logger = logging.getLogger("dlc")

FILE = "measured.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS measured (
    work TEXT NOT NULL, device TEXT NOT NULL, versions TEXT NOT NULL,
    choice TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (work, device, versions)
)
"""
_PUT = "INSERT OR REPLACE INTO measured VALUES (?, ?, ?, ?, ?)"
#: Of two records of one piece of work the faster one stays.
_MERGE = """
INSERT INTO measured VALUES (?, ?, ?, ?, ?) ON CONFLICT (work, device, versions)
DO UPDATE SET choice = excluded.choice, seconds = excluded.seconds WHERE excluded.seconds < measured.seconds
"""
#: Seconds to wait for another process that writes.
_PATIENCE = 10.0


@dataclass(frozen=True)
class Record:
    """The best `choice` for `work` on `device` with `versions` of the compilers, and what it took."""

    work: str
    device: str
    versions: str
    choice: Json
    seconds: float


class Records:
    """The records in the file `path`, which the first one makes. Several processes may share it.

    A file that is no such database counts as empty when it is read, and is an InputError to import.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, work: str, device: str, versions: str) -> Record | None:
        """The record of a piece of work, if there is one."""
        if not self.path.exists():
            return None
        query = "SELECT choice, seconds FROM measured WHERE work = ? AND device = ? AND versions = ?"
        try:
            with self._open() as database:
                row = database.execute(query, (work, device, versions)).fetchone()
            return None if row is None else Record(work, device, versions, json.loads(row[0]), float(row[1]))
        except (sqlite3.Error, ValueError, TypeError) as error:
            logger.warning("measured times cannot be read: %s", printable(str(error)))
            return None

    def put(self, record: Record) -> None:
        """Keep a record in the place of an older one; ResourceError if that cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as database:
                database.execute(_SCHEMA)
                database.execute(_PUT, _row(record))
        except (sqlite3.Error, OSError) as error:
            raise ResourceError(f"a measured time cannot be kept: {error}") from error

    def all(self) -> list[Record]:
        """Every record, by work, device and versions; InputError if the file is no database of records."""
        if not self.path.exists():
            return []
        try:
            with self._open() as database:
                rows = database.execute("SELECT * FROM measured ORDER BY work, device, versions").fetchall()
            return [Record(w, d, v, json.loads(choice), float(seconds)) for w, d, v, choice, seconds in rows]
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise InputError(
                f"{printable(str(self.path))} is no database of measured times: {printable(str(error))}",
                code="input/file",
            ) from error

    def merge(self, other: str | os.PathLike[str]) -> int:
        """Take over the records of another file where they are faster or new; how many it has."""
        if not Path(other).is_file():
            raise InputError(f"there is no file {printable(str(other))}", code="input/file")
        found = Records(Path(other)).all()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.execute(_SCHEMA)
            database.executemany(_MERGE, map(_row, found))
        return len(found)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction."""
        connection = sqlite3.connect(self.path, timeout=_PATIENCE)
        try:
            with connection:
                yield connection
        finally:
            connection.close()


def default_records() -> Records | None:
    """The records in the folder of the compile cache; None where that is switched off."""
    from dlc.runtime.cache import default_cache

    folder = default_cache().directory
    return None if folder is None else Records(folder / FILE)


def _row(record: Record) -> tuple[str, str, str, str, float]:
    choice = json.dumps(record.choice, sort_keys=True)
    return record.work, record.device, record.versions, choice, record.seconds
