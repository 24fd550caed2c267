"""Which function imports which ONNX operator, by domain and opset.

An importer is registered for the opset from which it holds (`since`), until a later registration of the same
operator takes over. `until` ends it where the standard removed the operator.
"""

from __future__ import annotations

import bisect
import functools
import importlib
import pkgutil
from collections.abc import Callable

from dlc.frontend.onnx.context import Importer

_TABLE: dict[tuple[str, str], list[tuple[int, Importer]]] = {}


def importer(op_type: str, since: int = 1, domain: str = "") -> Callable[[Importer], Importer]:
    """Register the decorated function for `op_type` from opset `since` on."""

    def register(function: Importer) -> Importer:
        versions = _TABLE.setdefault((domain, op_type), [])
        bisect.insort(versions, (since, function), key=lambda entry: entry[0])
        return function

    return register


@functools.cache
def _load() -> None:
    """Import every module of `dlc.frontend.onnx.ops`, once."""
    package = importlib.import_module("dlc.frontend.onnx.ops")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def find(domain: str, op_type: str, opset: int) -> Importer | None:
    """The importer of an operator at `opset`; None when there is none."""
    _load()
    versions = _TABLE.get((domain, op_type), [])
    index = bisect.bisect_right(versions, opset, key=lambda entry: entry[0])
    return versions[index - 1][1] if index else None


def operators() -> dict[tuple[str, str], list[int]]:
    """All registered operators by (domain, name), with the opsets from which each importer holds."""
    _load()
    return {key: [since for since, _ in versions] for key, versions in sorted(_TABLE.items())}
