"""Counting n-grams: TfIdfVectorizer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from dlc.errors import ShapeError
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass
from dlc.ir.ops.common import given, take
from dlc.ir.types import TensorType, Type

_MODES = frozenset({"tf", "idf", "tfidf"})
#: An n-gram trie: item -> (output index or -1, the n-grams that begin so).
_Trie: TypeAlias = "dict[Any, tuple[int, _Trie]]"


@dataclasses.dataclass(frozen=True)
class TfIdf(Operator):
    """How often n-grams of `shortest` to `longest` items occur in a vector, or in each row of a matrix: f32.

    The items of an n-gram are equally far apart, with up to `skips` others between neighbours. Single items
    count once, whatever `skips`. Operands: the items (string, i32 or i64), the pool of n-grams one after the
    other (of strings, or i64), for each length the position in the pool where its n-grams begin (i64), for
    each n-gram the output that it counts for (i64), and a weight for each output (f32) or none.

    `mode`: "tf" gives counts, "idf" 1 where the count is not 0, "tfidf" counts; the last two times the
    weights. `size` is the number of outputs.
    """

    mode: str
    shortest: int
    longest: int
    skips: int
    size: int

    kind: ClassVar[OperatorClass] = OperatorClass.ROUTINE

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        (x, pool, starts, outputs), (weights,) = take(inputs, 4, 1)
        wanted = DType.STRING if x.dtype is DType.STRING else DType.I64
        if x.dtype not in (DType.STRING, DType.I32, DType.I64) or pool.dtype is not wanted:
            raise InferenceError(f"a pool of {pool.dtype.text} does not fit items of {x.dtype.text}")
        if self.mode not in _MODES or not 1 <= self.shortest <= self.longest or self.skips < 0:
            raise InferenceError("mode, lengths or skips are out of range")
        if x.rank > 2 or {pool.rank, starts.rank, outputs.rank} != {1}:
            raise InferenceError(f"the items must be a vector or matrix, but are {x}")
        if weights is not None and weights.shape != (self.size,):
            raise InferenceError(f"{self.size} outputs need as many weights, not {weights}")
        return (TensorType(DType.F32, (*x.shape[:-1], self.size)),)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        (x, *_), _ = take(inputs, 4, 1)
        return x.elements * self.longest * (self.skips + 1)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, pool, starts, outputs = (given(operand) for operand in inputs[:4])
        weights = inputs[4] if len(inputs) > 4 else None
        trie = _trie(
            tuple(pool.tolist()), tuple(starts.tolist()), tuple(outputs.tolist()), self.shortest, self.longest
        )
        rows = x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)
        counts = np.zeros((len(rows), self.size), np.float32)
        for row, count in zip(rows.tolist(), counts):
            self._count(row, trie, count)
        if self.mode == "idf":
            counts = (counts > 0).astype(np.float32)
        if self.mode != "tf" and weights is not None:
            counts *= weights
        return (counts.reshape(*x.shape[:-1], self.size),)

    def _count(self, row: list[Any], trie: _Trie, counts: Array) -> None:
        """Add the n-grams of one row to `counts`."""
        for distance in range(1, self.skips + 2):
            shortest = self.shortest if distance == 1 else max(self.shortest, 2)
            for start in range(len(row)):
                level = trie
                for length, at in enumerate(range(start, len(row), distance), start=1):
                    found = level.get(row[at]) if length <= self.longest else None
                    if found is None:
                        break
                    output, level = found
                    if length >= shortest and output >= 0:
                        counts[output] += 1


@functools.lru_cache(maxsize=16)
def _trie(
    pool: tuple[Any, ...], starts: tuple[int, ...], outputs: tuple[int, ...], shortest: int, longest: int
) -> _Trie:
    """The n-grams of `shortest` to `longest` items of a pool; the last of equal ones counts.

    Raises ShapeError where the positions contradict the pool.
    """
    ends = [*starts[1:], len(pool)]
    root: _Trie = {}
    number = 0
    for length, (start, end) in enumerate(zip(starts, ends), start=1):
        if not 0 <= start <= end <= len(pool) or (end - start) % length:
            place = f"[{start}, {end}) of a pool of {len(pool)} items"
            raise ShapeError(f"the {length}-grams cannot lie at {place}")
        for at in range(start, end, length):
            if number >= len(outputs):
                raise ShapeError(f"there are more n-grams than the {len(outputs)} outputs named for them")
            if shortest <= length <= longest:
                _enter(root, pool[at : at + length], outputs[number])
            number += 1
    return root


def _enter(trie: _Trie, gram: tuple[Any, ...], output: int) -> None:
    for item in gram[:-1]:
        trie = trie.setdefault(item, (-1, {}))[1]
    known = trie.get(gram[-1])
    trie[gram[-1]] = output, {} if known is None else known[1]
