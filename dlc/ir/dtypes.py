"""Element types: names, bit widths, NumPy storage and classes.

The names follow LLVM's habit (f32, i64, u8); the small floats keep ONNX's names. Sub-byte integers are
stored one element a byte in NumPy (ml_dtypes int4 and its kin) and packed only in files.
"""

from __future__ import annotations

import enum
import functools
from typing import Any

import ml_dtypes
import numpy as np


class Kind(enum.Enum):
    """The class of an element type, for rules that treat all its members alike."""

    FLOAT = "float"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    BOOL = "bool"
    COMPLEX = "complex"
    STRING = "string"


class DType(enum.Enum):
    """An element type; the value is (text name, bits, kind, NumPy scalar type)."""

    F64 = ("f64", 64, Kind.FLOAT, np.float64)
    F32 = ("f32", 32, Kind.FLOAT, np.float32)
    F16 = ("f16", 16, Kind.FLOAT, np.float16)
    BF16 = ("bf16", 16, Kind.FLOAT, ml_dtypes.bfloat16)
    F8E4M3FN = ("f8e4m3fn", 8, Kind.FLOAT, ml_dtypes.float8_e4m3fn)
    F8E4M3FNUZ = ("f8e4m3fnuz", 8, Kind.FLOAT, ml_dtypes.float8_e4m3fnuz)
    F8E5M2 = ("f8e5m2", 8, Kind.FLOAT, ml_dtypes.float8_e5m2)
    F8E5M2FNUZ = ("f8e5m2fnuz", 8, Kind.FLOAT, ml_dtypes.float8_e5m2fnuz)
    F8E8M0 = ("f8e8m0", 8, Kind.FLOAT, ml_dtypes.float8_e8m0fnu)
    F4E2M1 = ("f4e2m1", 4, Kind.FLOAT, ml_dtypes.float4_e2m1fn)
    I64 = ("i64", 64, Kind.SIGNED, np.int64)
    I32 = ("i32", 32, Kind.SIGNED, np.int32)
    I16 = ("i16", 16, Kind.SIGNED, np.int16)
    I8 = ("i8", 8, Kind.SIGNED, np.int8)
    I4 = ("i4", 4, Kind.SIGNED, ml_dtypes.int4)
    I2 = ("i2", 2, Kind.SIGNED, ml_dtypes.int2)
    U64 = ("u64", 64, Kind.UNSIGNED, np.uint64)
    U32 = ("u32", 32, Kind.UNSIGNED, np.uint32)
    U16 = ("u16", 16, Kind.UNSIGNED, np.uint16)
    U8 = ("u8", 8, Kind.UNSIGNED, np.uint8)
    U4 = ("u4", 4, Kind.UNSIGNED, ml_dtypes.uint4)
    U2 = ("u2", 2, Kind.UNSIGNED, ml_dtypes.uint2)
    BOOL = ("bool", 8, Kind.BOOL, np.bool_)
    C64 = ("c64", 64, Kind.COMPLEX, np.complex64)
    C128 = ("c128", 128, Kind.COMPLEX, np.complex128)
    STRING = ("string", 0, Kind.STRING, np.object_)

    @property
    def text(self) -> str:
        """The name in IR text."""
        text: str = self.value[0]
        return text

    @property
    def bits(self) -> int:
        """Bits of one element; 0 for strings. Bool takes a byte."""
        bits: int = self.value[1]
        return bits

    @property
    def kind(self) -> Kind:
        """The class of the type."""
        kind: Kind = self.value[2]
        return kind

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype that stores it."""
        dtype: np.dtype[Any] = np.dtype(self.value[3])
        return dtype

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory at run time (sub-byte types take a whole byte there)."""
        return max(self.bits, 8) // 8 if self.bits else 8

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type of any width."""
        return self.kind is Kind.FLOAT

    @property
    def is_integer(self) -> bool:
        """Whether it is a signed or unsigned integer; bool is not."""
        return self.kind in (Kind.SIGNED, Kind.UNSIGNED)

    def __repr__(self) -> str:
        return self.text

    def __lt__(self, other: DType) -> bool:
        return self.text < other.text


@functools.cache
def _by_text() -> dict[str, DType]:
    return {dtype.text: dtype for dtype in DType}


@functools.cache
def _by_numpy() -> dict[np.dtype[Any], DType]:
    return {dtype.numpy: dtype for dtype in DType}


def from_text(name: str) -> DType:
    """The type of that text name; KeyError when there is none."""
    return _by_text()[name]


def from_numpy(dtype: np.dtype[Any] | type) -> DType:
    """The element type that NumPy's `dtype` stores (str and bytes arrays are strings); KeyError otherwise."""
    dtype = np.dtype(dtype)
    if dtype.kind in "USO":
        return DType.STRING
    return _by_numpy()[dtype.newbyteorder("=")]
