"""The tensors of a kernel as its evaluator sees them: logical arrays, or memory under a layout.

Both take logical indices, one int64 array an axis, all broadcast together. An index may reach into the halo
of its axis where the type gives that a content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from dlc.errors import InternalError
from dlc.ir.operator import Array
from dlc.ir.types import FillKind, Halo, Layout, TensorType

#: Combines stored numbers with those that are there, repeated positions one after the other; None: replaces.
Combine: TypeAlias = Callable[[Array, tuple[Array, ...], Array], None]


class Tensor:
    """A logical array. Its halo exists by type only: it holds the Fill, and only that may be stored there."""

    def __init__(self, array: Array, type_: TensorType) -> None:
        self.type = type_
        self.shape: tuple[int, ...] = array.shape
        self._array = array

    @property
    def halos(self) -> tuple[Halo, ...]:
        """The halos whose content the type gives."""
        layout = self.type.layout
        return tuple(h for h in layout.halos if h.fill.kind is not FillKind.UNDEFINED) if layout else ()

    def reach(self, axis: int) -> tuple[int, int]:
        """The least index along `axis`, and the one behind the greatest."""
        halo = next((h for h in self.halos if h.axis == axis), None)
        return (-halo.before, self.shape[axis] + halo.after) if halo else (0, self.shape[axis])

    def load(self, index: Sequence[Array]) -> Array:
        """The elements at `index`, which is within reach."""
        inside = [np.clip(at, 0, extent - 1) for at, extent in zip(index, self.shape, strict=True)]
        values = np.asarray(self._array[tuple(inside)])
        for halo in self.halos:
            at = index[halo.axis]
            beyond = (at < 0) | (at >= self.shape[halo.axis])
            values = np.where(beyond, np.asarray(halo.fill.number).astype(values.dtype), values)
        return values

    def store(self, index: Sequence[Array], values: Array, combine: Combine | None = None) -> None:
        """Store one number at each index; of repeated indices the last one stays."""
        kept = np.ones(values.shape, np.bool_)
        for halo in self.halos:
            at = index[halo.axis]
            beyond = (at < 0) | (at >= self.shape[halo.axis])
            fill = np.asarray(halo.fill.number).astype(values.dtype)
            if combine is not None and (beyond & kept).any():
                raise InternalError(f"a combining store reaches into the halo of axis {halo.axis}")
            if (values[beyond & kept] != fill).any():
                raise InternalError(f"a store puts something else than {halo.fill} into a halo")
            kept &= ~beyond
        _put(self._array, tuple(at[kept] for at in index), values[kept], combine)

    def whole(self) -> Array:
        """The logical array."""
        return self._array

    def assign(self, array: Array) -> None:
        """Replace the logical array's content."""
        self._array[...] = array


class Memory(Tensor):
    """Physical memory: an array in the layout of `type_`, for a tensor of logical `shape`."""

    def __init__(self, array: Array, type_: TensorType, shape: tuple[int, ...]) -> None:
        super().__init__(array, type_)
        self.shape = shape

    @property
    def physical(self) -> Array:
        """The elements as they lie in memory, halos and padding included."""
        return self._array

    def load(self, index: Sequence[Array]) -> Array:
        return np.asarray(self._array[self.place(index)])

    def store(self, index: Sequence[Array], values: Array, combine: Combine | None = None) -> None:
        """Store as `Tensor.store` does; lanes behind the end of a blocked axis get their Fill with it."""
        _put(self._array, self.place(index), values, combine)
        layout = self.type.layout
        if layout is not None and layout.pad.kind is not FillKind.UNDEFINED:
            self._array[self._beyond_blocks()] = np.asarray(layout.pad.number).astype(self._array.dtype)

    def stale_halo(self) -> str | None:
        """What is wrong with a halo whose content the type gives; None if nothing is."""
        for halo in self.halos:
            at = self._logical_index(halo.axis)
            beyond = ((at < 0) & (at >= -halo.before)) | (
                (at >= self.shape[halo.axis]) & (at < self.shape[halo.axis] + halo.after)
            )
            others = [h.axis for h in self.halos if h.axis != halo.axis and h.fill != halo.fill]
            for axis in range(len(self.shape)):
                position = self._logical_index(axis)
                if axis in others or axis not in (h.axis for h in self.halos):
                    beyond = beyond & (position >= 0) & (position < self.shape[axis])
            found = self._array[np.broadcast_to(beyond, self._array.shape)]
            if (found != np.asarray(halo.fill.number).astype(found.dtype)).any():
                return f"the halo of axis {halo.axis} does not hold {halo.fill}"
        return None

    def _logical_index(self, axis: int) -> Array:
        """The index along `axis` of each physical position, broadcast over the other physical axes."""
        layout = self.type.layout
        order = layout.order if layout else tuple((a, None) for a in range(len(self.shape)))
        block = layout.block(axis) if layout else 1
        total = np.zeros([1] * len(order), np.int64) - (layout.halo(axis).before if layout else 0)
        for position, (walked, lanes) in enumerate(order):
            if walked == axis:
                line = np.arange(self._array.shape[position]) * (1 if lanes else block)
                total = total + line.reshape([-1 if i == position else 1 for i in range(len(order))])
        return total

    def _beyond_blocks(self) -> Array:
        """Where in memory lanes lie that round an axis up to whole blocks."""
        layout = self.type.layout
        beyond = np.zeros(self._array.shape, np.bool_)
        for axis in {axis for axis, block in layout.order if block} if layout else ():
            beyond |= np.broadcast_to(self._logical_index(axis) >= self.shape[axis], self._array.shape)
        return beyond

    def whole(self) -> Array:
        return np.broadcast_to(self.load(self._grid()), self.shape)

    def assign(self, array: Array) -> None:
        grid = np.broadcast_arrays(*self._grid()) if self.shape else []
        self.store([at.reshape(-1) for at in grid], np.asarray(array).reshape(-1))

    def place(self, index: Sequence[Array]) -> tuple[Array, ...]:
        """The physical index of a logical one."""
        layout = self.type.layout
        return tuple(index) if layout is None else tuple(_places(layout, index))

    def _grid(self) -> list[Array]:
        return list(np.indices(self.shape, dtype=np.int64, sparse=True))


def _places(layout: Layout, index: Sequence[Array]) -> list[Array]:
    places: list[Array] = []
    for axis, block in layout.order:
        at = index[axis] + layout.halo(axis).before
        places.append(at % block if block else at // layout.block(axis))
    return places


def _put(array: Array, place: tuple[Array, ...], values: Array, combine: Combine | None) -> None:
    if not array.ndim:
        array, place = array.reshape(1), (np.zeros(values.shape, np.int64),)
    if combine is not None:
        combine(array, place, values)
    else:
        array[place] = values
