"""Where an element lies: logical indices of a kernel's parameters as offsets in memory."""
from __future__ import annotations

from collections.abc import Sequence

from dlc.backends.cpu import types as t
from dlc.ir.dims import Dim, is_nonnegative
from dlc.ir.dtypes import DType
from dlc.lowering.expr import InRange
from dlc.lowering.kernel import Param

#: Storage in memory of each element type; sub-byte integers and bool take a byte.
_STORAGE: dict[DType, t.IRType] = {
    DType.F64: t.f64, DType.F32: t.f32, DType.F16: t.f16, DType.BF16: t.bf16,
    DType.I64: t.i64, DType.I32: t.i32, DType.I16: t.i16, DType.I8: t.i8,
    DType.U64: t.i64, DType.U32: t.i32, DType.U16: t.i16, DType.U8: t.i8,
    DType.I4: t.i8, DType.U4: t.i8, DType.I2: t.i8, DType.U2: t.i8, DType.BOOL: t.i8,
    DType.F8E4M3FN: t.i8, DType.F8E4M3FNUZ: t.i8, DType.F8E5M2: t.i8, DType.F8E5M2FNUZ: t.i8,
    DType.F8E8M0: t.i8, DType.F4E2M1: t.i8,
}


def storage_type(dtype: DType) -> t.IRType:
    """The LLVM type of one element in memory; KeyError for types without native storage."""
    return _STORAGE[dtype]


def has_storage(dtype: DType) -> bool:
    """Whether generated code can hold elements of `dtype`."""
    return dtype in _STORAGE


def register_type(dtype: DType) -> t.IRType:
    """The LLVM type of one element in a register: i1 for bool, else as in memory."""
    return t.i1 if dtype is DType.BOOL else _STORAGE[dtype]


def offset(param: Param, index: Sequence[Dim]) -> Dim:
    """The offset in elements of logical `index` from the parameter's pointer."""
    layout = param.type.layout
    physical = layout.physical_index(index) if layout else index
    total: Dim = 0
    for at, stride in zip(physical, param.physical_strides(), strict=True):
        total = total + at * stride
    return total


def covered_by_halo(param: Param, index: Sequence[Dim], mask: Sequence[InRange], other: float | None) -> tuple[InRange, ...]:
    """The conditions of `mask` that the parameter's halo does not make unnecessary.

    Where the halo of an axis holds the value `other` that a failing condition would give, and the index stays
    within the halo, the element can simply be read.
    """
    layout = param.type.layout
    if layout is None or other is None:
        return tuple(mask)
    kept = []
    for condition in mask:
        for axis, at in enumerate(index):
            halo = layout.halo(axis)
            extent = param.type.shape[axis]
            inside = (at is condition.index and condition.low == 0 and condition.high == extent
                      and halo.fill.number == other
                      and is_nonnegative(at + halo.before) and is_nonnegative(extent + halo.after - 1 - at))
            if inside:
                break
        else:
            kept.append(condition)
    return tuple(kept)
