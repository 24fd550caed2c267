"""The tensors of a model's interface, and how arrays of a call are checked against them."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

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

    def take(self, value: Any) -> tuple[Any, bool]:
        """`value` as :meth:`check` gives it, and whether it is a torch tensor."""
        if type(value) is np.ndarray:
            return self.check(value), False
        array, is_torch = as_array(self.spec.name, value, self.dtype)
        return self.check(array), is_torch

    def check(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """`array` in C order, aligned; InputError or ShapeError when it does not fit."""
        if array.dtype != self.dtype:
            if array.dtype.newbyteorder("=") != self.dtype:
                raise InputError(
                    f"input {printable(self.spec.name)!r} must have dtype {self.dtype}, not {array.dtype}",
                    hint=f"convert it: x.astype(numpy.{self.dtype})",
                    code="input/dtype",
                )
            array = array.astype(self.dtype)
        shape = array.shape
        if len(shape) != self.rank:
            raise self._shape_error(shape)
        for axis, extent in self.fixed:
            if shape[axis] != extent:
                raise self._shape_error(shape)
        flags = array.flags
        return array if flags.c_contiguous and flags.aligned else np.array(array, order="C")

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


def as_array(name: str, value: Any, dtype: np.dtype[Any]) -> tuple[np.ndarray[Any, Any], bool]:
    """`value` as a NumPy array without a copy where possible, and whether it is a torch tensor.

    Python's numbers and lists of them take the input's `dtype` where that is of the same kind. Raises
    InputError for everything that is no array in this machine's memory.
    """
    if isinstance(value, np.ndarray):
        return value, False
    kind = type(value).__module__.partition(".")[0]
    try:
        if kind == "torch":
            return _from_torch(name, value), True
        if isinstance(value, np.generic):
            return np.asarray(value), False
        if isinstance(value, int | float | bool | list | tuple):
            return _from_python(value, dtype), False
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value), False
    except (BufferError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"input {printable(name)!r} cannot be read: {printable(str(error))}", code="input/array"
        ) from None
    raise InputError(
        f"input {printable(name)!r} must be an array or tensor, not {type(value).__name__}",
        code="input/array",
    )


def _from_python(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    convertible = array.dtype.kind in "biuf" and np.can_cast(array.dtype, dtype, "same_kind")
    return array.astype(dtype) if convertible or array.size == 0 else array


def _from_torch(name: str, tensor: Any) -> np.ndarray[Any, Any]:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise InputError(
            f"input {printable(name)!r} must be an array or tensor, not {type(tensor).__name__}",
            code="input/array",
        )
    if tensor.requires_grad:
        raise InputError(
            f"input {printable(name)!r} requires gradients", hint="pass tensor.detach()", code="input/array"
        )
    if tensor.device.type != "cpu":
        raise InputError(
            f"input {printable(name)!r} lies on {tensor.device}", hint="pass tensor.cpu()", code="input/array"
        )
    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        bits: np.ndarray[Any, Any] = tensor.contiguous().view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    array: np.ndarray[Any, Any] = tensor.numpy()
    return array


def to_torch(array: np.ndarray[Any, Any]) -> Any:
    """A torch tensor over the array's memory."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def numpy_dtype(text: str) -> np.dtype[Any]:
    """The NumPy dtype of an element type's text name."""
    dtype: DType = from_text(text)
    return dtype.numpy


#: A view of no bytes of an array, which has its address.
_START: Any = (ctypes.c_char * 0).from_buffer


def address(array: np.ndarray[Any, Any]) -> int:
    """The address of an array's first element.

    By the buffer interface, a quarter of the time of `array.ctypes`, where that works: not for read-only
    arrays and for dtypes that buffers do not know.
    """
    try:
        return ctypes.addressof(_START(array))
    except (TypeError, ValueError):
        return int(array.ctypes.data)
