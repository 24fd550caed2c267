"""Conversions of elements as Triton source: every `Cast` of the kernel IR between types that Triton has.

Floats of 16 bits and less are converted to and from f32 (f64 to f16 directly). Triton rounds to nearest even.
What lies beyond the range of an 8-bit float is set apart: Triton's conversion may saturate or not. Those of
f8e5m2 are helpers, because on GPUs before sm_89 Triton 3.6 rounds otherwise, or not at all. A float out of
the range of an integer type is never given to Triton's conversion, which leaves it undefined.

Types that are held as codes go through others: integers of less than 8 bits through i8 or u8, floats through
f32, by integer arithmetic.
"""

from __future__ import annotations

from dlc.backends.triton.elements import NotInTriton, register_type
from dlc.ir.dtypes import DType, Kind
from dlc.lowering.expr import CastMode
from dlc.lowering.scalar import integer_range

#: Codes of the largest number, and of what is beyond the range (infinity or NaN).
_BEYOND = {
    DType.F8E4M3FN: (0x7E, 0x7F),
    DType.F8E5M2: (0x7B, 0x7C),
    DType.F8E4M3FNUZ: (0x7F, 0x80),
    DType.F8E5M2FNUZ: (0x7F, 0x80),
    DType.F8E8M0: (0xFE, 0xFF),
    DType.F4E2M1: (0x7, 0x7),
}
#: Floats that helpers convert to f32.
_DECODED = _BEYOND.keys() - {DType.F8E4M3FN}


def cast(source: DType, target: DType, mode: CastMode, operand: str) -> str:
    """`operand`, whose elements are `source` numbers, as `target`; see CastMode."""
    register_type(source)  # refuses types that Triton has not
    wanted = register_type(target)
    if Kind.COMPLEX in (source.kind, target.kind) and source is not target:
        raise NotInTriton(f"Triton has no conversion of {source.text} to {target.text}")
    if source is target:
        return operand
    if mode is CastMode.BITS:
        return _same_bits(source, target, wanted, operand)
    if source.is_float and source.bits < 32:
        single = f"from_{source.text}({operand})" if source in _DECODED else f"{operand}.to(tl.float32)"
        return cast(DType.F32, target, mode, single)
    if source.is_integer and source.bits < 8:
        byte = DType.I8 if source.kind is Kind.SIGNED else DType.U8
        return cast(byte, target, mode, _whole_byte(source, operand))
    if target is DType.BOOL:
        return f"({operand} != 0)"
    if target.is_float:
        return _to_float(source, target, mode, operand)
    if source.is_float:
        return _float_to_integer(target, mode, operand)
    if mode is CastMode.SATURATE and source is not DType.BOOL:
        operand = _clamped(source, target, operand)
    return _low_bits(operand, target)


def _whole_byte(source: DType, operand: str) -> str:
    """A code of an integer type of less than 8 bits as an i8 or u8."""
    mask = (1 << source.bits) - 1
    if source.kind is Kind.UNSIGNED:
        return f"({operand} & {mask})"
    sign = 1 << (source.bits - 1)
    return f"((({operand} & {mask}) ^ {sign}).to(tl.int8) - {sign})"


def _low_bits(number: str, target: DType) -> str:
    """The low bits of an integer as `target`."""
    held = f"{number}.to({register_type(target)})"
    return held if target.bits >= 8 else f"({held} & {(1 << target.bits) - 1})"


def _same_bits(source: DType, target: DType, wanted: str, operand: str) -> str:
    if source.bits < 8:
        return operand
    if target is DType.BOOL:
        unsigned = operand if source.is_integer else f"{operand}.to(tl.uint8, bitcast=True)"
        return f"({unsigned} != 0)"
    if source is DType.BOOL:
        byte = f"{operand}.to(tl.uint8)"
        return byte if target is DType.U8 else f"{byte}.to({wanted}, bitcast=True)"
    return f"{operand}.to({wanted}, bitcast=True)"


def _to_float(source: DType, target: DType, mode: CastMode, operand: str) -> str:
    """A number of f32, f64, bool or an integer type as a float."""
    if target.bits >= 32 or (source is DType.F64 and target is DType.F16):
        return f"{operand}.to({register_type(target)})"
    if source is DType.F64:
        single = f"round_to_odd({operand})"
    elif source is DType.F32:
        single = operand
    elif target is DType.F8E8M0 and source.bits >= 32:
        # Powers of two are rounded up to: no number may become one on the way.
        single = f"round_to_odd({operand}.to(tl.float64))"
    elif source.bits < 32:
        single = f"{operand}.to(tl.float32)"
    else:
        # Integers are rounded to f32 first. Without the sum, Triton would merge the two conversions.
        single = f"({operand}.to(tl.float32) + 0.0)"
    if target in _BEYOND:
        largest, overflow = _BEYOND[target]
        return f"to_{target.text}({single}, {largest if mode is CastMode.SATURATE else overflow})"
    return f"{single}.to({register_type(target)})"


def _float_to_integer(target: DType, mode: CastMode, operand: str) -> str:
    """A number of f32 or f64 as an integer."""
    if mode is CastMode.RNE:
        operand = f"libdevice.rint({operand})"
    if target.bits >= 32:
        function = "wrap_to" if mode is CastMode.WRAP else "saturate_to"
        return f"{function}_{target.text}({operand})"
    if mode is CastMode.WRAP:
        number = f"wrap_to_i32({operand})"
    else:
        low, high = integer_range(target)
        number = f"clamp_to_i32({operand}, {low}.0, {high}.0)"
    return _low_bits(number, target)


def _clamped(source: DType, target: DType, operand: str) -> str:
    """An integer as the nearest one that `target` has, in a type that holds both."""
    low, high = integer_range(target)
    least, most = integer_range(source)
    if low > least:
        operand = f"tl.maximum({operand}, {low})"
    return f"tl.minimum({operand}, {high})" if high < most else operand
