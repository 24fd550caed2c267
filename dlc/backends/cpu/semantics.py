"""Operations whose plain LLVM instruction is undefined, traps or differs from NumPy for some operands.

This is the only place that emits such instructions (division, float-to-integer conversion, shifts by a
run-time count) and it defines their results for every operand. The conventions are those of NumPy on
x86-64, which onnxruntime shares. All functions take scalars and vectors alike.
"""
from __future__ import annotations

import enum

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.types import Operand, Value
from dlc.errors import InternalError


class CastMode(enum.Enum):
    """What a conversion from float to integer does with a value out of range."""

    WRAP = "wrap"
    SATURATE = "saturate"


# -- integer division ------------------------------------------------------------------------------


def trunc_div(b: FunctionBuilder, x: Value, y: Value, *, signed: bool = True) -> Value:
    """x / y rounded towards zero; x / 0 is 0 and MIN / -1 is MIN (NumPy's division)."""
    if not signed:
        zero = b.icmp("eq", y, 0)
        return b.select(zero, t.constant(x.type, 0), _quotient(b, x, b.select(zero, 1, y), signed=False))
    # Divisors 0 and -1 are replaced by 1: `sdiv` traps on the first and, for MIN, on the second.
    negates, zero = b.icmp("eq", y, -1), b.icmp("eq", y, 0)
    safe = b.select(b.or_(negates, zero), 1, y)
    result = b.select(negates, b.sub(0, x), _quotient(b, x, safe, signed=True))
    return b.select(zero, t.constant(x.type, 0), result)


def trunc_mod(b: FunctionBuilder, x: Value, y: Value, *, signed: bool = True) -> Value:
    """x - y * trunc(x / y), with the sign of `x`; x % 0 is 0 (NumPy fmod, ONNX Mod with fmod=1)."""
    remainder = b.sub(x, b.mul(y, trunc_div(b, x, y, signed=signed)))
    return b.select(b.icmp("eq", y, 0), t.constant(x.type, 0), remainder)


def floor_div(b: FunctionBuilder, x: Value, y: Value, *, signed: bool = True) -> Value:
    """x / y rounded down (Python's //); x / 0 is 0 and MIN / -1 is MIN."""
    quotient = trunc_div(b, x, y, signed=signed)
    if not signed:
        return quotient
    remainder = b.sub(x, b.mul(y, quotient))
    return b.select(_needs_floor(b, remainder, y), b.sub(quotient, 1), quotient)


def floor_mod(b: FunctionBuilder, x: Value, y: Value, *, signed: bool = True) -> Value:
    """x - y * floor(x / y), with the sign of `y` (Python's %); x % 0 is 0."""
    remainder = trunc_mod(b, x, y, signed=signed)
    if not signed:
        return remainder
    return b.select(_needs_floor(b, remainder, y), b.add(remainder, y), remainder)


def _needs_floor(b: FunctionBuilder, remainder: Value, y: Value) -> Value:
    """Whether the truncated quotient with this remainder lies above the exact one (never for y = 0)."""
    different = b.icmp("slt", b.xor(remainder, y), 0)
    return b.and_(b.and_(different, b.icmp("ne", remainder, 0)), b.icmp("ne", y, 0))


def _quotient(b: FunctionBuilder, x: Value, y: Value, *, signed: bool) -> Value:
    """Truncated quotient for y != 0, and y != -1 if signed.

    x86 divides no integer vectors. Up to 16 bits f32 and up to 32 bits f64 give the exact quotient: a
    fraction that is no integer is at least 1/|y| away from one, more than the rounding error of the division.
    """
    bits = x.type.bits
    if not x.type.is_vector or bits == 64:
        operation = "sdiv" if signed else "udiv"
        return b.instruction(x.type, f"{operation} {x}, {y.ref}", x, y)
    # Unsigned 32-bit operands do not fit i32, the type that converts fastest; i64 holds both.
    wide = x.type.with_element(t.i32 if signed or bits < 32 else t.i64)
    real = x.type.with_element(t.f64 if bits == 32 else t.f32)
    extend = b.sext if signed else b.zext
    p, q = (b.sitofp(extend(v, wide), real) for v in (x, y))
    ratio = b.fdiv(p, q)
    return b.trunc(b.instruction(wide, f"fptosi {ratio} to {wide}", ratio), x.type)


