"""Records of measured times: one a piece of work, shared and merged."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dlc.errors import InputError
from dlc.runtime.records import Record, Records

FAST = Record("kernel", "GPU", "1", {"rows": 64}, 1e-5)
SLOW = dataclasses.replace(FAST, choice={"rows": 16}, seconds=2e-5)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "folder" / "measured.sqlite")


def test_nothing_is_found_where_there_is_no_file(records: Records) -> None:
    assert records.find("kernel", "GPU", "1") is None
    assert records.all() == []


def test_the_last_record_of_a_piece_of_work_is_found(records: Records) -> None:
    records.put(FAST)
    records.put(SLOW)
    assert records.find("kernel", "GPU", "1") == SLOW
    assert records.all() == [SLOW]


@pytest.mark.parametrize("asked", [("other", "GPU", "1"), ("kernel", "other", "1"), ("kernel", "GPU", "2")])
def test_records_are_of_one_work_device_and_version(records: Records, asked: tuple[str, str, str]) -> None:
    records.put(FAST)
    assert records.find(*asked) is None


def test_names_are_data(records: Records) -> None:
    hostile = dataclasses.replace(FAST, work="x'); DROP TABLE measured; --")
    records.put(hostile)
    assert records.find(hostile.work, "GPU", "1") == hostile


def test_merging_keeps_the_faster_record(records: Records, tmp_path: Path) -> None:
    other = Records(tmp_path / "other.sqlite")
    new = dataclasses.replace(SLOW, work="another kernel")
    other.put(SLOW)
    other.put(new)
    records.put(FAST)
    assert records.merge(other.path) == 2
    assert records.find("kernel", "GPU", "1") == FAST
    assert records.find("another kernel", "GPU", "1") == new
    assert other.merge(records.path) == 2
    assert other.find("kernel", "GPU", "1") == FAST


def test_a_damaged_file_counts_as_empty_and_is_not_imported(
    records: Records, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"no database" * 100)
    assert Records(damaged).find("kernel", "GPU", "1") is None
    assert "cannot be read" in caplog.text
    with pytest.raises(InputError, match="no database of measured times"):
        records.merge(damaged)


def test_what_does_not_exist_is_not_imported(records: Records, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        records.merge(tmp_path / "missing.sqlite")
