"""The report of a compilation as one HTML page that loads nothing and runs nothing."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dlc.errors import printable

if TYPE_CHECKING:
    from dlc.api.report import Report

_STYLE = (
    "body{font:14px sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse;margin:.5em 0 2em}"
    "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left;vertical-align:top}"
    "td.n{text-align:right}td{overflow-wrap:anywhere}caption{text-align:left;font-weight:bold;padding:.3em 0}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
#: Names are data: they are shown, never more than this of one.
_LONGEST = 400


def report_html(report: Report) -> str:
    """The page: what was compiled, phases and passes, kernels, fusions with reasons, host steps, rewrites."""
    templates = Counter(kernel.template for kernel in report.kernels)
    seconds = [*report.phases, *((f"pass {name}", time) for name, time in report.passes)]
    title = f"dlc: {printable(report.model, _LONGEST)}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        _table("Summary", ("", ""), _summary(report)),
        _table("Host steps", ("node", "operator", "reason", "cost of a call"), _hosts(report)),
        _table("Time", ("phase", "seconds"), ((name, f"{time:.4f}") for name, time in seconds)),
        _table("Templates", ("template", "launches"), templates.most_common()),
        _table(
            "Launches, in order",
            ("", "function", "template", "nodes"),
            (
                (number, kernel.function, kernel.template, ", ".join(kernel.nodes))
                for number, kernel in enumerate(report.kernels)
            ),
        ),
        _table(
            "Fusions",
            ("producer", "consumer", "fused", "why"),
            ((f.producer, f.consumer, "yes" if f.fused else "no", f.reason) for f in report.fusions),
        ),
        _table("Rewrites", ("pass and rule", "times"), report.rewrites),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _summary(report: Report) -> list[tuple[str, object]]:
    return [
        ("target", report.target),
        ("nodes", report.nodes),
        ("launches", len(report.kernels)),
        ("kernels", len({kernel.function for kernel in report.kernels})),
        ("native", f"{report.native_share:.0%}"),
        ("weights, bytes", f"{report.constant_bytes:,}"),
        ("arena, bytes", report.arena_bytes),
        ("code, bytes", f"{report.code_bytes:,}"),
    ]


def _hosts(report: Report) -> list[tuple[str, ...]]:
    return [(host.node, host.operator, host.reason, host.cost) for host in report.hosts]


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table, or nothing where there are no rows."""
    body = [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows]
    if not body:
        return ""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    return "\n".join([f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>", *body, "</table>"])


def _cell(value: object) -> str:
    kind = ' class="n"' if isinstance(value, int) else ""
    return f"<td{kind}>{html.escape(printable(str(value), _LONGEST))}</td>"