# -- shifts and powers -----------------------------------------------------------------------------


def shift_left(b: FunctionBuilder, x: Value, count: Value) -> Value:
    """x << count; 0 where the unsigned `count` is not less than the number of bits."""
    return _shift(b, "shl", x, count, t.constant(x.type, 0))


def shift_right(b: FunctionBuilder, x: Value, count: Value, *, signed: bool) -> Value:
    """x >> count, filled with the sign if `signed`; a count not less than the bits moves all of them out."""
    if signed:
        return _shift(b, "ashr", x, count, b.ashr(x, x.type.bits - 1))
    return _shift(b, "lshr", x, count, t.constant(x.type, 0))


def _shift(b: FunctionBuilder, op: str, x: Value, count: Value, beyond: Value) -> Value:
    inside = b.icmp("ult", count, x.type.bits)
    safe = b.select(inside, count, 0)
    return b.select(inside, b.instruction(x.type, f"{op} {x}, {safe.ref}", x, safe), beyond)


def integer_power(b: FunctionBuilder, base: Value, exponent: Value, *, signed: bool = True) -> Value:
    """base ** exponent modulo 2**bits, both of one integer type.

    A negative exponent gives the truncated value: 1 for base 1, +-1 for base -1, 0 for the rest (also for
    base 0).
    """
    type = base.type
    one, zero = t.constant(type, 1), t.constant(type, 0)
    negative = b.icmp("slt", exponent, 0) if signed else None
    # (-1) ** -n depends on the parity only, which the masked exponent keeps.
    start = exponent if negative is None else b.select(negative, b.and_(exponent, 1), exponent)
    with b.repeat(carry=(one, base, start), name="power") as loop:
        result, square, left = loop.carried
        odd = b.icmp("ne", b.and_(left, 1), 0)
        following = b.lshr(left, 1)
        loop.next = (b.select(odd, b.mul(result, square), result), b.mul(square, square), following)
        more = b.icmp("ne", following, 0)
        loop.again = b.any(more) if type.is_vector else more
    result = loop.results[0]
    if negative is None:
        return result
    unit = b.icmp("ule", b.add(base, 1), 2)  # -1, 0 or 1
    nonzero = b.and_(unit, b.icmp("ne", base, 0))
    inverse = b.select(nonzero, b.select(b.icmp("eq", base, 1), one, result), zero)
    return b.select(negative, inverse, result)


# -- minima and maxima -----------------------------------------------------------------------------


def maximum(b: FunctionBuilder, x: Value, y: Operand) -> Value:
    """The larger one; NaN if one is NaN (numpy.maximum)."""
    other = b.value(y, x.type)
    return b.select(b.fcmp("uno", x, x), x, maximum_fast(b, x, other))


def minimum(b: FunctionBuilder, x: Value, y: Operand) -> Value:
    """The smaller one; NaN if one is NaN (numpy.minimum)."""
    other = b.value(y, x.type)
    return b.select(b.fcmp("uno", x, x), x, minimum_fast(b, x, other))


def maximum_fast(b: FunctionBuilder, x: Operand, y: Value) -> Value:
    """The larger one in one instruction; `y` if one is NaN, so that a NaN in `y` stays."""
    other = b.value(x, y.type)
    return b.select(b.fcmp("ogt", other, y), other, y)


def minimum_fast(b: FunctionBuilder, x: Operand, y: Value) -> Value:
    """The smaller one in one instruction; `y` if one is NaN, so that a NaN in `y` stays."""
    other = b.value(x, y.type)
    return b.select(b.fcmp("olt", other, y), other, y)


def clip(b: FunctionBuilder, x: Value, low: Operand, high: Operand) -> Value:
    """min(max(x, low), high) with bounds that are no NaN; a NaN in `x` stays."""
    return minimum_fast(b, high, maximum_fast(b, low, x))


