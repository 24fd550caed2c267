"""Element types as Triton holds them in registers, and constants of these types.

Types that Triton has not are held as their codes, as they lie in memory: integers of less than 8 bits (whose
upper bits of the byte count for nothing) and 8- and 4-bit floats in bytes, complex numbers in 64 bits. There
is no arithmetic on any of them.
"""

from __future__ import annotations

import math

import numpy as np

from dlc.errors import InternalError
from dlc.ir.dtypes import DType, Kind

#: The type that holds elements in registers. Those of f8e4m3fn need a GPU of compute capability 8.9.
REGISTER_TYPES = {
    DType.F64: "tl.float64",
    DType.F32: "tl.float32",
    DType.F16: "tl.float16",
    DType.BF16: "tl.bfloat16",
    DType.F8E4M3FN: "tl.float8e4nv",
    DType.F8E5M2: "tl.float8e5",
    DType.I64: "tl.int64",
    DType.I32: "tl.int32",
    DType.I16: "tl.int16",
    DType.I8: "tl.int8",
    DType.U64: "tl.uint64",
    DType.U32: "tl.uint32",
    DType.U16: "tl.uint16",
    DType.U8: "tl.uint8",
    DType.BOOL: "tl.int1",
    DType.F8E4M3FNUZ: "tl.uint8",
    DType.F8E5M2FNUZ: "tl.uint8",
    DType.F8E8M0: "tl.uint8",
    DType.F4E2M1: "tl.uint8",
    DType.I4: "tl.uint8",
    DType.I2: "tl.uint8",
    DType.U4: "tl.uint8",
    DType.U2: "tl.uint8",
    DType.C64: "tl.int64",
}


class NotInTriton(Exception):
    """Triton has no exact counterpart of an operation or type; `reason` says which, for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def register_type(dtype: DType) -> str:
    """The Triton type that holds `dtype`; NotInTriton where there is none."""
    if dtype not in REGISTER_TYPES:
        raise NotInTriton(f"Triton has no elements of type {dtype.text}")
    return REGISTER_TYPES[dtype]


def constant(value: float | int | bool | complex, dtype: DType) -> str:
    """A number of `dtype`, bit for bit. A float counts as rounded to `dtype`, as in `Const`.

    The number is a tensor without axes, never one of Python, whose type Triton would choose by its size.
    """
    held = register_type(dtype)
    if dtype is DType.BOOL:
        return f"tl.full((), {bool(value)}, tl.int1)"
    if dtype.is_integer:
        if not isinstance(value, int):
            raise InternalError(f"{value!r} is no {dtype.text}")
        number = int(value) if dtype.bits >= 8 else int(value) & ((1 << dtype.bits) - 1)
        return f"tl.full((), {number}, {held})"
    if dtype.kind is Kind.COMPLEX:
        return f"tl.full((), {int(np.asarray(value, dtype.numpy).view(np.int64))}, {held})"
    with np.errstate(over="ignore"):
        rounded = np.asarray(value, np.float64).astype(dtype.numpy)
    real = float(rounded)
    # Triton 3.6 loses the sign of a zero, has no constants of 8 bits, and does not interpret those of bf16.
    if dtype.bits <= 8 or dtype is DType.BF16 or (real == 0 and math.copysign(1, real) < 0):
        bits = int(rounded.view(f"u{dtype.itemsize}"))
        return f"tl.full((), {bits}, tl.uint{8 * dtype.itemsize}).to({held}, bitcast=True)"
    literal = repr(real) if math.isfinite(real) else f'float("{real}")'
    return f"tl.full((), {literal}, {held})"
