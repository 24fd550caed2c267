"""Operators on maps, at run time Python's dictionaries, and the look-up of strings."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dlc.errors import InputError
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass
from dlc.ir.ops.checks import require_equal, require_rank
from dlc.ir.ops.common import given
from dlc.ir.ops.conversion import convert
from dlc.ir.ops.strings import StringOperator, mapped, string_operand
from dlc.ir.types import MapType, SequenceType, TensorType, Type


@dataclasses.dataclass(frozen=True)
class StringIndex(StringOperator):
    """The position of each string among `keys`, which are distinct, as i64; their number where it is none."""

    keys: tuple[str, ...]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        return (TensorType(DType.I64, string_operand(inputs).shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        positions, absent = self._positions, len(self.keys)
        return (mapped(lambda text: positions.get(text, absent), given(inputs[0]), np.int64),)

    @functools.cached_property
    def _positions(self) -> dict[str, int]:
        return {key: position for position, key in enumerate(self.keys)}


@dataclasses.dataclass(frozen=True)
class StringAt(StringOperator):
    """The string of `texts` at each position, i64 from 0 on."""

    texts: tuple[str, ...]

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (positions,) = inputs
        if not isinstance(positions, TensorType) or positions.dtype is not DType.I64:
            raise InferenceError(f"the operand must be positions of type i64, but is {positions}")
        return (TensorType(DType.STRING, positions.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        positions = given(inputs[0])
        result = np.empty(positions.shape, object)
        result[...] = self._table[positions]
        return (result,)

    @functools.cached_property
    def _table(self) -> Array:
        return np.array([*self.texts, None], object)[:-1]


@dataclasses.dataclass(frozen=True)
class ZipMap(Operator):
    """Rows of numbers [N, K] as a sequence of maps from the K keys to the numbers.

    `keys` are all integers or all strings; of equal ones the last counts.
    """

    keys: tuple[int, ...] | tuple[str, ...]

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def __post_init__(self) -> None:
        _key_type(self.keys)

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = require_rank(inputs[0], 2, "the operand")
        require_equal(x.shape[1], len(self.keys), "the numbers of columns and of keys")
        return (SequenceType(MapType(_key_type(self.keys), x.dtype)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Any, ...]:
        return ([dict(zip(self.keys, row)) for row in given(inputs[0]).tolist()],)


@dataclasses.dataclass(frozen=True)
class DictVectorizer(Operator):
    """The values of a map of type `source` under K keys, 0 or an empty string where there is none: [1, K].

    `keys` are all integers or all strings.
    """

    keys: tuple[int, ...] | tuple[str, ...]
    source: MapType

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def __post_init__(self) -> None:
        if _key_type(self.keys) is not self.source.key:
            raise ValueError(f"the keys are none of a {self.source}")

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        _require_map(inputs, self.source)
        return (TensorType(self.source.value, (1, len(self.keys))),)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Array, ...]:
        (values,) = inputs
        nothing = "" if self.source.value is DType.STRING else 0
        return (_row([values.get(key, nothing) for key in self.keys], self.source.value),)


@dataclasses.dataclass(frozen=True)
class CastMap(Operator):
    """The values of a map of type `source`, whose keys are integers, converted as by Cast: the tensor `type`.

    If `dense` they stand in the order of the keys, [1, n]; n is a symbol that is bound from the result.
    Otherwise the value under key k stands at place k, and a place without one has 0 or the text "0.f";
    values beyond the last place are left out, and a negative key is an error.
    """

    source: MapType
    type: TensorType
    dense: bool

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        _require_map(inputs, self.source)
        if self.type.rank != 2 or self.type.shape[0] != 1 or self.source.key is not DType.I64:
            raise InferenceError(f"the values of a {self.source} cannot be {self.type}")
        return (self.type,)

    def evaluate(self, inputs: Sequence[Any], dim: EvaluateDim) -> tuple[Array, ...]:
        (values,) = inputs
        items = sorted(values.items())
        try:
            row = convert(_row([value for _, value in items], self.source.value), self.type.dtype)
        except ValueError as error:
            raise InputError(f"a value of a map is no number: {error}") from None
        if self.dense:
            return (row,)
        if items and items[0][0] < 0:
            raise InputError(f"a map has the key {items[0][0]}, a negative number")
        places = dim(self.type.shape[1])
        result = np.full((1, places), "0.f" if self.type.dtype is DType.STRING else 0, row.dtype)
        kept = [place for place, (key, _) in enumerate(items) if key < places]
        result[0, [items[place][0] for place in kept]] = row[0, kept]
        return (result,)


def _key_type(keys: Sequence[int | str]) -> DType:
    """The type of keys; ValueError where there are none or of several types."""
    kinds = {type(key) for key in keys}
    if kinds not in ({int}, {str}):
        raise ValueError("keys must be some integers or some strings")
    return DType.I64 if kinds == {int} else DType.STRING


def _require_map(inputs: Sequence[Type | None], source: MapType) -> None:
    if list(inputs) != [source]:
        raise InferenceError(f"the operand must be a {source}, but is {', '.join(map(str, inputs))}")


def _row(values: list[Any], dtype: DType) -> Array:
    """Values of a map as a tensor [1, n]."""
    result = np.empty((1, len(values)), dtype.numpy)
    result[0, :] = values
    return result
