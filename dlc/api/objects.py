"""Inputs and outputs that are no tensors of numbers: strings, sequences, maps, optionals.

They are what onnxruntime takes and gives: an array of str for strings, a list of arrays for a sequence, a
dictionary of numbers or strings for a map, the value itself or None for an optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlc.api.arrays import Family, as_array, common_family
from dlc.api.specs import InputBinder, TensorSpec
from dlc.errors import InputError, printable
from dlc.ir.dims import Symbol
from dlc.ir.dtypes import DType
from dlc.ir.ops.sequences import check_array
from dlc.ir.reading import Line, read_type
from dlc.ir.types import MapType, NoTensorType, OpenTensorType, OptionalType, SequenceType, TensorType, Type

Array = np.ndarray[Any, Any]


def type_of(text: str, symbols: Mapping[str, Symbol]) -> Type:
    """The type that a spec's text stands for."""
    return read_type(Line(1, text), symbols)


class StringBinder(InputBinder):
    """Checks a tensor of strings."""

    def take(self, value: Any) -> tuple[Array, Family | None]:
        """`value` as an array of str in C order: an array of str, bytes (UTF-8) or objects that are str, a
        str, or nested lists of them. Raises InputError or ShapeError when it does not fit.
        """
        return self.check(as_strings(self.spec.name, value)), None


def as_strings(name: str, value: Any) -> Array:
    """`value` as an array of Python's str; InputError for anything else."""
    array = value if isinstance(value, np.ndarray) else np.array(value, object)
    if array.dtype.kind not in "OSTU":
        raise _no_strings(name, array.dtype)
    texts = array.reshape(-1).tolist()
    if array.dtype.kind == "S" or any(type(text) is not str for text in texts):
        texts = [_text(name, text) for text in texts]
    elif array.dtype.kind == "O" and array.flags.c_contiguous:
        return array
    result = np.empty(len(texts), object)
    result[:] = texts
    return result.reshape(array.shape)


def _text(name: str, text: Any) -> str:
    if isinstance(text, bytes):
        try:
            return text.decode()
        except UnicodeDecodeError:
            message = f"a string of input {printable(name)!r} is not UTF-8"
            raise InputError(message, code="input/array") from None
    if not isinstance(text, str):
        raise _no_strings(name, type(text).__name__)
    return str(text)


def _no_strings(name: str, found: object) -> InputError:
    return InputError(
        f"input {printable(name)!r} must hold strings, not {printable(str(found))}", code="input/dtype"
    )


class ObjectBinder(InputBinder):
    """Checks a sequence, map or optional of type `type_`."""

    def __init__(self, spec: TensorSpec, type_: Type) -> None:
        super().__init__(spec, {}, {})
        self._type = type_

    def take(self, value: Any) -> tuple[Any, Family | None]:
        """`value` as a list of arrays, an array or None, and the library that they are of if not NumPy."""
        return self._taken(value, self._type)

    def _taken(self, value: Any, type_: Type) -> tuple[Any, Family | None]:
        match type_:
            case OptionalType(element):
                return (None, None) if value is None else self._taken(value, element)
            case SequenceType(element):
                if not isinstance(value, list | tuple):
                    raise self._unfit("a list of arrays", value)
                pairs = [self._taken(part, element) for part in value]
                return [part for part, _ in pairs], common_family(family for _, family in pairs)
            case TensorType() | OpenTensorType():
                return self._array(value, type_)
            case MapType():
                return self._map(value, type_), None
            case NoTensorType():
                raise self._unfit("nothing", value)
        raise TypeError(f"{type_} is no type of an input")

    def _array(self, value: Any, type_: TensorType | OpenTensorType) -> tuple[Array, Family | None]:
        name = self.spec.name
        family = None
        if value is None:
            raise self._unfit("an array", value)
        if type_.dtype.numpy == np.dtype(object):
            array = as_strings(name, value)
        else:
            array, family = as_array(name, value, type_.dtype.numpy)
            if array.dtype.newbyteorder("=") != type_.dtype.numpy:
                raise InputError(
                    f"input {printable(name)!r} must be {self.spec.type}, but has a tensor of {array.dtype}",
                    hint=f"convert it: x.astype(numpy.{type_.dtype.numpy})",
                    code="input/dtype",
                )
            if not array.dtype.isnative or not array.flags.c_contiguous:
                array = np.array(array, type_.dtype.numpy, order="C")
        check_array(array, type_, f"a tensor of input {printable(name)!r}")
        return array, family

    def _map(self, value: Any, type_: MapType) -> dict[Any, Any]:
        """A map with Python's numbers, rounded to the type of the values, and strings."""
        if not isinstance(value, dict):
            raise self._unfit("a dictionary", value)
        for part, dtype in ((list(value), type_.key), (list(value.values()), type_.value)):
            wanted: tuple[type, ...] = (str,)
            if dtype is not DType.STRING:
                wanted = (int, np.integer) if dtype.is_integer else (int, float, np.integer, np.floating)
            for item in part:
                if not isinstance(item, wanted) or isinstance(item, bool):
                    raise self._unfit(f"a dictionary with {dtype.text} in that place", item)
        if type_.value is DType.STRING:
            return {_key(key): str(item) for key, item in value.items()}
        try:
            numbers = np.array(list(value.values()), type_.value.numpy).tolist()
        except OverflowError:
            raise self._unfit(f"a dictionary with {type_.value.text}", max(value.values(), key=abs)) from None
        return {_key(key): number for key, number in zip(value, numbers)}

    def _unfit(self, wanted: str, value: Any) -> InputError:
        found = type(value).__name__
        return InputError(
            f"input {printable(self.spec.name)!r}, {self.spec.type}, must be {wanted}, not {found}",
            code="input/array",
        )


def _key(key: Any) -> Any:
    return str(key) if isinstance(key, str) else int(key)
