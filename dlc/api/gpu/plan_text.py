"""Plans as JSON, and back, with every field's kind and every number checked."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from dlc.api.gpu import plan as p
from dlc.api.gpu.plan_check import check
from dlc.errors import Error, PackageError, printable
from dlc.ir.dims import DimExpr, Symbol, parse, to_text
from dlc.runtime.codec import parse as parse_json

_STEPS = typing.get_args(p.Step)
_KINDS = {kind.__name__: kind for kind in (*_STEPS, p.Place, p.Condition, p.Tensor, p.Plan)}


def to_data(value: Any) -> Any:
    """A plan, or a part of one, as JSON-compatible data; a dim is a number, or an object with its text."""
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


def from_text(text: bytes, functions: int) -> p.Plan:
    """The plan that `text` holds, for so many functions; PackageError for anything else."""
    data = parse_json(text, "the plan of the GPU program")
    try:
        ranges = _read(data["ranges"], {})
        _require(ranges, _hints(p.Plan)["ranges"], "ranges")
        symbols = {name: Symbol(name, low, high) for name, (low, high) in ranges.items()}
        plan: p.Plan = _read(data, symbols)
        _require(plan, p.Plan, "the plan")
        check(plan, functions)
    except (Error, TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        reason = error.message if isinstance(error, Error) else repr(error)
        raise PackageError(f"the plan of the GPU program is damaged: {printable(reason)}") from None
    return plan


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


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, vars(p))


def _require(value: Any, kind: Any, where: str) -> None:
    """PackageError, which names the place, unless `value` is of the annotated type `kind`."""
    if not _is(value, kind, where):
        raise PackageError(f"{where} has a value of the wrong type: {printable(repr(value), 60)}")


def _is(value: Any, kind: Any, where: str) -> bool:
    """Whether `value` is of the type `kind`; PackageError for a part of it that is not as declared."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        # No two of the types in a union are dataclasses of one name.
        return any(_is(value, each, where) for each in arguments)
    if origin is tuple:
        if not isinstance(value, tuple) or (arguments[-1] is not ... and len(value) != len(arguments)):
            return False
        each = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        for index, (item, wanted) in enumerate(zip(value, each)):
            _require(item, wanted, f"{where}[{index}]")
        return True
    if origin is dict:
        return isinstance(value, dict) and all(
            _is(key, arguments[0], where) and _is(item, arguments[1], where) for key, item in value.items()
        )
    if isinstance(kind, type) and issubclass(kind, DimExpr):
        return isinstance(value, DimExpr)
    if type(value) is not kind:
        return False
    if dataclasses.is_dataclass(kind):
        for name, wanted in _hints(kind).items():
            _require(getattr(value, name), wanted, f"{where}.{name}")
    return True
