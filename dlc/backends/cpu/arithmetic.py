"""Element arithmetic by dtype: the bridge from the kernel IR's typed functions to semantics.py and math."""
from __future__ import annotations

from dlc.backends.cpu import math, minifloat, semantics, types as t
from dlc.backends.cpu.access import register_type
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.errors import InternalError
from dlc.ir.dtypes import DType, Kind
from dlc.lowering.expr import CastMode

LANES = 16


def typed(value: t.Value, element: t.IRType) -> t.IRType:
    """`element`, in as many lanes as `value` has."""
    return value.type.with_element(element)


def convert(b: FunctionBuilder, value: t.Value, source: DType, target: DType, mode: CastMode) -> t.Value:
    """`value` of `source` as `target`. In registers too, a type of less than 8 bits is its code in a byte."""
    if source is target:
        return value
    if mode is CastMode.BITS:
        return _same_bits(b, value, source, target)
    if source.bits < 16 and source.is_float:
        return convert(b, _decode(b, value, source), DType.F32, target, mode)
    if source.is_integer and source.bits < 8:
        value = _widened_code(b, value, source)
    if target.bits < 16 and target.is_float:
        return _encode(b, value, source, target, mode)
    if target is DType.BOOL:
        return semantics.is_true(b, value)
    if source is DType.BOOL:
        return _from_bool(b, value, target)
    if target.is_integer and target.bits < 8:
        return _narrow_code(b, value, source, target, mode)
    wanted = typed(value, register_type(target))
    if source.is_float and target.is_float:
        return semantics.cast_float(b, value, wanted)
    signed = (target if source.is_float else source).kind is Kind.SIGNED
    if source.is_float:
        return _float_to_integer(b, value, source, wanted, signed, mode)
    if target.is_float:
        return semantics.int_to_float(b, value, wanted, signed=signed)
    return resize_integer(b, value, source, target, mode)


def _float_to_integer(b: FunctionBuilder, value: t.Value, source: DType, wanted: t.IRType, signed: bool,
                      mode: CastMode) -> t.Value:
    wide = value if source.bits >= 32 else semantics.cast_float(b, value, typed(value, t.f32))
    if mode is CastMode.RNE:
        return semantics.round_to_int(b, wide, wanted, signed=signed)
    return semantics.float_to_int(b, wide, wanted, signed=signed, mode=semantics.CastMode(mode.value))


def _same_bits(b: FunctionBuilder, value: t.Value, source: DType, target: DType) -> t.Value:
    if source is DType.BOOL:
        return b.zext(value, typed(value, t.i8))
    if target is DType.BOOL:
        return b.icmp("ne", value, 0)
    return b.bitcast(value, typed(value, register_type(target)))


#: Small floats by type; f8e8m0 is only an exponent.
_MINIFLOATS = {
    DType.F8E4M3FN: minifloat.F8E4M3FN, DType.F8E4M3FNUZ: minifloat.F8E4M3FNUZ,
    DType.F8E5M2: minifloat.F8E5M2, DType.F8E5M2FNUZ: minifloat.F8E5M2FNUZ, DType.F4E2M1: minifloat.F4E2M1,
}


def _decode(b: FunctionBuilder, code: t.Value, dtype: DType) -> t.Value:
    """The f32 of a small float."""
    if dtype in _MINIFLOATS:
        return minifloat.decode(b, code, _MINIFLOATS[dtype])
    # Code e is 2^(e - 127): the exponent of an f32, except that 2^-127 is denormal and 255 means NaN.
    wide = b.zext(code, typed(code, t.i32))
    bits = b.select(b.icmp("eq", wide, 0), 0x00400000, b.shl(wide, 23))
    return b.bitcast(b.select(b.icmp("eq", wide, 255), 0x7FC00000, bits), typed(code, t.f32))


def _encode(b: FunctionBuilder, value: t.Value, source: DType, target: DType, mode: CastMode) -> t.Value:
    """A number as a small float, rounded once (integers by way of f32)."""
    if target not in _MINIFLOATS:
        raise InternalError(f"no conversion to {target.text}")
    if source is DType.F64:
        value = semantics.f64_to_f32_odd(b, value)
    else:
        value = convert(b, value, source, DType.F32, CastMode.RNE)
    return minifloat.encode(b, value, _MINIFLOATS[target], saturate=mode is CastMode.SATURATE)


def _widened_code(b: FunctionBuilder, code: t.Value, dtype: DType) -> t.Value:
    """The number, as i8, whose low bits are the code of a type of less than 8 bits."""
    if dtype.kind is Kind.UNSIGNED:
        return b.and_(code, (1 << dtype.bits) - 1)
    return b.ashr(b.shl(code, 8 - dtype.bits), 8 - dtype.bits)


def _narrow_code(b: FunctionBuilder, value: t.Value, source: DType, target: DType, mode: CastMode) -> t.Value:
    """A number as the code, in a byte, of an integer type of less than 8 bits."""
    carrier = DType.I8 if target.kind is Kind.SIGNED else DType.U8
    saturates = mode is CastMode.SATURATE or (source.is_float and mode is CastMode.RNE)
    if source.is_float:
        value = _float_to_integer(b, value, source, typed(value, t.i8), carrier is DType.I8, mode)
        source = carrier
    if saturates:
        value = _saturate(b, value, source, target)
    return b.and_(resize_integer(b, value, source, carrier, CastMode.WRAP), (1 << target.bits) - 1)


def _from_bool(b: FunctionBuilder, value: t.Value, target: DType) -> t.Value:
    wanted = typed(value, register_type(target))
    if target.is_float:
        return semantics.cast_float(b, b.uitofp(value, typed(value, t.f32)), wanted)
    return b.zext(value, wanted)


