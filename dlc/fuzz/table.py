"""Which operators the generator knows, and how it uses each."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from dlc.fuzz.maker import Maker

#: Adds nodes around one use of the operator named; raises Declined where nothing fits.
Use: TypeAlias = "Callable[[Maker, str], None]"


@dataclass(frozen=True)
class Entry:
    """An operator of the standard domain, a use of it, and how often it is drawn."""

    operator: str
    use: Use
    weight: float
    since: int

    def exists(self, opset: int) -> bool:
        """Whether the standard has the operator at `opset`, not deprecated."""
        from onnx import defs

        if opset < self.since:
            return False
        try:
            return not defs.get_schema(self.operator, opset, "").deprecated
        except defs.SchemaError:
            return False


_TABLE: dict[tuple[str, str], Entry] = {}


def operator(names: str, weight: float = 1.0, since: int = 7, variant: str = "") -> Callable[[Use], Use]:
    """Register the decorated function as a use of each operator in `names`, from opset `since` on.

    `variant` tells several uses of one operator apart.
    """

    def register(use: Use) -> Use:
        for name in names.split():
            _TABLE[name, variant] = Entry(name, use, weight, since)
        return use

    return register


@functools.cache
def entries() -> tuple[Entry, ...]:
    """All entries, by name."""
    package = importlib.import_module("dlc.fuzz.operators")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(_TABLE[key] for key in sorted(_TABLE))


@functools.cache
def entries_of(opset: int) -> tuple[Entry, ...]:
    """The entries that exist at `opset`."""
    return tuple(entry for entry in entries() if entry.exists(opset))
