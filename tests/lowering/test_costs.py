"""The work of kernels: terms of contractions, those of recurrences too, and bytes that are moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc.ir.dims import evaluate
from dlc.ir.dtypes import DType
from dlc.lowering.costs import kernel_work
from dlc.lowering.parse import parse

FOLDER = Path(__file__).parent / "golden"

#: Kernel, sizes; then operations, bytes read, bytes written.
WORK = [
    (
        "lstm",
        {"time": 5, "batch": 3},
        2 * 5 * 3 * 128 * (16 + 32),
        4 * (5 * 3 * 16 + 128 * 16 + 128 * 32 + 128 + 2 * 3 * 32),
        4 * (5 * 3 * 32 + 2 * 3 * 32),
    ),
    (
        "grouped_query_attention",
        {"batch": 2, "new": 3, "past": 7, "queries": 5},
        2 * 2 * 8 * 5 * 10 * (16 + 12),
        4 * 2 * (8 * 5 * 16 + 2 * 10 * (16 + 12)) + 2 * 5 * 10,
        4 * 2 * 8 * 5 * 12,
    ),
    # Of the cache, what is appended, and not the whole.
    ("cache_append", {"batch": 2, "new": 3, "past": 7}, 0, 2 * 2 * 4 * 3 * 64, 2 * 2 * 4 * 3 * 64),
]


@pytest.mark.parametrize(("name", "sizes", "flops", "reads", "writes"), WORK, ids=[row[0] for row in WORK])
def test_the_work_of_kernels(name: str, sizes: dict[str, int], flops: int, reads: int, writes: int) -> None:
    work = kernel_work(parse((FOLDER / f"{name}.txt").read_text()))
    assert [evaluate(dim, sizes) for dim in (work.flops, work.reads, work.writes)] == [flops, reads, writes]
    assert work.dtype is (DType.F32 if flops else None)
