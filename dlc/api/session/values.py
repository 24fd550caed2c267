"""OrtValue: an array with onnxruntime's methods, and ONNX's names of element types."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

from dlc.api.arrays import address
from dlc.api.dlpack import CPU, exporter, from_dlpack
from dlc.api.specs import numpy_dtype
from dlc.errors import InputError, printable

Array = np.ndarray[Any, Any]

#: ONNX's name in type strings and number (TensorProto.DataType) of each element type, by NumPy name.
_ELEMENTS: dict[str, tuple[str, int]] = {
    "float32": ("float", 1),
    "uint8": ("uint8", 2),
    "int8": ("int8", 3),
    "uint16": ("uint16", 4),
    "int16": ("int16", 5),
    "int32": ("int32", 6),
    "int64": ("int64", 7),
    "object": ("string", 8),
    "bool": ("bool", 9),
    "float16": ("float16", 10),
    "float64": ("double", 11),
    "uint32": ("uint32", 12),
    "uint64": ("uint64", 13),
    "complex64": ("complex64", 14),
    "complex128": ("complex128", 15),
    "bfloat16": ("bfloat16", 16),
    "float8_e4m3fn": ("float8e4m3fn", 17),
    "float8_e4m3fnuz": ("float8e4m3fnuz", 18),
    "float8_e5m2": ("float8e5m2", 19),
    "float8_e5m2fnuz": ("float8e5m2fnuz", 20),
    "uint4": ("uint4", 21),
    "int4": ("int4", 22),
    "float4_e2m1fn": ("float4e2m1", 23),
    "float8_e8m0fnu": ("float8e8m0", 24),
    "uint2": ("uint2", 25),
    "int2": ("int2", 26),
}
_BY_NUMBER = {number: name for name, (_, number) in _ELEMENTS.items()}


def type_string(dtype: np.dtype[Any]) -> str:
    """onnxruntime's text for a tensor of `dtype`, such as "tensor(float)"."""
    return f"tensor({_ELEMENTS[dtype.name][0]})"


def object_type_string(text: str) -> str:
    """onnxruntime's text for a type that dlc writes as `text`: "seq(map(string,tensor(float)))"."""

    def tensor(found: re.Match[str]) -> str:
        return type_string(numpy_dtype(found[1]))

    def mapping(found: re.Match[str]) -> str:
        return f"map({_ELEMENTS[numpy_dtype(found[1]).name][0]},{type_string(numpy_dtype(found[2]))})"

    text = re.sub(r"(\w+)\[[^]]*\]", tensor, text)
    text = re.sub(r"map<(\w+), (\w+)>", mapping, text)
    return text.replace("<", "(").replace(">", ")")


def element_dtype(element_type: Any) -> np.dtype[Any]:
    """The dtype that a NumPy type or an ONNX element type number names; InputError for anything else."""
    try:
        if isinstance(element_type, int) and not isinstance(element_type, bool):
            name = _BY_NUMBER[element_type]
            element_type = getattr(ml_dtypes, name, name)
        dtype: np.dtype[Any] = np.dtype(element_type)
        return dtype
    except (KeyError, TypeError):
        raise InputError(
            f"{printable(repr(element_type))} is no element type", code="input/option"
        ) from None


def require_cpu(device_type: str) -> None:
    """InputError unless `device_type` is the CPU, where all arrays of dlc lie."""
    if device_type.lower() != "cpu":
        raise InputError(
            f"dlc runs on the CPU; it cannot bind memory of {printable(repr(device_type))}",
            hint="pass device_type='cpu'",
            code="input/option",
        )


def at_address(pointer: int, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """The memory at an address as an array; whoever gave the address keeps the memory."""
    extents = tuple(int(extent) for extent in shape)
    size = int(np.prod(extents, dtype=np.int64)) * dtype.itemsize
    if any(extent < 0 for extent in extents) or (size and not pointer):
        raise InputError(f"no array of shape {list(extents)} lies at {pointer}", code="input/array")
    if not size:
        return np.empty(extents, dtype)
    memory = (ctypes.c_uint8 * size).from_address(pointer)
    array: Array = np.ctypeslib.as_array(memory).view(dtype).reshape(extents)
    return array


class OrtValue:
    """A tensor in this machine's memory, made by the factory methods below."""

    def __init__(self, array: Array) -> None:
        self._array = array

    @classmethod
    def ortvalue_from_numpy(
        cls, numpy_obj: Array, /, device_type: str = "cpu", device_id: int = 0, vendor_id: int = -1
    ) -> OrtValue:
        """A value over the array's own memory, or over a contiguous copy."""
        require_cpu(device_type)
        return cls(np.ascontiguousarray(numpy_obj).reshape(np.shape(numpy_obj)))

    @classmethod
    def ortvalue_from_shape_and_type(
        cls,
        shape: Sequence[int],
        element_type: Any,
        device_type: str = "cpu",
        device_id: int = 0,
        vendor_id: int = -1,
    ) -> OrtValue:
        """A value with memory of its own, which holds zeros."""
        require_cpu(device_type)
        return cls(np.zeros(tuple(shape), element_dtype(element_type)))

    @classmethod
    def from_dlpack(cls, data: Any, /) -> OrtValue:
        """A value over the memory of any object with the DLPack protocol."""
        try:
            return cls(from_dlpack(data))
        except Exception as error:  # whatever other libraries raise
            raise InputError(f"no DLPack tensor: {printable(str(error))}", code="input/array") from None

    def numpy(self) -> Array:
        """The tensor as an array over the same memory."""
        return self._array

    def update_inplace(self, np_arr: Array) -> None:
        """Overwrite the tensor by an array of the same shape and dtype."""
        if np_arr.shape != self._array.shape or np_arr.dtype != self._array.dtype:
            raise InputError(
                f"the value is {self._array.dtype}{list(self._array.shape)}, "
                f"not {np_arr.dtype}{list(np_arr.shape)}",
                code="input/array",
            )
        self._array[...] = np_arr

    def data_ptr(self) -> int:
        """The address of the first element."""
        return address(self._array)

    def device_name(self) -> str:
        """ "cpu": where the tensor lies."""
        return "cpu"

    def shape(self) -> list[int]:
        """The extents."""
        return list(self._array.shape)

    def data_type(self) -> str:
        """The type as text, "tensor(float)"."""
        return type_string(self._array.dtype)

    def element_type(self) -> int:
        """The element type's number in ONNX (TensorProto.DataType)."""
        return _ELEMENTS[self._array.dtype.name][1]

    def tensor_size_in_bytes(self) -> int:
        """Bytes of all elements."""
        return self._array.nbytes

    def has_value(self) -> bool:
        """True: dlc has no absent values at its interface."""
        return True

    def is_tensor(self) -> bool:
        """True: every value is a tensor."""
        return True

    def is_tensor_sequence(self) -> bool:
        """False: every value is a tensor."""
        return False

    def is_sparse_tensor(self) -> bool:
        """False: tensors are dense."""
        return False

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self._array, dtype) if not copy else np.array(self._array, dtype)

    def __dlpack__(self, **arguments: Any) -> Any:
        return exporter(self._array).__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU
