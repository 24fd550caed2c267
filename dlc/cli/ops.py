"""`dlc ops`: the ONNX operators that dlc imports, and which of them run natively for which element types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dlc.cli.output import Output
from dlc.cli.parameters import json_option
from dlc.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

    from dlc.verify.support import OperatorSupport


@click.command("ops")
@click.argument("operators", nargs=-1)
@click.option("--domain", help="Only the operators of this domain; '' is the standard one.")
@click.option("--names", is_flag=True, help="List names and opsets only, without trying anything.")
@json_option
def command(operators: tuple[str, ...], domain: str | None, names: bool, output: Output) -> None:
    """List the ONNX operators (or OPERATORS) that dlc imports, and how they run for each element type.

    Found by lowering graphs of one node, those of ONNX's backend tests and some of dlc's: N native, p partly
    native (some of the graphs), h on the host, - not compiled, blank not allowed by the standard. Most of
    onnxruntime's operators have no such graph and no entries.
    """
    from dlc.frontend.onnx.registry import operators as registered

    found = {
        key: since
        for key, since in registered().items()
        if (domain is None or key[0] == domain) and (not operators or key[1] in operators)
    }
    unknown = [name for name in operators if not any(name == known for _, known in found)]
    missing = [f"dlc does not import {printable(name)}" for name in unknown]
    if names:
        listed = [{"domain": where, "name": name, "since": since} for (where, name), since in found.items()]
        data = {"operators": listed, "unknown": unknown}
        output.result(data, _name_table(found), *missing, f"{len(found)} operators")
        return
    from dlc.verify.support import operator_support

    if found:
        output.progress(f"lowering {len(found)} operators")
    wanted = {name for _, name in found}
    entries = [e for e in operator_support(wanted) if (e.domain, e.name) in found] if found else []
    reasons = _reasons(entries) if operators else []
    data = {"operators": [entry.to_dict() for entry in entries], "unknown": unknown}
    output.result(data, _support_table(entries), *reasons, *missing, _counts(entries))


def _name_table(found: dict[tuple[str, str], list[int]]) -> Table:
    table = _table("operator", "domain", "since opset")
    for (where, name), since in found.items():
        table.add_row(name, where or "ai.onnx", ", ".join(map(str, since)))
    return table


def _support_table(entries: Sequence[OperatorSupport]) -> Table:
    from dlc.verify.support import DTYPES, FURTHER_DTYPES, Support

    marks = {Support.NATIVE: "N", Support.PARTLY: "p", Support.HOST: "h", Support.NONE: "-"}
    table = _table("operator", "domain", "since opset", *DTYPES.values(), "further types")
    for entry in entries:
        found = {dtype: marks[support] for dtype, support in entry.by_dtype.items()}
        support = [found.get(dtype, "") for dtype in DTYPES.values()]
        further = [(mark, [d for d in FURTHER_DTYPES.values() if found.get(d) == mark]) for mark in "Nph-"]
        listed = "; ".join(f"{mark}: {' '.join(dtypes)}" for mark, dtypes in further if dtypes)
        since = ", ".join(map(str, entry.since))
        table.add_row(entry.name, entry.domain or "ai.onnx", since, *support, listed)
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _reasons(entries: Sequence[OperatorSupport]) -> list[str]:
    """Why a type is not native, for operators that were asked for by name."""
    return [
        f"{entry.name} {dtype}: {printable(reason, 300)}"
        for entry in entries
        for dtype, reason in entry.reasons.items()
    ]


def _counts(entries: Sequence[OperatorSupport]) -> str:
    from dlc.verify.support import Support

    pairs: list[Any] = [support for entry in entries for support in entry.by_dtype.values()]
    native = sum(support is Support.NATIVE for support in pairs)
    return f"{len(entries)} operators; {native} of {len(pairs)} pairs of operator and element type are native"
