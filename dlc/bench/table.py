"""Results as a table for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from dlc.bench.regression import Regression
from dlc.bench.results import BenchReport, CaseResult, EngineResult
from dlc.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

    from dlc.api.roof import Roof

_COLUMNS = ("model", "shapes", "threads", "engine", "ms", "dlc is", "quartiles", "load s", "peak MiB", "")


def result_table(report: BenchReport) -> Table:
    """One row an engine: its time, and how many times faster the first engine is (below 1: slower)."""
    table = _table(_COLUMNS)
    for case in report.cases:
        for index, engine in enumerate(case.engines):
            case_cells = _case_cells(case) if index == 0 else ["", "", ""]
            cells = [*case_cells, engine.engine, *_engine_cells(case, engine)]
            _add_row(table, cells, last=index == len(case.engines) - 1)
    return table


def regression_table(found: Sequence[Regression], below: float) -> Table:
    """One row a case that both reports have: the old and the new figure, and whether it is a regression."""
    table = _table(("model", "shapes", "threads", "by", "old", "new", "new / old", ""))
    for item in found:
        figures = ["-" if value is None else f"{value:.3g}" for value in (item.old, item.new, item.score)]
        verdict = f"below {below:g}" if item.fails(below) else ""
        _add_row(table, [*_case_cells(item.case), item.by, *figures, verdict])
    return table


def roof_table(roofs: Sequence[Roof]) -> Table:
    """One row a thread count: what the machine can do."""
    table = _table(("threads", "float32 Gflop/s", "DRAM read GB/s", "copy GB/s", "L2 read GB/s", "copy GB/s"))
    for roof in roofs:
        figures = (roof.flops, roof.dram.read, roof.dram.copy, roof.l2.read, roof.l2.copy)
        _add_row(table, [str(roof.threads), *(f"{figure / 1e9:.4g}" for figure in figures)])
    return table


def geometric_mean(report: BenchReport, other: str) -> float | None:
    """The geometric mean of the ratios to `other` over the cases where both ran; None if there are none."""
    ratios = [ratio.median for case in report.cases if (ratio := case.ratio(other)) is not None]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def _case_cells(case: CaseResult) -> list[str]:
    shapes = [f"{name}[{', '.join(map(str, shape))}]" for name, shape in case.shapes.items()]
    shown = shapes if len(shapes) <= 2 else [*shapes[:1], f"{len(shapes) - 1} more"]
    return [printable(case.model, 40), printable(" ".join(shown), 48), str(case.threads)]


def _engine_cells(case: CaseResult, engine: EngineResult) -> list[str]:
    if engine.seconds is None:
        return ["failed", "", "", "", "", printable(engine.error or "", 300)]
    ratio = case.ratio(engine.engine)
    return [
        f"{engine.seconds * 1e3:.4g}",
        "" if ratio is None else f"{ratio.median:.2f}x",
        "" if ratio is None else f"{ratio.low:.2f}-{ratio.high:.2f}",
        f"{engine.load_seconds:.2f}",
        f"{engine.peak_bytes / 2**20:.0f}",
        "outputs differ" if engine.agrees is False else "",
    ]


def _table(columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        is_text = name in {"model", "shapes", "engine", "by", ""}
        is_remark = name == ""
        overflow: Literal["fold", "ellipsis"] = "fold" if is_remark else "ellipsis"
        justify: Literal["left", "right"] = "left" if is_text else "right"
        table.add_column(name, justify=justify, no_wrap=not is_remark, overflow=overflow)
    return table


def _add_row(table: Table, cells: Sequence[str], last: bool = False) -> None:
    """Add plain text: markup in a model's name stays text."""
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells), end_section=last)
