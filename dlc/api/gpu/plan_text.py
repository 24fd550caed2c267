"""Plans as JSON, and back, with every field's kind checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dlc.api.gpu import plan as p
from dlc.errors import Error, PackageError, printable
from dlc.ir.dims import DimExpr, Symbol, parse, to_text
from dlc.runtime.codec import parse as parse_json

_KINDS = {
    kind.__name__: kind
    for kind in (
        *(p.Place, p.Launch, p.Recur, p.Evaluate, p.Bind, p.Check, p.Set, p.Grow, p.Reserve, p.Copy),
        *(p.Branch, p.Repeat, p.Condition, p.Tensor, p.Plan),
    )
}


def to_data(value: Any) -> Any:
    """A plan, or a part of one, as JSON-compatible data; a dim that is no number is a list of its text."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: to_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, DimExpr):
        return {"is": "dim", "text": to_text(value)}
    if isinstance(value, Mapping):
        return {"is": "map", "items": [[key, to_data(item)] for key, item in sorted(value.items())]}
    if isinstance(value, tuple | list):
        return [to_data(item) for item in value]
    return value


def from_text(text: bytes) -> p.Plan:
    """The plan that `text` holds; PackageError for anything else."""
    data = parse_json(text, "the plan of the GPU program")
    try:
        ranges = _read(data["ranges"], {})
        symbols = {name: Symbol(name, low, high) for name, (low, high) in ranges.items()}
        found = _read(data, symbols)
    except (Error, TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise PackageError(f"the plan of the GPU program is damaged: {printable(str(error))}") from None
    if not isinstance(found, p.Plan):
        raise PackageError("the package holds no plan of a GPU program")
    return found


def _read(data: Any, symbols: Mapping[str, Symbol]) -> Any:
    if isinstance(data, list):
        return tuple(_read(item, symbols) for item in data)
    if not isinstance(data, dict):
        return data
    kind = data["is"]
    if kind == "dim":
        return parse(data["text"], symbols)
    if kind == "map":
        return {key: _read(item, symbols) for key, item in data["items"]}
    return _KINDS[kind](**{key: _read(item, symbols) for key, item in data.items() if key != "is"})
