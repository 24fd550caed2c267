"""Elements as integers in the same order, so that sorting and selecting compare integers only."""

from __future__ import annotations

from dlc.backends.triton.conversions import cast
from dlc.ir.dtypes import DType, Kind
from dlc.lowering.expr import CastMode

#: The helpers: 0 and -0 have one key; so has every NaN, which counts as larger than every number.
ORDER_KEYS = '''
@triton.jit
def key_of_f32(x):
    """The i32 that ascends with an f32; that of NaN is the largest."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    return tl.where(x == x, bits ^ ((bits >> 31) & 0x7FFFFFFF), 0x7FFFFFFF)

@triton.jit
def key_of_f64(x):
    """The i64 that ascends with an f64; that of NaN is the largest."""
    bits = (x + 0.0).to(tl.int64, bitcast=True)
    return tl.where(x == x, bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF), 0x7FFFFFFFFFFFFFFF)

@triton.jit
def key_of_u32(x):
    """The i32 that ascends with a u32."""
    return x.to(tl.int32, bitcast=True) ^ -2147483648

@triton.jit
def key_of_u64(x):
    """The i64 that ascends with a u64."""
    return x.to(tl.int64, bitcast=True) ^ -9223372036854775808
'''


def ascending_key(dtype: DType, x: str) -> str:
    """The source of the i32, or i64 for types of 64 bits, that ascends with an element."""
    if dtype.is_float:
        wide = dtype if dtype is DType.F64 else DType.F32
        return f"key_of_{wide.text}({cast(dtype, wide, CastMode.RNE, x)})"
    if dtype in (DType.U32, DType.U64):
        return f"key_of_{dtype.text}({x})"
    if dtype is DType.BOOL or dtype.bits < 32:
        return cast(dtype, DType.I32, CastMode.WRAP, x)
    assert dtype.kind is Kind.SIGNED
    return x
