"""The tensors of a model's interface, and how arrays of a call are checked against them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlc.api.arrays import Family, as_array
from dlc.errors import InputError, ShapeError, printable
from dlc.ir.dims import Dim, Symbol, evaluate, parse
from dlc.ir.dtypes import DType, from_text


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output: its ONNX name, NumPy dtype and shape, whose extents are numbers or expressions.

    One that is a sequence, map or optional has its type as text, such as ``seq<f32[?, 3]>``, the dtype of the
    tensors in it, and no shape.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    type: str = ""

    @property
    def is_object(self) -> bool:
        """Whether its values are anything else than arrays of numbers."""
        return bool(self.type) or self.dtype.kind == "O"

    def __str__(self) -> str:
        return f"{printable(self.name)}: {self.type or f'{self.dtype}{list(self.shape)}'}"


class InputBinder:
    """Checks one input's array and reads the symbols that its shape and elements determine.

    `sources` gives the number of the symbol that is the extent of an axis (input, axis), `elements` lists
    (element in row-major order, number of the symbol that it is).
    """

    def __init__(
        self,
        spec: TensorSpec,
        symbols: Mapping[str, Symbol],
        sources: Mapping[tuple[str, int], int],
        elements: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.spec = spec
        self.rank = len(spec.shape)
        self.dtype = spec.dtype
        self.fixed: list[tuple[int, int]] = []
        self.reads: list[tuple[int, int]] = []
        self.elements = tuple(elements)
        self.derived: list[tuple[int, Dim]] = []
        for axis, extent in enumerate(spec.shape):
            index = sources.get((spec.name, axis))
            if isinstance(extent, int):
                self.fixed.append((axis, extent))
            elif index is not None:
                self.reads.append((axis, index))
            else:
                self.derived.append((axis, parse(extent, symbols)))

    def take(self, value: Any) -> tuple[Any, Family | None]:
        """`value` as :meth:`check` gives it, and the library that it is of if not NumPy."""
        if type(value) is np.ndarray:
            return self.check(value), None
        array, family = as_array(self.spec.name, value, self.dtype)
        return self.check(array), family

    def check(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """`array` in C order, aligned; InputError or ShapeError when it does not fit."""
        self.require(array.dtype, array.shape)
        if array.dtype != self.dtype:
            array = array.astype(self.dtype)
        flags = array.flags
        return array if flags.c_contiguous and flags.aligned else np.array(array, order="C")

    def require(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        """InputError or ShapeError unless an array of that type, in any byte order, and shape fits."""
        if dtype != self.dtype and dtype.newbyteorder("=") != self.dtype:
            raise InputError(
                f"input {printable(self.spec.name)!r} must have dtype {self.dtype}, not {dtype}",
                hint=f"convert it: x.astype(numpy.{self.dtype})",
                code="input/dtype",
            )
        if len(shape) != self.rank or any(shape[axis] != extent for axis, extent in self.fixed):
            raise self._shape_error(shape)

    def check_derived(self, shape: tuple[int, ...], env: Mapping[str, int]) -> None:
        """ShapeError where an extent differs from what other extents imply."""
        for axis, dim in self.derived:
            if shape[axis] != evaluate(dim, env):
                raise self._shape_error(shape)

    def _shape_error(self, shape: tuple[int, ...]) -> ShapeError:
        wanted = ", ".join(str(extent) for extent in self.spec.shape)
        return ShapeError(
            f"input {printable(self.spec.name)!r} must have shape [{wanted}], not {list(shape)}"
        )


def numpy_dtype(text: str) -> np.dtype[Any]:
    """The NumPy dtype of an element type's text name."""
    dtype: DType = from_text(text)
    return dtype.numpy