def relu(b: FunctionBuilder, x: Value) -> Value:
    """max(x, 0) in one instruction; a NaN stays, -0 stays."""
    if not x.type.is_float:
        return b.smax(x, 0)
    return b.select(b.fcmp("olt", x, 0.0), 0.0, x)


def sign(b: FunctionBuilder, x: Value, *, signed: bool = True) -> Value:
    """-1, 0 or 1; a NaN stays, -0 becomes 0 (numpy.sign)."""
    if x.type.is_float:
        unit = b.select(b.fcmp("oeq", x, 0.0), 0.0, b.copysign(b.const(x.type, 1.0), x))
        return b.select(b.fcmp("uno", x, x), x, unit)
    return b.smax(b.smin(x, 1), -1) if signed else b.umin(x, 1)


def float_fmod(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """x - y * trunc(x / y), exactly, with the sign of `x` (C fmod); NaN for y = 0 and infinite `x`."""
    return b.frem(x, y)


def float_mod(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """x - y * floor(x / y) with the sign of `y` (numpy.remainder); a zero result has the sign of `y`."""
    remainder = b.frem(x, y)
    one = b.const(x.type, 1.0)
    opposite = b.fcmp("olt", b.fmul(b.copysign(one, remainder), b.copysign(one, y)), 0.0)
    shifted = b.select(opposite, b.fadd(remainder, y), remainder)
    return b.select(b.fcmp("oeq", remainder, 0.0), b.copysign(b.const(x.type, 0.0), y), shifted)


# -- conversions -----------------------------------------------------------------------------------


def float_to_int(
    b: FunctionBuilder, x: Value, type: t.IRType, *, signed: bool, mode: CastMode = CastMode.WRAP
) -> Value:
    """`x` (f32 or f64) rounded towards zero, as the integer `type`.

    SATURATE: the nearest representable integer, NaN as 0. WRAP, out of range: what NumPy and onnxruntime do
    on x86-64. For 32 and 64 bits signed: MIN, also for NaN. Unsigned: where x is at least 2**(bits - 1),
    the signed conversion of x - 2**(bits - 1) with the top bit flipped, else the signed one. For 8 and 16
    bits: the low bits of the conversion to 32 bits.
    """
    if not x.type.is_float or x.type.lanes != type.lanes:
        raise InternalError(f"no float_to_int from {x.type} to {type}")
    if mode is CastMode.SATURATE and type.bits < 32:
        return _saturated(b, x, type, signed)
    if mode is CastMode.SATURATE:
        name = "llvm.fptosi.sat" if signed else "llvm.fptoui.sat"
        return b.intrinsic(f"{name}.{type.suffix}.{x.type.suffix}", type, x)
    if type.bits < 32:
        return b.trunc(float_to_int(b, x, type.with_element(t.i32), signed=True), type)
    low = _to_signed(b, x, type)
    if signed:
        return low
    half = float(1 << (type.bits - 1))
    high = b.xor(_to_signed(b, b.fsub(x, half), type), -(1 << (type.bits - 1)))
    return b.select(b.fcmp("oge", x, half), high, low)


def _saturated(b: FunctionBuilder, x: Value, type: t.IRType, signed: bool) -> Value:
    """Truncation to an integer of 8 or 16 bits, clamped; NaN is 0.

    LLVM has no vector instructions for its saturating conversions to such types.
    """
    low = -(1 << (type.bits - 1)) if signed else 0
    high = low + (1 << type.bits) - 1
    if signed:
        x = b.select(b.fcmp("ord", x, x), x, 0.0)
    x = b.select(b.fcmp("ogt", x, float(low)), x, float(low))
    x = b.select(b.fcmp("olt", x, float(high)), x, float(high))
    wide = type.with_element(t.i32)
    return b.trunc(b.instruction(wide, f"fptosi {x} to {wide}", x), type)


def _to_signed(b: FunctionBuilder, x: Value, type: t.IRType) -> Value:
    """Truncation to i32 or i64; MIN out of range and for NaN."""
    inside = b.fcmp("olt", b.fabs(x), float(1 << (type.bits - 1)))
    safe = b.select(inside, x, 0.0)
    return b.select(inside, b.instruction(type, f"fptosi {safe} to {type}", safe), -(1 << (type.bits - 1)))


def round_to_int(b: FunctionBuilder, x: Value, type: t.IRType, *, signed: bool) -> Value:
    """`x` rounded to nearest (halves to even) and saturated to the integer `type`; NaN as 0
    (quantization).
    """
    return float_to_int(b, b.rint(x), type, signed=signed, mode=CastMode.SATURATE)


def int_to_float(b: FunctionBuilder, x: Value, type: t.IRType, *, signed: bool) -> Value:
    """An integer as any float type, rounded to nearest even (f16 and bf16 by way of f32, as NumPy does)."""
    wide = type if type.bits >= 32 else type.with_element(t.f32)
    return cast_float(b, b.sitofp(x, wide) if signed else b.uitofp(x, wide), type)


def is_true(b: FunctionBuilder, x: Value) -> Value:
    """Whether a number counts as true: not zero; a NaN does (numpy astype(bool))."""
    if x.type.is_float and x.type.bits < 32:
        return b.icmp("ne", b.and_(b.bitcast(x, x.type.with_element(t.i16)), 0x7FFF), 0)
    return b.fcmp("une", x, 0.0) if x.type.is_float else b.icmp("ne", x, 0)


def cast_float(b: FunctionBuilder, x: Value, type: t.IRType) -> Value:
    """Any float type as any other, rounded to nearest even once; NaN stays NaN.

    bf16 is reached by way of f32 also from f64 (ml_dtypes does the same).
    """
    source, target = x.type.element, type.element
    if source is target:
        return x
    single = x.type.with_element(t.f32)
    if source is t.bf16:
        return cast_float(b, _bf16_to_f32(b, x), type)
    if source is t.f16 and not b.target.f16c:
        raise InternalError(f"target {b.target.name} converts no f16")
    if target is t.bf16:
        return _f32_to_bf16(b, cast_float(b, x, single))
    if source is t.f16 and target is t.f64:
        return b.fpext(b.fpext(x, single), type)
    if source is t.f64 and target is t.f16:
        return b.fptrunc(f64_to_f32_odd(b, x), type)
    return b.fpext(x, type) if target.bits > source.bits else b.fptrunc(x, type)


def _bf16_to_f32(b: FunctionBuilder, x: Value) -> Value:
    bits = b.zext(b.bitcast(x, x.type.with_element(t.i16)), x.type.with_element(t.i32))
    return b.bitcast(b.shl(bits, 16), x.type.with_element(t.f32))


def _f32_to_bf16(b: FunctionBuilder, x: Value) -> Value:
    """By integer arithmetic: the AVX-512 instruction flushes denormals."""
    bits = b.bitcast(x, x.type.with_element(t.i32))
    odd = b.and_(b.lshr(bits, 16), 1)
    rounded = b.lshr(b.add(bits, b.add(odd, 0x7FFF)), 16)
    # Rounding could carry a NaN's payload into its sign; the quiet bit keeps a truncated payload a NaN.
    quiet = b.or_(b.lshr(bits, 16), 0x40)
    halves = b.trunc(b.select(b.fcmp("uno", x, x), quiet, rounded), x.type.with_element(t.i16))
    return b.bitcast(halves, x.type.with_element(t.bf16))


def f64_to_f32_odd(b: FunctionBuilder, x: Value) -> Value:
    """f64 to f32 rounded to odd: rounding once more, to at most 22 bits, then equals a single rounding.

    Boldo, Melquiond: Emulation of FMA and correctly rounded sums, IEEE Trans. Comput. 57 (2008).
    """
    nearest = b.fptrunc(x, x.type.with_element(t.f32))
    back = b.fpext(nearest, x.type)
    bits = b.bitcast(nearest, x.type.with_element(t.i32))
    away = b.fcmp("ogt", b.fabs(x), b.fabs(back))
    neighbour = b.select(away, b.add(bits, 1), b.sub(bits, 1))
    inexact = b.fcmp("one", x, back)
    even = b.icmp("eq", b.and_(bits, 1), 0)
    odd = b.select(b.and_(inexact, even), neighbour, bits)
    return b.bitcast(odd, nearest.type)
