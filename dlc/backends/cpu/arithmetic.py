"""Element arithmetic by dtype: the bridge from the kernel IR's typed functions to semantics.py and math."""
from __future__ import annotations

from dlc.backends.cpu import math, semantics, types as t
from dlc.backends.cpu.access import register_type
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.ir.dtypes import DType, Kind
from dlc.lowering.expr import CastMode

LANES = 16


def typed(value: t.Value, element: t.IRType) -> t.IRType:
    """`element`, in as many lanes as `value` has."""
    return value.type.with_element(element)


def convert(b: FunctionBuilder, value: t.Value, source: DType, target: DType, mode: CastMode) -> t.Value:
    """`value` of `source` as `target`."""
    wanted = typed(value, register_type(target))
    if source is target:
        return value
    if target is DType.BOOL:
        return semantics.is_true(b, value)
    if source is DType.BOOL:
        return b.uitofp(value, wanted) if target.bits >= 32 and target.is_float else _from_bool(b, value, target)
    if source.is_float and target.is_float:
        return semantics.cast_float(b, value, wanted)
    if source.is_float:
        wide = value if source.bits >= 32 else semantics.cast_float(b, value, typed(value, t.f32))
        signed = target.kind is Kind.SIGNED
        if mode is CastMode.RNE:
            return semantics.round_to_int(b, wide, wanted, signed=signed)
        return semantics.float_to_int(b, wide, wanted, signed=signed, mode=semantics.CastMode(mode.value))
    signed = source.kind is Kind.SIGNED
    if target.is_float:
        return semantics.int_to_float(b, value, wanted, signed=signed)
    return resize_integer(b, value, source, target, mode)


def _from_bool(b: FunctionBuilder, value: t.Value, target: DType) -> t.Value:
    if target.is_float:
        return semantics.cast_float(b, b.uitofp(value, typed(value, t.f32)), typed(value, register_type(target)))
    return b.zext(value, typed(value, register_type(target)))


def resize_integer(b: FunctionBuilder, value: t.Value, source: DType, target: DType, mode: CastMode) -> t.Value:
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
            signum = b.select(b.fcmp("ogt", x, 0.0), 1.0, b.select(b.fcmp("olt", x, 0.0), -1.0, b.const(x.type, 0.0)))
            return b.select(b.fcmp("uno", x, x), x, signum)
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
            positive = b.zext(b.icmp("ne", x, 0), x.type)
            return b.select(b.icmp("slt", x, 0), -1, positive) if signed else positive
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
            return b.frem(x, y)
        case "mod":
            remainder = b.frem(x, y)
            opposite = b.fcmp("olt", b.fmul(b.copysign(1.0, remainder), b.copysign(1.0, y)), 0.0)
            adjust = b.and_(b.fcmp("une", remainder, 0.0), opposite)
            return b.select(adjust, b.fadd(remainder, y), b.select(
                b.fcmp("oeq", remainder, 0.0), b.copysign(remainder, y), remainder))
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
