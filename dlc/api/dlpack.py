"""DLPack: tensors of other libraries as NumPy arrays over the same memory, and back.

NumPy reads and writes DLPack itself, but not bfloat16 and the floats of eight bits, which are ml_dtypes here.
The structures are those of dlpack.h, https://dmlc.github.io/dlpack/latest/c_api.html.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

#: The version of the protocol that is asked for and given.
VERSION = (1, 0)

#: Kinds of memory that the CPU reads: its own, and that of CUDA and ROCm on the host's side.
_READABLE = {1, 3, 11, 13}

#: (kind, index) of the CPU's memory.
CPU = (1, 0)

#: (DLDataTypeCode, bits) of each type that NumPy has or ml_dtypes adds.
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {
    **{(0, bits): np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{(1, bits): np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{(2, bits): np.dtype(f"f{bits // 8}") for bits in (16, 32, 64)},
    **{(5, bits): np.dtype(f"c{bits // 8}") for bits in (64, 128)},
    (6, 8): np.dtype(bool),
    (4, 16): np.dtype(ml_dtypes.bfloat16),
    (7, 8): np.dtype(ml_dtypes.float8_e3m4),
    (8, 8): np.dtype(ml_dtypes.float8_e4m3),
    (9, 8): np.dtype(ml_dtypes.float8_e4m3b11fnuz),
    (10, 8): np.dtype(ml_dtypes.float8_e4m3fn),
    (11, 8): np.dtype(ml_dtypes.float8_e4m3fnuz),
    (12, 8): np.dtype(ml_dtypes.float8_e5m2),
    (13, 8): np.dtype(ml_dtypes.float8_e5m2fnuz),
    (14, 8): np.dtype(ml_dtypes.float8_e8m0fnu),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

#: Flag of a tensor that must not be written.
_READ_ONLY = 1


class _Device(Structure):
    _fields_ = (("type", c_int32), ("id", c_int32))


class _DataType(Structure):
    _fields_ = (("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16))


class _Tensor(Structure):
    _fields_ = (
        ("data", c_void_p),
        ("device", _Device),
        ("rank", c_int32),
        ("dtype", _DataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


_DELETER = ctypes.CFUNCTYPE(None, c_void_p)


class _Managed(Structure):
    """DLManagedTensor, in capsules named "dltensor"."""

    _fields_ = (("tensor", _Tensor), ("context", c_void_p), ("deleter", c_void_p))


class _Versioned(Structure):
    """DLManagedTensorVersioned, in capsules named "dltensor_versioned"."""

    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", _Tensor),
    )


#: Names of capsules and of those that were taken. Capsules keep pointers to them.
_NAMES: dict[bytes, tuple[bytes, type[_Managed | _Versioned]]] = {
    b"dltensor_versioned": (b"used_dltensor_versioned", _Versioned),
    b"dltensor": (b"used_dltensor", _Managed),
}

_DESTRUCTOR = ctypes.PYFUNCTYPE(None, c_void_p)


def _python(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the interpreter."""
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_is_valid = _python("PyCapsule_IsValid", ctypes.c_int, ctypes.py_object, c_char_p)
_pointer_of = _python("PyCapsule_GetPointer", c_void_p, ctypes.py_object, c_char_p)
_rename = _python("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, c_char_p)
_new = _python("PyCapsule_New", ctypes.py_object, c_void_p, c_char_p, _DESTRUCTOR)
# A destructor is called with a capsule that nobody may take a reference to any more.
_is_valid_raw = _python("PyCapsule_IsValid", ctypes.c_int, c_void_p, c_char_p)
_pointer_of_raw = _python("PyCapsule_GetPointer", c_void_p, c_void_p, c_char_p)


class _Memory:
    """What an array over a tensor's memory refers to: gives the tensor back at the end of its life."""

    def __init__(self, capsule: Any) -> None:
        name = next((name for name in _NAMES if _is_valid(capsule, name)), None)
        if name is None:
            raise TypeError("__dlpack__ returned no capsule, or one that was taken before")
        used, structure = _NAMES[name]
        pointer = _pointer_of(capsule, name)
        managed = structure.from_address(pointer)
        self._pointer: int = pointer
        self._give_back = _DELETER(managed.deleter) if managed.deleter else None
        _rename(capsule, used)
        self.is_read_only = False
        if isinstance(managed, _Versioned):
            if managed.major != VERSION[0]:
                raise BufferError(f"DLPack version {managed.major} is not known")
            self.is_read_only = bool(managed.flags & _READ_ONLY)
        self.tensor: _Tensor = managed.tensor

    def __del__(self) -> None:
        give_back = getattr(self, "_give_back", None)
        if give_back is not None:
            give_back(self._pointer)


def from_dlpack(value: Any) -> Array:
    """The tensor that `value` offers by DLPack as an array over its memory.

    Raises BufferError for one in memory that cannot be read here, or of a type that NumPy and ml_dtypes do
    not have, and what `value` raises.
    """
    kind, index = value.__dlpack_device__()
    if kind not in _READABLE:
        raise BufferError(f"it lies on device {int(kind)}:{int(index)} of DLPack, not in the CPU's memory")
    try:
        capsule = value.__dlpack__(max_version=VERSION)
    except TypeError:  # from before version 1
        capsule = value.__dlpack__()
    memory = _Memory(capsule)
    tensor = memory.tensor
    dtype = _dtype(tensor.dtype)
    shape = tuple(tensor.shape[: tensor.rank])
    if 0 in shape:
        return np.empty(shape, dtype)
    strides = tuple(tensor.strides[: tensor.rank]) if tensor.strides else None
    array = np.asarray(_Interface(memory, shape, strides, dtype.itemsize))
    return array.view(dtype)[..., 0]


class _Interface:
    """A tensor as bytes for NumPy, which keeps this object as long as the array."""

    def __init__(
        self, memory: _Memory, shape: tuple[int, ...], strides: tuple[int, ...] | None, size: int
    ) -> None:
        self._memory = memory
        address = (memory.tensor.data or 0) + memory.tensor.byte_offset
        inner = None if strides is None else (*(stride * size for stride in strides), 1)
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": (*shape, size),
            "strides": inner,
            "data": (address, memory.is_read_only),
        }


