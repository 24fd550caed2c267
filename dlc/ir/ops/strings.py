"""Operators on strings: tensors of element type `string`, at run time object arrays of Python's str."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from dlc.errors import ShapeError
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass
from dlc.ir.ops.common import broadcast_shapes, given, require_dtype, take
from dlc.ir.regex import PatternError, compile_pattern
from dlc.ir.types import TensorType, Type

_STRING = frozenset({DType.STRING})


@dataclasses.dataclass(frozen=True)
class StringOperator(Operator):
    """Base of the operators of this file."""

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE


def string_operand(inputs: Sequence[Type | None]) -> TensorType:
    """The type of the only operand, a tensor of strings; InferenceError otherwise."""
    (x,), _ = take(inputs, 1)
    require_dtype(x, _STRING, "the operand")
    return x


def mapped(function: Callable[[str], Any], x: Array, dtype: type) -> Array:
    """The results of `function` for each element of `x`, as an array of `dtype`."""
    result: Array = np.empty(x.shape, dtype)
    result.reshape(-1)[:] = [function(text) for text in x.reshape(-1).tolist()]
    return result


@dataclasses.dataclass(frozen=True)
class StringConcat(StringOperator):
    """Each string of the second operand put behind that of the first, with broadcasting."""

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x, y), _ = take(inputs, 2)
        require_dtype(x, _STRING, "the first operand")
        require_dtype(y, _STRING, "the second operand")
        return (TensorType(DType.STRING, broadcast_shapes(x.shape, y.shape)),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, y = np.broadcast_arrays(*map(given, inputs))
        result = np.empty(x.shape, object)
        pairs = zip(x.reshape(-1).tolist(), y.reshape(-1).tolist())
        result.reshape(-1)[:] = [left + right for left, right in pairs]
        return (result,)


@dataclasses.dataclass(frozen=True)
class StringSplit(StringOperator):
    """The parts of each string between delimiters, along a new last axis filled up with empty strings, and
    the number of parts of each (i64).

    Without a delimiter any number of whitespace characters delimits, and those at the ends do not count.
    At most `limit` cuts are made (None: all). `type` is that of the parts, whose last extent, the largest
    number of parts, is a symbol that is bound from the result.
    """

    delimiter: str | None
    limit: int | None
    type: TensorType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = string_operand(inputs)
        if self.type.dtype is not DType.STRING or self.type.rank != x.rank + 1:
            raise InferenceError(f"the parts of {x} cannot be {self.type}")
        return self.type, TensorType(DType.I64, x.shape)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        limit = -1 if self.limit is None else self.limit
        texts = x.reshape(-1).tolist()
        if self.delimiter is None:
            texts = [text.strip() for text in texts]
        parts = [text.split(self.delimiter, limit) for text in texts]
        counts = np.array([len(part) for part in parts], np.int64)
        table = np.full((len(parts), max(counts, default=0)), "", object)
        for row, part in zip(table, parts):
            row[: len(part)] = part
        return table.reshape(*x.shape, table.shape[1]), counts.reshape(x.shape)


@dataclasses.dataclass(frozen=True)
class RegexFullMatch(StringOperator):
    """Whether the whole of each string matches `pattern`, in RE2's syntax (`dlc.ir.regex`), as bool."""

    pattern: str

    def __post_init__(self) -> None:
        try:
            compile_pattern(self.pattern)
        except PatternError as error:
            raise ValueError(str(error)) from None

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        return (TensorType(DType.BOOL, string_operand(inputs).shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        return (mapped(compile_pattern(self.pattern).matches, given(inputs[0]), np.bool_),)


@dataclasses.dataclass(frozen=True)
class StringNormalizer(StringOperator):
    """The strings of a vector, or of a matrix of one row, that are no stop words, in another case if wanted.

    `case` is "lower", "upper" or "none". Stop words are compared as they are, or, unless `case_sensitive`,
    without regard to case. Where no string remains the result is one empty string. `type` is that of the
    result, whose last extent is a symbol that is bound from it.
    """

    case: str
    case_sensitive: bool
    stopwords: tuple[str, ...]
    type: TensorType

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        x = string_operand(inputs)
        if x.rank not in (1, 2) or (x.rank == 2 and isinstance(x.shape[0], int) and x.shape[0] != 1):
            raise InferenceError(f"the operand must be a vector or a matrix of one row, but is {x}")
        if self.case not in _CASES:
            raise InferenceError(f"there is no case {self.case!r}")
        if self.type.dtype is not DType.STRING or self.type.rank != x.rank:
            raise InferenceError(f"the strings that remain of {x} cannot be {self.type}")
        return (self.type,)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x = given(inputs[0])
        if x.shape[:-1] not in ((), (1,)):
            raise ShapeError(f"{self.name} takes a vector or one row, not {x.shape[0]} rows")
        changed = _CASES[self.case]
        key = _CASES["none"] if self.case_sensitive else lower
        stops = {key(word) for word in self.stopwords}
        kept = [changed(text) for text in x.reshape(-1).tolist() if key(text) not in stops]
        result = np.array(kept or [""], object)
        return (result.reshape(*x.shape[:-1], len(result)),)


def lower(text: str) -> str:
    """Lower case character by character: what has no lower form of one character keeps its own."""
    return "".join(_single(character.lower(), character) for character in text)


def upper(text: str) -> str:
    """Upper case character by character: what has no upper form of one character keeps its own."""
    return "".join(
        _single(character.upper(), _single(character.title(), character)) for character in text
    )


def _single(mapped: str, otherwise: str) -> str:
    return mapped if len(mapped) == 1 else otherwise


_CASES: dict[str, Callable[[str], str]] = {"none": str, "lower": lower, "upper": upper}
