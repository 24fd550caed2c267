"""TensorProto and SparseTensorProto to NumPy: every encoding of the standard, checked against the bytes
present.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlc.errors import Finding, ModelError, UnsupportedError
from dlc.frontend.onnx.external import ExternalData
from dlc.ir.dtypes import DType
from dlc.ir.operator import Array
from dlc.limits import Limits

if TYPE_CHECKING:
    from onnx import SparseTensorProto, TensorProto

#: TensorProto.DataType -> element type.
ELEMENT_TYPES: dict[int, DType] = {
    1: DType.F32,
    2: DType.U8,
    3: DType.I8,
    4: DType.U16,
    5: DType.I16,
    6: DType.I32,
    7: DType.I64,
    8: DType.STRING,
    9: DType.BOOL,
    10: DType.F16,
    11: DType.F64,
    12: DType.U32,
    13: DType.U64,
    14: DType.C64,
    15: DType.C128,
    16: DType.BF16,
    17: DType.F8E4M3FN,
    18: DType.F8E4M3FNUZ,
    19: DType.F8E5M2,
    20: DType.F8E5M2FNUZ,
    21: DType.U4,
    22: DType.I4,
    23: DType.F4E2M1,
    24: DType.F8E8M0,
    25: DType.U2,
    26: DType.I2,
}
_UNSUPPORTED = {27: "FLOAT6E2M3", 28: "FLOAT6E3M2"}

#: Element type -> the TensorProto field of its numbers when they are not raw bytes; int32_data otherwise.
_FIELDS = {
    DType.F32: "float_data",
    DType.C64: "float_data",
    DType.F64: "double_data",
    DType.C128: "double_data",
    DType.I64: "int64_data",
    DType.U64: "uint64_data",
    DType.U32: "uint64_data",
    DType.STRING: "string_data",
}
_DATA_FIELDS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")


def element_type(number: int, what: str) -> DType:
    """The element type of a TensorProto.DataType; ModelError or UnsupportedError naming `what` when there is
    none.
    """
    dtype = ELEMENT_TYPES.get(number)
    if dtype is None:
        if number in _UNSUPPORTED:
            name = _UNSUPPORTED[number]
            raise UnsupportedError(
                f"{what} has element type {name}, which dlc does not compile",
                findings=(Finding(what, "", "", 0, (name,), (), f"element type {name} is not supported"),),
            )
        raise ModelError(f"{what} has element type {number}, which ONNX does not define", code="model/type")
    return dtype


def checked_shape(dims: Sequence[int], dtype: DType, limits: Limits, what: str) -> tuple[int, ...]:
    """`dims` as a shape; ModelError for negative ones, LimitError when rank, elements or bytes are beyond
    `limits`.
    """
    shape = tuple(dims)
    if any(dim < 0 for dim in shape):
        raise ModelError(f"{what} has a negative dimension: {list(shape)}", code="model/type")
    limits.check("rank", len(shape), f"rank of {what}")
    # A zero extent makes a tensor empty, but the others must still fit into offsets.
    elements = math.prod(shape)
    limits.check("tensor_elements", max((elements, *shape)), f"elements of {what}")
    limits.check("tensor_bytes", elements * dtype.itemsize, f"bytes of {what}")
    return shape


class TensorReader:
    """Decodes the tensors of one model, counting their bytes against `limits.weight_bytes`."""

    def __init__(self, external: ExternalData, limits: Limits) -> None:
        self.external = external
        self.limits = limits
        self.total_bytes = 0

    def dense(self, tensor: TensorProto, what: str) -> Array:
        """The read-only content of `tensor`; `what` names it in errors ("initializer 'w'").

        Raises ModelError when the content contradicts type or shape, ExternalDataError, LimitError, and
        UnsupportedError for an element type that dlc lacks.
        """
        from onnx import TensorProto

        dtype = element_type(tensor.data_type, what)
        shape = checked_shape(tensor.dims, dtype, self.limits, what)
        if tensor.HasField("segment"):
            raise ModelError(f"{what} is a segment of a tensor, which ONNX no longer defines")
        self._count(math.prod(shape) * dtype.itemsize, what)
        present = [field for field in _DATA_FIELDS if len(getattr(tensor, field))]
        external = tensor.data_location == TensorProto.EXTERNAL
        if len(present) + tensor.HasField("raw_data") + external > 1:
            raise ModelError(f"{what} holds its content more than once")
        if external:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            packed = self.external.read(entries, _packed_bytes(dtype, shape), what)
            array = _unpack(packed, dtype, shape, what)
        elif tensor.HasField("raw_data"):
            array = _unpack(np.frombuffer(tensor.raw_data, dtype=np.uint8), dtype, shape, what)
        else:
            array = _from_field(tensor, present, dtype, shape, what)
        array = array.reshape(shape)
        array.flags.writeable = False
        return array

    def sparse(self, tensor: SparseTensorProto, what: str) -> Array:
        """The dense, read-only content of a sparse tensor (COO: values, and linear or per-axis indices)."""
        values = self.dense(tensor.values, f"values of {what}")
        indices = self.dense(tensor.indices, f"indices of {what}")
        dtype = element_type(tensor.values.data_type, what)
        shape = checked_shape(tensor.dims, dtype, self.limits, what)
        size = math.prod(shape)
        # Nothing in the file backs the zeros, so that the bound is the one for computed constants.
        self.limits.check("folded_tensor_bytes", size * dtype.itemsize, f"dense bytes of {what}")
        self._count(size * dtype.itemsize, what)
        if (
            values.ndim != 1
            or indices.dtype != np.int64
            or indices.shape not in (values.shape, (*values.shape, len(shape)))
        ):
            raise ModelError(
                f"{what} has values of shape {values.shape} but indices of shape {indices.shape}"
            )
        if indices.ndim == 2:
            if indices.size and ((indices < 0) | (indices >= np.array(shape))).any():
                raise ModelError(f"an index of {what} is outside of its shape {shape}")
            strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
            indices = indices @ np.array(strides, dtype=np.int64)
        if indices.size and not (indices.min() >= 0 and indices.max() < size):
            raise ModelError(f"an index of {what} is outside of its shape {shape}")
        if len(np.unique(indices)) < len(indices):
            raise ModelError(f"an index of {what} occurs twice")
        array = np.zeros(size, dtype=dtype.numpy)
        array[indices] = values
        array = array.reshape(shape)
        array.flags.writeable = False
        return array

    def _count(self, nbytes: int, what: str) -> None:
        self.total_bytes += nbytes
        self.limits.check("weight_bytes", self.total_bytes, f"bytes of all weights, up to {what}")


def _packed_bytes(dtype: DType, shape: Sequence[int]) -> int:
    """Bytes of a tensor in a file, where sub-byte elements are packed; 0 for strings, which files cannot
    hold.
    """
    return (math.prod(shape) * dtype.bits + 7) // 8


def _unpack(raw: Array, dtype: DType, shape: Sequence[int], what: str) -> Array:
    """Elements from the little-endian bytes `raw` (uint8), flat."""
    if dtype is DType.STRING:
        raise ModelError(f"{what} holds strings as raw bytes, which ONNX forbids")
    wanted = _packed_bytes(dtype, shape)
    if raw.size != wanted:
        raise ModelError(f"{what} holds {raw.size} bytes, but {dtype.text}{list(shape)} takes {wanted}")
    if dtype is DType.BOOL:
        return np.not_equal(raw, 0)
    if dtype.bits < 8:
        return _unpack_bits(raw, dtype, math.prod(shape))
    if sys.byteorder == "big":
        width = dtype.bits // (16 if dtype in (DType.C64, DType.C128) else 8)
        raw = raw.reshape(-1, width)[:, ::-1].reshape(-1)
    # Native code may rely on natural alignment, which an offset in an external file need not have.
    aligned = raw.ctypes.data % min(dtype.itemsize, 8) == 0
    return (raw if aligned else raw.copy()).view(dtype.numpy)


def _unpack_bits(raw: Array, dtype: DType, count: int) -> Array:
    """`count` elements of 2 or 4 bits, the first in the lowest bits of a byte."""
    per_byte = 8 // dtype.bits
    shifts = np.arange(per_byte, dtype=np.uint8) * dtype.bits
    codes = ((raw[:, None] >> shifts) & ((1 << dtype.bits) - 1)).astype(np.uint8).reshape(-1)[:count]
    if dtype is DType.F4E2M1:
        return codes.view(dtype.numpy)
    sign = 1 << (dtype.bits - 1)
    signed = dtype in (DType.I4, DType.I2)
    numbers = (codes ^ sign).astype(np.int8) - sign if signed else codes
    return numbers.astype(dtype.numpy)


def _from_field(
    tensor: TensorProto, present: Sequence[str], dtype: DType, shape: Sequence[int], what: str
) -> Array:
    """Elements from the typed repeated field that the standard names for `dtype`, flat."""
    field = _FIELDS.get(dtype, "int32_data")
    if present and present != [field]:
        raise ModelError(f"{what} is {dtype.text}, but its content is in {present[0]} instead of {field}")
    count = math.prod(shape)
    numbers = getattr(tensor, field)
    wanted = {DType.C64: 2 * count, DType.C128: 2 * count}.get(
        dtype, _packed_bytes(dtype, shape) if 0 < dtype.bits < 8 else count
    )
    if len(numbers) != wanted:
        raise ModelError(
            f"{what} holds {len(numbers)} elements in {field}, but {dtype.text}{list(shape)} takes {wanted}"
        )
    match dtype:
        case DType.STRING:
            return np.array([_utf8(text, what) for text in numbers], dtype=object)
        case DType.F32 | DType.F64 | DType.I64 | DType.U64 | DType.I32:
            return np.array(numbers, dtype=dtype.numpy)
        case DType.C64:
            return np.array(numbers, dtype=np.float32).view(np.complex64)
        case DType.C128:
            return np.array(numbers, dtype=np.float64).view(np.complex128)
        case DType.U32:
            return _narrowed(np.array(numbers, dtype=np.uint64), dtype, what)
        case DType.BOOL:
            return np.not_equal(np.array(numbers, dtype=np.int32), 0)
    codes = np.array(numbers, dtype=np.int32)
    if dtype.bits < 8:
        return _unpack_bits(codes.astype(np.uint8), dtype, count)
    if dtype.is_integer:
        return _narrowed(codes, dtype, what)
    # Small floats stand as their bit patterns.
    return codes.astype(np.uint8 if dtype.bits == 8 else np.uint16).view(dtype.numpy)


def _narrowed(numbers: Array, dtype: DType, what: str) -> Array:
    """`numbers` in a narrower integer type; ModelError when one does not fit."""
    narrow = numbers.astype(dtype.numpy)
    if not np.array_equal(narrow, numbers):
        raise ModelError(f"an element of {what} does not fit {dtype.text}")
    return narrow


def _utf8(text: bytes, what: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelError(f"a string of {what} is not UTF-8") from None
