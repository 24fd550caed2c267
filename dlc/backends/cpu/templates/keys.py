"""Elements as integers in the same order, so that sorting and selecting compare integers only."""

from __future__ import annotations

from dlc.backends.cpu import semantics, types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.ir.dtypes import DType, Kind


def key_type(dtype: DType) -> t.IRType:
    """The type of the keys of elements of `dtype`."""
    return t.i64 if dtype.bits > 32 else t.i32


def ascending_key(b: FunctionBuilder, x: t.Value, dtype: DType) -> t.Value:
    """The signed integer that ascends with the element `x`, as it lies in memory, or with each of its lanes.

    0 and -0 have one key; so has every NaN, which counts as larger than every number.
    """
    wide = x.type.with_element(key_type(dtype))
    if dtype.is_float:
        if dtype.bits < 32:
            x = semantics.cast_float(b, x, x.type.with_element(t.f32))
        # Adding 0 makes 0 of -0. The bits of negative numbers descend as these ascend.
        bits = b.bitcast(b.fadd(x, 0.0), wide)
        key = b.xor(bits, b.lshr(b.ashr(bits, wide.bits - 1), 1))
        return b.select(b.fcmp("uno", x, x), (1 << (wide.bits - 1)) - 1, key)
    if dtype.kind is Kind.SIGNED:
        return b.sext(x, wide)
    key = b.zext(x, wide)
    if dtype in (DType.U32, DType.U64):
        key = b.xor(key, -(1 << (wide.bits - 1)))
    return key
