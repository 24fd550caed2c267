"""x ** y with the special cases of C's pow."""
from __future__ import annotations

import math

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.math import coefficients as c, real as r
from dlc.backends.cpu.types import Value


def pow(b: FunctionBuilder, x: Value, y: Value) -> Value:
    """x ** y. f32: by way of 2 ** (y log2 |x|) in f64, so correctly rounded but for rare ties; f64: the C
    library.

    Integer powers of negative numbers have their sign, others are NaN; 1 ** y and x ** 0 are 1, also for NaN.
    """
    if r.real_of(x) is r.F64:
        return r.call_lanes(b, "pow", x, y)
    wide = x.type.with_element(t.f64)
    exponent = b.fmul(_log2_of_magnitude(b, b.fpext(x, wide)), b.fpext(y, wide))
    magnitude = b.fptrunc(_exp2(b, exponent), x.type)
    # |x| = 1 and y = 0 meet infinities or NaN above; an infinite y leaves |x| = 1 at 1.
    one = b.fcmp("oeq", b.fabs(x), 1.0)
    not_nan = b.fcmp("ord", y, y)
    magnitude = b.select(b.and_(one, not_nan), 1.0, magnitude)
    half = b.fmul(y, 0.5)
    whole, even = b.fcmp("oeq", b.rint(y), y), b.fcmp("oeq", b.rint(half), half)
    negative = b.icmp("slt", r.bits_of(b, x), 0)
    odd = b.and_(whole, b.not_(even))
    result = b.select(b.and_(negative, odd), b.fneg(magnitude), magnitude)
    below = b.and_(b.fcmp("olt", x, 0.0), b.fcmp("ogt", x, -math.inf))
    result = b.select(b.and_(below, b.not_(whole)), math.nan, result)
    result = b.select(b.fcmp("uno", x, y), math.nan, result)
    always_one = b.or_(b.fcmp("oeq", y, 0.0), b.fcmp("oeq", x, 1.0))
    return b.select(always_one, 1.0, result)


def _log2_of_magnitude(b: FunctionBuilder, x: Value) -> Value:
    """log2 |x| of f64 numbers that were f32, to 2**-36 of itself; -inf for 0, inf for inf."""
    real = r.F64
    a = b.fabs(x)
    bits = r.bits_of(b, a)
    i = b.ashr(b.sub(bits, real.constant_bits(math.sqrt(0.5))), real.mantissa)
    mantissa = b.bitcast(b.sub(bits, b.shl(i, real.mantissa)), x.type)
    s = b.fdiv(b.fsub(mantissa, 1.0), b.fadd(mantissa, 1.0))
    z = b.fmul(s, s)
    log = b.fmul(s, b.fma(z, r.horner(b, z, c.ATANH_SHORT_F64), 2.0))
    result = b.fma(log, 1 / math.log(2), r.float_of(b, i, real))
    result = b.select(b.fcmp("oeq", a, math.inf), math.inf, result)
    return b.select(b.fcmp("oeq", a, 0.0), -math.inf, result)


def _exp2(b: FunctionBuilder, x: Value) -> Value:
    """2**x to 2**-36 of itself, where it is in the range of f32; beyond, something that overflows or
    vanishes.
    """
    x = r.at_least(b, r.at_most(b, x, 200.0), -200.0)
    n, i = r.nearest(b, x, 1.0)
    rest = b.fsub(x, n)
    return b.fmul(r.horner(b, rest, (1.0, *c.EXP2_SHORT_F64)), r.power_of_two(b, i, r.F64))
