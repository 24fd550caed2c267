"""The records as a short table of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlc.errors import printable

Record = dict[str, Any]

_HEAD = ("case", "dlc ms", "eager/dlc", "compiled/dlc", "quartiles", "roof", "launches", "remark")


def table(records: Sequence[Record]) -> str:
    """One line a record: dlc's time, and how many times longer eager and compiled torch take.

    The roof of a kernel that moves data is the bandwidth of a copy, of which its share is shown; products
    show their TFLOP/s.
    """
    rows = [_HEAD, *map(_row, records)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def _row(record: Record) -> tuple[str, ...]:
    engines = record["engines"]
    ours = engines.get("dlc")
    compiled = engines.get("compiled", {}).get("dlc_is_faster")
    return (
        record["key"],
        "-" if ours is None else f"{ours['median'] * 1e3:.4g}",
        _ratio(engines.get("eager", {}).get("dlc_is_faster")),
        _ratio(compiled),
        "" if compiled is None else f"{compiled[0]:.2f}-{compiled[2]:.2f}",
        _roof(record),
        str(record.get("dlc", {}).get("launches", "-")),
        _remark(record),
    )


def _ratio(ratio: Sequence[float] | None) -> str:
    return "-" if ratio is None else f"{ratio[1]:.2f}"


def _roof(record: Record) -> str:
    ours, roof = record["engines"].get("dlc"), record.get("roof")
    if ours is None or roof is None:
        return ""
    if "operations" in roof:
        return f"{roof['operations'] / ours['median'] * 1e-12:.3g} TFLOP/s"
    rate = roof["bytes"] / ours["median"]
    return f"{rate / roof['copy_bytes_per_second']:.0%} of {roof['copy_bytes_per_second'] * 1e-12:.3g} TB/s"


def _remark(record: Record) -> str:
    """What is wrong, the gravest first."""
    if record["error"] is not None:
        return printable(record["error"].splitlines()[0], 100)
    wrong = [output["name"] for output in record.get("outputs", ()) if output["verdict"] == "differs"]
    if wrong:
        return f"differs: {', '.join(wrong)}"
    hosts = record.get("dlc", {}).get("hosts", ())
    if hosts:
        return f"{len(hosts)} kernels on the host"
    return "torch.compile failed" if "torch_compile_error" in record else ""
