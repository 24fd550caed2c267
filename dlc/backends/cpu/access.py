"""Where an element lies: logical indices of a kernel's parameters as offsets in memory."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from dlc.backends.cpu import types as t
from dlc.ir.dims import Dim, FloorDiv, free_symbols, is_nonnegative, linear, substitute, terms_of
from dlc.ir.dtypes import DType
from dlc.lowering.expr import InRange
from dlc.lowering.kernel import Param

#: Storage in memory of each element type; sub-byte integers and bool take a byte, complex numbers are bits.
_STORAGE: dict[DType, t.IRType] = {
    DType.F64: t.f64,
    DType.F32: t.f32,
    DType.F16: t.f16,
    DType.BF16: t.bf16,
    DType.I64: t.i64,
    DType.I32: t.i32,
    DType.I16: t.i16,
    DType.I8: t.i8,
    DType.U64: t.i64,
    DType.U32: t.i32,
    DType.U16: t.i16,
    DType.U8: t.i8,
    DType.I4: t.i8,
    DType.U4: t.i8,
    DType.I2: t.i8,
    DType.U2: t.i8,
    DType.BOOL: t.i8,
    DType.F8E4M3FN: t.i8,
    DType.F8E4M3FNUZ: t.i8,
    DType.F8E5M2: t.i8,
    DType.F8E5M2FNUZ: t.i8,
    DType.F8E8M0: t.i8,
    DType.F4E2M1: t.i8,
    DType.C64: t.i64,
    DType.C128: t.i128,
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


def register_number(dtype: DType, value: float | int | bool) -> float | int:
    """What a register holds for a constant: the number itself, or the code of a small type."""
    if dtype.bits >= 16 or (dtype.bits == 8 and not dtype.is_float):
        return value
    if dtype.is_integer:
        return int(value) & ((1 << dtype.bits) - 1)
    return int(np.asarray(value).astype(dtype.numpy).view(np.uint8))


def offset(param: Param, index: Sequence[Dim]) -> Dim:
    """The offset in elements of logical `index` from the parameter's pointer."""
    return _offset(param, tuple(index))


@functools.lru_cache(maxsize=4096)  # the values of a register tile are stored at one index, axes set anew
def _offset(param: Param, index: tuple[Dim, ...]) -> Dim:
    layout = param.type.layout
    physical = layout.physical_index(index) if layout else index
    total: Dim = 0
    for at, stride in zip(physical, param.physical_strides(), strict=True):
        total = total + at * stride
    return total


def covered_by_halo(
    param: Param,
    index: Sequence[Dim],
    mask: Sequence[InRange],
    other: float | None,
    extents: Mapping[str, Dim] = MappingProxyType({}),
) -> tuple[InRange, ...]:
    """The conditions of `mask` that the parameter's halo does not make unnecessary.

    Where an index stays within its axis, or within a halo that holds the value `other` which a failing
    condition would give, the element can simply be read. `extents` gives the extents of the kernel's axes.
    """
    return tuple(m for m in mask if not _covered(param, index, m, other, extents))


def _covered(
    param: Param, index: Sequence[Dim], condition: InRange, other: float | None, extents: Mapping[str, Dim]
) -> bool:
    layout = param.type.layout
    for axis, at in enumerate(index):
        extent = param.type.shape[axis]
        if at != condition.index or condition.low != 0 or condition.high != extent:
            continue
        lowest, highest = extremes(at, extents)
        halo = layout.halo(axis) if layout else None
        before, after = (halo.before, halo.after) if halo and halo.fill.number == other else (0, 0)
        if not is_nonnegative(lowest + before):
            continue
        last = extent + after - 1
        if is_nonnegative(last - highest) or is_nonnegative(last - _without_factors(highest)):
            return True
    return False


def _without_factors(dim: Dim) -> Dim:
    """A bound of `dim` from above: c * floor(a / (c * d)) replaced by floor(a / d)."""
    bound = dim
    for monomial, factor in terms_of(dim)[0]:
        divisor = monomial.divisor if isinstance(monomial, FloorDiv) else None
        if not isinstance(monomial, FloorDiv) or not isinstance(divisor, int) or factor < 2:
            continue
        if divisor % factor == 0:
            bound = bound - factor * monomial + monomial.dividend // (divisor // factor)
    return bound


def extremes(index: Dim, extents: Mapping[str, Dim]) -> tuple[Dim, Dim]:
    """The least and greatest value of an affine index over axes of these extents (the index itself
    otherwise).
    """
    low = high = index
    for symbol in sorted(free_symbols(index), key=lambda s: s.name):
        if symbol.name not in extents:
            continue
        affine = linear(high, symbol), linear(low, symbol)
        if affine[0] is None or affine[1] is None or not isinstance(affine[0][0], int):
            return index, index
        ends = {symbol.name: extents[symbol.name] - 1}, {symbol.name: 0}
        up, down = ends if affine[0][0] > 0 else (ends[1], ends[0])
        high, low = substitute(high, up), substitute(low, down)
    return low, high
