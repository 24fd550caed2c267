"""Random numbers that follow from a key and a position: Philox 4x32-10.

J. Salmon, M. Moraes, R. Dror, D. Shaw, Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011). Ten rounds turn
a counter of four 32-bit words into four words that pass BigCrush for every key, so that any element can be
computed on its own, by any thread and in any order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from dlc.ir.dims import Dim
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array, EvaluateDim, InferenceError, Operator, OperatorClass
from dlc.ir.ops.movement import check_extents
from dlc.ir.types import TensorType, Type

ROUNDS = 10
#: What the first and third word of the counter are multiplied by.
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
#: What the two words of the key grow by from round to round.
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = (1 << 32) - 1


def round_keys(key: int) -> list[tuple[int, int]]:
    """The words that each round mixes in, for a key of 64 bits."""
    low, high = key & WORD, key >> 32 & WORD
    return [((low + i * WEYL[0]) & WORD, (high + i * WEYL[1]) & WORD) for i in range(ROUNDS)]


def philox(counter: Sequence[Array], key: int) -> list[Array]:
    """The four words for a counter of four words, each a u64 array of numbers below 2^32."""
    words = list(counter)
    word, half = np.uint64(WORD), np.uint64(32)
    for keys in round_keys(key):
        products = [words[2 * i] * np.uint64(MULTIPLIERS[i]) for i in (0, 1)]
        high = [product >> half for product in products]
        low = [product & word for product in products]
        words = [
            high[1] ^ words[1] ^ np.uint64(keys[0]),
            low[1],
            high[0] ^ words[3] ^ np.uint64(keys[1]),
            low[0],
        ]
    return words


@dataclasses.dataclass(frozen=True)
class Random(Operator):
    """Random bits: u64 elements of `shape` that follow from `key` (64 bits), `draw` and their position alone.

    The counter is the row-major position of the element and `draw`, 64 bits each, the low words first; the
    element is made of the first two words of the result, or of the others if `second`, the low word first.
    """

    shape: tuple[Dim, ...]
    key: int
    draw: Dim = 0
    second: bool = False

    kind: ClassVar[OperatorClass] = OperatorClass.MOVEMENT

    def infer(self, inputs: Sequence[Type | None]) -> tuple[Type, ...]:
        if inputs:
            raise InferenceError(f"{len(inputs)} operands are given where none are needed")
        check_extents(self.shape)
        return (TensorType(DType.U64, self.shape),)

    def evaluate(self, inputs: Sequence[Array | None], dim: EvaluateDim) -> tuple[Array, ...]:
        shape = [dim(extent) for extent in self.shape]
        position = np.arange(np.prod(shape, dtype=np.int64)).astype(np.uint64).reshape(shape)
        draw = np.full(shape, dim(self.draw) & ((1 << 64) - 1), np.uint64)
        word, half = np.uint64(WORD), np.uint64(32)
        counter = [position & word, position >> half, draw & word, draw >> half]
        words = philox(counter, self.key)[2 * self.second :]
        return (words[0] | words[1] << half,)

    def flops(self, inputs: Sequence[Type | None], outputs: Sequence[Type]) -> Dim:
        """None in floating point, but ten rounds of two products and six other operations an element."""
        return sum((80 * t.elements for t in outputs if isinstance(t, TensorType)), start=0)
