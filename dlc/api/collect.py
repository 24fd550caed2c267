"""Outputs that a run makes: those whose extents it decides, copied out of its memory, and objects."""

from __future__ import annotations

import ctypes
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlc.api.hosts import HostRunner
from dlc.api.specs import TensorSpec
from dlc.errors import ResourceError, ShapeError, printable
from dlc.ir.dims import Dim, Symbol, evaluate, parse
from dlc.runtime.call import RunState


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One output: its position, the growing storage that holds it, its type."""

    output: int
    storage: int
    spec: TensorSpec
    shape: tuple[Dim, ...]


class Collector:
    """Makes the arrays of the outputs that lie in growing storages, given by `grown` (-1: not in one), and
    takes those that are `objects` (-1: no object) from the entries of the table that they lie in.

    `symbols` are those of the model in the order of `RunState.symbols`.
    """

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        grown: Sequence[int],
        symbols: Mapping[str, Symbol],
        objects: Sequence[int] = (),
    ) -> None:
        self._objects = {index: slot for index, slot in enumerate(objects) if slot >= 0}
        self._symbols = tuple(symbols)
        self._entries = tuple(
            _Entry(index, storage, spec, tuple(_dim(extent, symbols) for extent in spec.shape))
            for index, (spec, storage) in enumerate(zip(specs, grown))
            if storage >= 0
        )

    @property
    def outputs(self) -> tuple[int, ...]:
        """The positions of the outputs that it makes."""
        return (*(entry.output for entry in self._entries), *self._objects)

    def __call__(self, state: RunState) -> dict[int, Any]:
        """The outputs by position; to be called while `state` lasts."""
        made: dict[int, Any] = {}
        if self._entries:
            env = dict(zip(self._symbols, state.symbols))
            made = {entry.output: self._array(entry, env, state) for entry in self._entries}
        if self._objects:
            assert isinstance(state.host, HostRunner)
            made |= {index: state.host.result(slot) for index, slot in self._objects.items()}
        return made

    def _array(self, entry: _Entry, env: Mapping[str, int], state: RunState) -> np.ndarray[Any, Any]:
        shape = tuple(evaluate(dim, env) for dim in entry.shape)
        name = printable(entry.spec.name)
        if any(extent < 0 for extent in shape):
            raise ShapeError(f"output {name!r} would have shape {list(shape)}")
        try:
            array = np.empty(shape, entry.spec.dtype)
        except MemoryError as error:
            raise ResourceError(f"there is not enough memory for output {name!r} of shape {shape}") from error
        address, size = state.storages[entry.storage]
        if math.prod(shape):
            assert array.nbytes <= size
            ctypes.memmove(array.ctypes.data, address, array.nbytes)
        return array


def _dim(extent: int | str, symbols: Mapping[str, Symbol]) -> Dim:
    return extent if isinstance(extent, int) else parse(extent, symbols)
