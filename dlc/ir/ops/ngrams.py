"""Counting n-grams: TfIdfVectorizer."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from dlc.errors import ShapeError
from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass
from dlc.ir.ops.common import given, require_vector, take
from dlc.ir.types import TensorType, Type

_MODES = frozenset({"tf", "idf", "tfidf"})
#: N-grams by their next item: the number of the one that ends there (-1: none), and those that go on.
_Trie: TypeAlias = "dict[Any, tuple[int, _Trie]]"


@dataclasses.dataclass(frozen=True)
class TfIdf(Operator):
    """How often n-grams of `shortest` to `longest` items occur in a vector, or in each row of a matrix: f32.

    The items of an n-gram are equally far apart, with up to `skips` others between neighbours. Single items
    count once, whatever `skips`. Operands: the items (string, i32 or i64); the pool of n-grams one after the
    other (of strings, or i64); for each length the position in the pool where its n-grams begin (i64); for
    each n-gram the output that it counts for (i64), and its weight (f32) or none.

    `mode`: an n-gram adds 1 to its output ("tf"), adds its weight ("tfidf"), or makes it its weight ("idf").
    `size` is the number of outputs.
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
            raise InferenceError("the mode, a length or the number of skips is out of range")
        if x.rank not in (1, 2) or {pool.rank, starts.rank, outputs.rank} != {1}:
            raise InferenceError(f"the items must be a vector or matrix, but are {x}")
        if weights is not None:
            require_vector(weights, outputs.shape[0], "the weights")
        return (TensorType(DType.F32, (*x.shape[:-1], self.size)),)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        (x, *_), _ = take(inputs, 4, 1)
        return x.elements * self.longest * (self.skips + 1)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        x, pool, starts, outputs = (given(operand) for operand in inputs[:4])
        weights = inputs[4] if len(inputs) > 4 and self.mode != "tf" else None
        trie = _trie(tuple(pool.tolist()), tuple(starts.tolist()), self.shortest, self.longest)
        places = outputs.tolist()
        amounts = [1.0] * len(places) if weights is None else weights.tolist()
        if trie.ngrams > len(places) or not all(0 <= place < self.size for place in places):
            raise ShapeError(f"outputs {places[:8]} do not fit {trie.ngrams} n-grams")
        y = np.zeros((*x.shape[:-1], self.size), np.float32)
        rows = x.reshape(-1, x.shape[-1]).tolist() if x.size else []
        for items, row in zip(rows, y.reshape(-1, self.size)):
            for ngram in self._found(items, trie.root):
                before = 0.0 if self.mode == "idf" else row[places[ngram]]
                row[places[ngram]] = before + amounts[ngram]
        return (y,)

    def _found(self, items: list[Any], root: _Trie) -> Iterator[int]:
        """The n-grams of a row, as often as they occur."""
        for distance in range(1, min(self.skips, len(items)) + 2):
            shortest = self.shortest if distance == 1 else max(self.shortest, 2)
            for start in range(len(items)):
                level = root
                for length, at in enumerate(range(start, len(items), distance), start=1):
                    found = level.get(items[at]) if length <= self.longest else None
                    if found is None:
                        break
                    ngram, level = found
                    if length >= shortest and ngram >= 0:
                        yield ngram


@dataclasses.dataclass(frozen=True)
class _Ngrams:
    """The trie of those n-grams of a pool that are looked for, and how many the pool has in all."""

    root: _Trie
    ngrams: int


@functools.lru_cache(maxsize=16)
def _trie(pool: tuple[Any, ...], starts: tuple[int, ...], shortest: int, longest: int) -> _Ngrams:
    """The n-grams of a pool; the last of equal ones counts.

    Raises ShapeError where the positions contradict the pool.
    """
    root: _Trie = {}
    number = 0
    for length, (start, end) in enumerate(zip(starts, [*starts[1:], len(pool)]), start=1):
        if not 0 <= start <= end <= len(pool) or (end - start) % length:
            place = f"[{start}, {end}) of a pool of {len(pool)} items"
            raise ShapeError(f"the {length}-grams cannot lie at {place}")
        for at in range(start, end, length):
            if shortest <= length <= longest:
                _enter(root, pool[at : at + length], number)
            number += 1
    return _Ngrams(root, number)


def _enter(trie: _Trie, ngram: tuple[Any, ...], number: int) -> None:
    for item in ngram[:-1]:
        trie = trie.setdefault(item, (-1, {}))[1]
    known = trie.get(ngram[-1])
    trie[ngram[-1]] = number, {} if known is None else known[1]
