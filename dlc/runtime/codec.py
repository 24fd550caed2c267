"""Dataclasses to JSON and back, with every type checked on the way in.

A package's manifest is read from a file that anyone may have written, so :func:`decode` accepts exactly the
fields and types that the dataclass declares. Supported annotations: str, int, float, bool, ``X | None`` and
other unions of these, ``tuple[X, ...]``, ``Mapping[str, X]``, dataclasses of such fields, and :data:`Json`
for free-form data.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from dlc.errors import PackageError, printable

#: JSON-compatible data: None, bool, int, float, str, lists and dictionaries of them.
Json = Any

_INT64 = range(-(1 << 63), 1 << 63)


def to_text(value: Any) -> str:
    """The dataclass `value` as canonical JSON: sorted keys, ASCII, one field a line; equal values give
    equal text."""
    return json.dumps(encode(value), sort_keys=True, indent=1, allow_nan=False) + "\n"


def parse(text: bytes, what: str) -> Json:
    """JSON text as data. PackageError for anything else, for duplicate fields and for nan and inf."""
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise PackageError(f"{what} is not valid JSON: {printable(str(error))}") from error


def encode(value: Any) -> Json:
    """`value` as JSON-compatible data."""
    if dataclasses.is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [encode(item) for item in value]
    return value


def decode(kind: Any, data: Json, where: str) -> Any:
    """`data` as a value of the type `kind`. PackageError, naming the place `where`, if it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Json:
        return data
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, where)
    if origin is tuple and isinstance(data, list):
        return tuple(decode(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if origin is Mapping and isinstance(data, dict):
        return {key: decode(arguments[1], item, f"{where}.{printable(key)}") for key, item in data.items()}
    if origin in (typing.Union, types.UnionType):
        for choice in arguments:
            if _is_scalar(choice, data):
                return data
    if _is_scalar(kind, data):
        return data
    raise PackageError(f"{where} has a value of the wrong type: {printable(repr(data), 60)}")


def _decode_dataclass(kind: Any, data: Json, where: str) -> Any:
    if not isinstance(data, dict):
        raise PackageError(f"{where} must be an object")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in data:
        if name not in fields:
            raise PackageError(f"{where} has an unknown field {printable(repr(name))}")
    for name, field in fields.items():
        if name not in data and not _has_default(field):
            raise PackageError(f"{where} lacks the field {name}")
    return kind(**{name: decode(hints[name], item, f"{where}.{name}") for name, item in data.items()})


def _is_scalar(kind: Any, data: Json) -> bool:
    """Whether `data` is of the scalar type `kind`, or null for None; a bool is no int, an int fits in 64
    bits."""
    if kind is int:
        return type(data) is int and data in _INT64
    if kind is float:
        return type(data) is float or (type(data) is int and data in _INT64)
    return type(data) is kind


def _has_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a field stands twice in an object")
    return data


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON number")
