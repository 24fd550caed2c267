"""The 8- and 4-bit floats of ONNX (float8e4m3fn and its kin) to f32 and back, by integer arithmetic."""
from __future__ import annotations

from dataclasses import dataclass

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.types import Value

_F32_MANTISSA, _F32_BIAS = 23, 127


@dataclass(frozen=True)
class Minifloat:
    """A sign bit, then exponent and `mantissa` bits with `bias`, denormals included; `bits` in all.

    `largest` is the code of the largest finite magnitude; `infinity` that of infinity (None: there is none)
    and `nan` the one that NaN becomes. `signed_zero`: in the "uz" formats the code of -0 is NaN. `has_nan`:
    whether `nan` is read as NaN.
    """

    mantissa: int
    bias: int
    largest: int
    infinity: int | None
    nan: int
    signed_zero: bool
    bits: int = 8
    has_nan: bool = True

    @property
    def excess(self) -> int:
        """How much larger f32's exponent bias is."""
        return _F32_BIAS - self.bias

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.bits - 1)


F8E4M3FN = Minifloat(3, 7, 0x7E, None, 0x7F, True)
F8E4M3FNUZ = Minifloat(3, 8, 0x7F, None, 0x80, False)
F8E5M2 = Minifloat(2, 15, 0x7B, 0x7C, 0x7E, True)
F8E5M2FNUZ = Minifloat(2, 16, 0x7F, None, 0x80, False)
#: Stored one a byte, whose upper half counts for nothing. NaN becomes -0, as in ml_dtypes.
F4E2M1 = Minifloat(1, 1, 0x7, None, 0x8, True, bits=4, has_nan=False)


def decode(b: FunctionBuilder, code: Value, format: Minifloat) -> Value:
    """The exact f32 of i8 codes."""
    words = code.type.with_element(t.i32)
    wide = b.zext(code, words)
    magnitude = b.and_(wide, format.sign - 1)
    # As an f32 the shifted fields are the number but for the bias; the product is right for denormals too.
    fields = b.bitcast(b.shl(magnitude, _F32_MANTISSA - format.mantissa), words.with_element(t.f32))
    number = b.bitcast(b.fmul(fields, 2.0**format.excess), words)
    sign = b.shl(b.and_(wide, format.sign), 32 - format.bits)
    if not format.has_nan:
        return b.bitcast(b.or_(number, sign), fields.type)
    if format.infinity is not None:
        number = b.select(b.icmp("eq", magnitude, format.infinity), 0x7F800000, number)
        is_nan = b.icmp("sgt", magnitude, format.infinity)
    elif format.signed_zero:
        is_nan = b.icmp("eq", magnitude, format.nan)
    else:
        is_nan = b.icmp("eq", wide, format.nan)
    return b.bitcast(b.select(is_nan, 0x7FC00000, b.or_(number, sign)), fields.type)


def encode(b: FunctionBuilder, x: Value, format: Minifloat, *, saturate: bool) -> Value:
    """f32 rounded to nearest even as i8 codes.

    Beyond the largest number: `saturate` gives the largest (also for infinity), else infinity or, in formats
    without one, NaN (ONNX Cast); formats that have neither always saturate.
    """
    words = x.type.with_element(t.i32)
    bits = b.bitcast(x, words)
    magnitude = b.and_(bits, 0x7FFFFFFF)
    drop = _F32_MANTISSA - format.mantissa
    half = (1 << (drop - 1)) - 1
    rounded = b.lshr(b.add(b.add(magnitude, half), b.and_(b.lshr(magnitude, drop), 1)), drop)
    normal = b.sub(rounded, format.excess << format.mantissa)
    # Adding a power of two whose unit in the last place is the smallest denormal rounds to multiples of that.
    adder = 2.0 ** (1 - format.bias - format.mantissa + _F32_MANTISSA)
    sum_bits = b.bitcast(b.fadd(b.fabs(x), adder), words)
    denormal = b.sub(sum_bits, (_F32_BIAS + 1 - format.bias + drop) << _F32_MANTISSA)
    smallest_normal = (format.excess + 1) << _F32_MANTISSA
    code = b.select(b.icmp("slt", magnitude, smallest_normal), denormal, normal)
    overflow = format.nan if format.infinity is None else format.infinity
    beyond = format.largest if saturate or not format.has_nan else overflow
    code = b.select(b.icmp("sgt", code, format.largest), beyond, code)
    sign = b.and_(b.lshr(bits, 32 - format.bits), format.sign)
    if not format.signed_zero:
        sign = b.select(b.icmp("eq", code, 0), 0, sign)
    code = b.select(b.fcmp("uno", x, x), format.nan, b.or_(code, sign))
    return b.trunc(code, x.type.with_element(t.i8))
