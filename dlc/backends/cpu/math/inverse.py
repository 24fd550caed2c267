"""asin, acos, atan."""
from __future__ import annotations

import math

from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.math import coefficients as c, real as r
from dlc.backends.cpu.types import Value


def asin(b: FunctionBuilder, x: Value) -> Value:
    """Up to 1/2 a polynomial, beyond pi/2 - 2 asin(sqrt((1 - |x|) / 2)); NaN beyond 1."""
    large, y = _asin_part(b, x)
    high, low, _ = r.real_of(x).half_pi
    beyond = b.fadd(b.fma(y, -2.0, high), low)
    return b.copysign(b.select(large, beyond, y), x)


def acos(b: FunctionBuilder, x: Value) -> Value:
    """pi/2 - asin(x) up to 1/2, beyond by 2 asin(sqrt((1 - |x|) / 2)); NaN beyond 1."""
    large, y = _asin_part(b, x)
    high, low, _ = r.real_of(x).half_pi
    negative = b.fcmp("olt", x, 0.0)
    near_one = b.fadd(y, y)
    near_minus_one = b.fadd(b.fma(y, -2.0, 2 * high), 2 * low)
    beyond = b.select(negative, near_minus_one, near_one)
    inside = b.fadd(b.fsub(high, b.copysign(y, x)), low)
    return b.select(large, beyond, inside)


def atan(b: FunctionBuilder, x: Value) -> Value:
    """Around the nearest of 0, pi/4 and pi/2: atan(a) = k pi/4 + atan of a quotient of magnitude below
    0.4143.
    """
    real = r.real_of(x)
    a = b.fabs(x)
    middle, far = b.fcmp("ogt", a, math.tan(math.pi / 8)), b.fcmp("ogt", a, math.tan(3 * math.pi / 8))
    numerator = b.select(far, -1.0, b.select(middle, b.fsub(a, 1.0), a))
    denominator = b.select(far, a, b.select(middle, b.fadd(a, 1.0), 1.0))
    q = b.fdiv(numerator, denominator)
    table = c.ATAN_F32 if real is r.F32 else c.ATAN_F64
    z = b.fmul(q, q)
    high, low, _ = real.half_pi
    zero = b.const(x.type, 0.0)
    add_high = b.select(far, high, b.select(middle, high / 2, zero))
    add_low = b.select(far, low, b.select(middle, low / 2, zero))
    tail = b.fma(b.fmul(q, z), r.horner(b, z, table), add_low)
    return b.copysign(b.fadd(add_high, b.fadd(q, tail)), x)


def _asin_part(b: FunctionBuilder, x: Value) -> tuple[Value, Value]:
    """(|x| > 1/2, asin of |x| or, there, of sqrt((1 - |x|) / 2))."""
    a = b.fabs(x)
    large = b.fcmp("ogt", a, 0.5)
    z = b.select(large, b.fma(a, -0.5, 0.5), b.fmul(a, a))
    y = b.select(large, b.sqrt(z), a)
    table = c.ASIN_F32 if r.real_of(x) is r.F32 else c.ASIN_F64
    return large, b.fma(b.fmul(y, z), r.horner(b, z, table), y)