def _dtype(found: _DataType) -> np.dtype[Any]:
    dtype = _DTYPES.get((found.code, found.bits)) if found.lanes == 1 else None
    if dtype is None:
        description = f"DLPack code {found.code}, {found.bits} bits, {found.lanes} lanes"
        raise BufferError(f"its type ({description}) is not known")
    return dtype


def exporter(array: Array) -> Any:
    """`array`, or an object in its place, with methods for DLPack that know its dtype.

    BufferError for a dtype that DLPack has not.
    """
    if array.dtype.isbuiltin == 1:
        return array
    if array.dtype not in _CODES:
        raise BufferError(f"DLPack has no {array.dtype}")
    return _Exported(array)


class _Exported:
    """An array with DLPack's methods, for a dtype that NumPy's own methods refuse."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU

    def __dlpack__(self, *, max_version: tuple[int, int] | None = None, **_: Any) -> Any:
        if max_version is None or max_version[0] < VERSION[0]:
            return self._capsule(_Managed(), b"dltensor")
        return self._capsule(_Versioned(*VERSION), b"dltensor_versioned")

    def _capsule(self, managed: Any, name: bytes) -> Any:
        array = self._array
        code, bits = _CODES[array.dtype]
        shape = (c_int64 * array.ndim)(*array.shape)
        strides = (c_int64 * array.ndim)(*(stride // array.itemsize for stride in array.strides))
        managed.tensor = _Tensor(
            array.ctypes.data, _Device(*CPU), array.ndim, _DataType(code, bits, 1), shape, strides, 0
        )
        managed.deleter = ctypes.cast(_delete, c_void_p)
        pointer = ctypes.addressof(managed)
        _given[pointer] = (managed, array, shape, strides)
        return _new(pointer, name, _destroy)


#: What was given away and not given back: address of the structure -> all that it points to.
_given: dict[int, Any] = {}


def _forget(pointer: int) -> None:
    """Deleter of the structures: whoever took one does not need it any more."""
    del _given[pointer]


def _abandon(capsule: int) -> None:
    """Destructor of the capsules: if nobody took the structure out of it, nobody will."""
    for name in _NAMES:
        if _is_valid_raw(capsule, name):
            del _given[_pointer_of_raw(capsule, name)]


_delete = _DELETER(_forget)
_destroy = _DESTRUCTOR(_abandon)