def resize_integer(
    b: FunctionBuilder, value: t.Value, source: DType, target: DType, mode: CastMode
) -> t.Value:
    """An integer as another integer type: low bits kept, or saturated."""
    wanted = typed(value, register_type(target))
    signed = source.kind is Kind.SIGNED
    if mode is CastMode.SATURATE:
        value = _saturate(b, value, source, target)
    if wanted.bits == value.type.bits:
        return value
    if wanted.bits < value.type.bits:
        return b.trunc(value, wanted)
    return b.sext(value, wanted) if signed else b.zext(value, wanted)


def _saturate(b: FunctionBuilder, value: t.Value, source: DType, target: DType) -> t.Value:
    low, high = integer_range(target)
    least, most = integer_range(source)
    if source.kind is Kind.SIGNED:
        value = b.smax(value, low) if low > least else value
        return b.smin(value, high) if high < most else value
    return b.select(b.icmp("ugt", value, high), high, value) if high < most else value


def integer_range(dtype: DType) -> tuple[int, int]:
    """The least and greatest number of an integer type."""
    if dtype.kind is Kind.SIGNED:
        return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1
    return 0, (1 << dtype.bits) - 1


def unary(b: FunctionBuilder, fn: str, dtype: DType, x: t.Value) -> t.Value:
    """A unary function of the kernel IR."""
    if not dtype.is_float:
        return _integer_unary(b, fn, dtype, x)
    match fn:
        case "abs":
            return b.fabs(x)
        case "neg":
            return b.fneg(x)
        case "floor":
            return b.floor(x)
        case "ceil":
            return b.ceil(x)
        case "round":
            return b.rint(x)
        case "sqrt":
            return b.sqrt(x)
        case "reciprocal":
            return b.fdiv(1.0, x)
        case "is_nan":
            return b.fcmp("uno", x, x)
        case "sign":
            return semantics.sign(b, x)
    return _in_lanes(b, fn, x)


def _in_lanes(b: FunctionBuilder, fn: str, *operands: t.Value) -> t.Value:
    """A function of dlc.backends.cpu.math, which works on lanes; a scalar is spread and taken back."""
    if operands[0].type.is_vector:
        return math.emit(b, fn, *operands)
    return b.extract(math.emit(b, fn, *(b.splat(x, LANES) for x in operands)), 0)


def _integer_unary(b: FunctionBuilder, fn: str, dtype: DType, x: t.Value) -> t.Value:
    signed = dtype.kind is Kind.SIGNED
    match fn:
        case "not":
            return b.value(b.not_(x), x.type)
        case "abs":
            return b.select(b.icmp("slt", x, 0), b.sub(0, x), x) if signed else x
        case "neg":
            return b.sub(0, x)
        case "sign":
            return semantics.sign(b, x, signed=signed)
        case "floor" | "ceil" | "round":
            return x
    raise TypeError(f"{fn} of {dtype.text}")


def binary(b: FunctionBuilder, fn: str, dtype: DType, x: t.Value, y: t.Value) -> t.Value:
    """A binary function of the kernel IR; both operands are scalars, or both lanes."""
    match fn:
        case "and":
            return b.and_(x, y)
        case "or":
            return b.or_(x, y)
        case "xor":
            return b.xor(x, y)
    return _float_binary(b, fn, x, y) if dtype.is_float else _integer_binary(b, fn, dtype, x, y)


def _float_binary(b: FunctionBuilder, fn: str, x: t.Value, y: t.Value) -> t.Value:
    match fn:
        case "add":
            return b.fadd(x, y)
        case "sub":
            return b.fsub(x, y)
        case "mul":
            return b.fmul(x, y)
        case "div":
            return b.fdiv(x, y)
        case "max":
            return semantics.maximum(b, x, y)
        case "min":
            return semantics.minimum(b, x, y)
        case "fmod":
            return semantics.float_fmod(b, x, y)
        case "mod":
            return semantics.float_mod(b, x, y)
        case "pow":
            return _in_lanes(b, "pow", x, y)
    raise TypeError(f"{fn} of floats")


def _integer_binary(b: FunctionBuilder, fn: str, dtype: DType, x: t.Value, y: t.Value) -> t.Value:
    signed = dtype.kind is Kind.SIGNED
    match fn:
        case "add":
            return b.add(x, y)
        case "sub":
            return b.sub(x, y)
        case "mul":
            return b.mul(x, y)
        case "div":
            return semantics.trunc_div(b, x, y, signed=signed)
        case "mod":
            return semantics.floor_mod(b, x, y, signed=signed)
        case "fmod":
            return semantics.trunc_mod(b, x, y, signed=signed)
        case "pow":
            return semantics.integer_power(b, x, y, signed=signed)
        case "shift_left":
            return semantics.shift_left(b, x, y)
        case "shift_right":
            return semantics.shift_right(b, x, y, signed=signed)
        case "max":
            return b.select(b.icmp("sgt" if signed else "ugt", x, y), x, y)
        case "min":
            return b.select(b.icmp("slt" if signed else "ult", x, y), x, y)
    raise TypeError(f"{fn} of {dtype.text}")


def compare(b: FunctionBuilder, fn: str, dtype: DType, x: t.Value, y: t.Value) -> t.Value:
    """A comparison; ordered on floats, except ne."""
    if dtype.is_float:
        return b.fcmp("une" if fn == "ne" else f"o{fn}", x, y)
    prefix = "" if fn in ("eq", "ne") else "s" if dtype.kind is Kind.SIGNED else "u"
    return b.icmp(prefix + fn, x, y)
