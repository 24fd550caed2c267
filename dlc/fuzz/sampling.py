"""Random choices and arrays, all from one seeded generator."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ml_dtypes
import numpy as np

from dlc.fuzz.case import Array
from dlc.verify.tolerances import is_float

T = TypeVar("T")

#: Extents and how often each is drawn: borders of vectors and tiles, one, and nothing.
_EXTENTS = {0: 2, 1: 18, 2: 22, 3: 18, 4: 10, 5: 8, 7: 6, 8: 4, 15: 2, 16: 3, 17: 3, 33: 1}

#: Extents of large cases, drawn beside those above: borders of chunks and of panels of weights.
_LARGE_EXTENTS = {32: 3, 63: 3, 64: 4, 65: 3, 100: 3, 129: 2, 257: 2, 1025: 1}

#: The most elements of a tensor, and of one of a large case.
_MOST_ELEMENTS, _MOST_ELEMENTS_LARGE = 4096, 1 << 16

#: Floats that are no ordinary numbers. Sums of them are the same in any order, as those of huge ones are not.
_SPECIAL = (np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, -1e-45, 6e-8)


@dataclass(frozen=True)
class Domain:
    """Where an operator is defined and well conditioned: [low, high], without |x| < gap."""

    low: float = -8.0
    high: float = 8.0
    gap: float = 0.0

    def holds(self, array: Array) -> bool:
        """Whether all elements lie in the domain."""
        if not is_float(array.dtype) and array.dtype.kind not in "iu":
            return True
        wide = array.astype(np.float64)
        return bool(np.all((wide >= self.low) & (wide <= self.high) & (np.abs(wide) >= self.gap)))


ANY = Domain()


class Chance:
    """The choices of one case. `most_elements` bounds each of its tensors."""

    def __init__(self, seed: int, index: int) -> None:
        self.random = random.Random(f"{seed}:{index}")
        self.arrays = np.random.Generator(np.random.PCG64(self.random.getrandbits(63)))
        large = self.maybe(0.04)
        self.most_elements = _MOST_ELEMENTS_LARGE if large else _MOST_ELEMENTS
        self._extents = {**_EXTENTS, **_LARGE_EXTENTS} if large else _EXTENTS

    def maybe(self, probability: float) -> bool:
        """True with this probability."""
        return self.random.random() < probability

    def one_of(self, items: Sequence[T]) -> T:
        """Any of `items`, each as likely."""
        return items[self.random.randrange(len(items))]

    def some_of(self, items: Sequence[T], least: int = 0) -> list[T]:
        """Some of `items`, in their order."""
        count = self.random.randint(min(least, len(items)), len(items))
        return [items[i] for i in sorted(self.random.sample(range(len(items)), count))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All of `items` in any order."""
        return self.random.sample(list(items), len(items))

    def between(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return self.random.randint(low, high)

    def extent(self) -> int:
        """An extent."""
        return self.random.choices(list(self._extents), list(self._extents.values()))[0]

    def shape(self, rank: int) -> tuple[int, ...]:
        """A shape of `rank` axes with at most `most_elements` elements."""
        shape: list[int] = []
        for _ in range(rank):
            extent = self.extent()
            shape.append(extent if extent * int(np.prod(shape)) <= self.most_elements else 1)
        return tuple(self.shuffled(shape))

    def array(self, dtype: np.dtype[Any], shape: Sequence[int], domain: Domain = ANY) -> Array:
        """Values of `dtype` in the domain: quarters or normal numbers, small integers or the whole byte."""
        if dtype.kind == "b":
            return self.arrays.integers(0, 2, shape).astype(bool)
        if is_float(dtype):
            return self._floats(shape, domain).astype(dtype)
        bits = 8 * dtype.itemsize if dtype.kind in "iu" else ml_dtypes.iinfo(dtype).bits
        signed = dtype.kind == "i" or dtype.name in ("int4", "int2")
        least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        if bits > 8 or domain is not ANY:
            least, most = max(least, int(np.ceil(domain.low))), min(most, int(domain.high))
        values = self.arrays.integers(least, most, shape, endpoint=True)
        if domain.gap > 0:
            values = np.where(np.abs(values) < domain.gap, most, values)
        return np.asarray(values).astype(dtype)

    def salted(self, array: Array) -> Array:
        """`array` with some of its floats replaced by special ones; other types as they are."""
        if not is_float(array.dtype) or not array.size:
            return array
        salt = self.arrays.choice(_SPECIAL, array.shape)
        with np.errstate(over="ignore"):
            return np.where(self.arrays.random(array.shape) < 0.2, salt, array).astype(array.dtype)

    def _floats(self, shape: Sequence[int], domain: Domain) -> Array:
        if self.maybe(0.5):  # quarters: exact in every float type, with ties
            step = 0.25 if domain.high - domain.low >= 1 else (domain.high - domain.low) / 8
            count = int((domain.high - domain.low) / step)
            values = domain.low + step * self.arrays.integers(0, count, shape, endpoint=True)
        else:
            middle = (domain.low + domain.high) / 2
            spread = min(1.0, (domain.high - domain.low) / 6)
            values = np.clip(middle + spread * self.arrays.standard_normal(shape), domain.low, domain.high)
        return np.where(np.abs(values) < domain.gap, domain.high, values)
