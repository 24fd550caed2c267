"""log and its relatives: inverse hyperbolic functions."""
from __future__ import annotations

import math

from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.math import coefficients as c, real as r
from dlc.backends.cpu.types import Value


def log(b: FunctionBuilder, x: Value) -> Value:
    """Natural logarithm; -inf at zero, NaN below, denormals right."""
    f, _, k = _decompose(b, x)
    return _special(b, x, _log_of_parts(b, f, k), 0.0)


def log2(b: FunctionBuilder, x: Value) -> Value:
    """Logarithm to base 2, exact for powers of two."""
    f, _, k = _decompose(b, x)
    return _special(b, x, b.fma(_log_of_parts(b, f, None), 1 / math.log(2), k), 0.0)


def log1p(b: FunctionBuilder, x: Value) -> Value:
    """log(1 + x), accurate near 0."""
    real = r.real_of(x)
    u = b.fadd(x, 1.0)
    f, i, k = _decompose(b, u, denormals=False)
    # Where 1 + x needed no scaling, x is f before the rounding of the sum; elsewhere the rounding error is
    # added to f. It vanishes for large x, whose scale would leave the range.
    lost = b.fsub(x, b.fsub(u, 1.0))
    rescaled = b.fma(lost, r.power_of_two(b, b.sub(0, b.smin(i, 2 * real.mantissa)), real), f)
    f = b.select(b.icmp("eq", i, 0), x, rescaled)
    return r.keep_tiny(b, x, _special(b, x, _log_of_parts(b, f, k), -1.0))


def asinh(b: FunctionBuilder, x: Value) -> Value:
    """log1p(a + a**2 / (1 + sqrt(a**2 + 1))) with a = |x|, and the sign of x."""
    a = b.fabs(x)
    square = b.fmul(a, a)
    small = b.fadd(a, b.fdiv(square, b.fadd(b.sqrt(b.fadd(square, 1.0)), 1.0)))
    return r.keep_tiny(b, x, b.copysign(_log1p_or_double(b, a, small), x))


def acosh(b: FunctionBuilder, x: Value) -> Value:
    """log1p(d + sqrt(2d + d**2)) with d = x - 1; NaN below 1."""
    d = b.fsub(x, 1.0)
    small = b.fadd(d, b.sqrt(b.fma(d, d, b.fadd(d, d))))
    return b.select(b.fcmp("olt", x, 1.0), math.nan, _log1p_or_double(b, x, small))


def atanh(b: FunctionBuilder, x: Value) -> Value:
    """log1p(2a / (1 - a)) / 2 with a = |x|, and the sign of x; infinite at 1, NaN beyond."""
    a = b.fabs(x)
    ratio = b.fdiv(b.fadd(a, a), b.fsub(1.0, a))
    return r.keep_tiny(b, x, b.copysign(b.fmul(log1p(b, ratio), 0.5), x))


def _log1p_or_double(b: FunctionBuilder, a: Value, argument: Value) -> Value:
    """log1p(argument) or, where `a` is so large that its square would overflow, log(2a)."""
    large = b.fcmp("ogt", a, 2.0 ** (r.real_of(a).mantissa + 2))
    result = log1p(b, b.select(large, a, argument))
    return b.select(large, b.fadd(result, math.log(2)), result)


def _decompose(b: FunctionBuilder, x: Value, denormals: bool = True) -> tuple[Value, Value, Value]:
    """(f, k as integer, k) with x = 2**k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), for finite positive x."""
    real = r.real_of(x)
    y = x
    if denormals:
        tiny = b.fcmp("olt", x, 2.0 ** (1 - real.bias))
        y = b.select(tiny, b.fmul(x, 2.0**real.mantissa), x)
    bits = r.bits_of(b, y)
    i = b.ashr(b.sub(bits, real.constant_bits(math.sqrt(0.5))), real.mantissa)
    mantissa = b.bitcast(b.sub(bits, b.shl(i, real.mantissa)), x.type)
    k = r.float_of(b, i, real)
    if denormals:
        k = b.fsub(k, b.select(tiny, b.const(x.type, real.mantissa), 0.0))
    return b.fsub(mantissa, 1.0), i, k


def _log_of_parts(b: FunctionBuilder, f: Value, k: Value | None) -> Value:
    """log(1 + f) + k ln 2 (k: None for 0); f as :func:`_decompose` gives it."""
    real = r.real_of(f)
    high, low = real.ln2
    square = b.fmul(f, f)
    if real is r.F32:
        tail = b.fmul(b.fmul(square, f), r.horner(b, f, c.LOG_F32))
        if k is not None:
            tail = b.fma(k, low, tail)
        result = b.fadd(b.fma(square, -0.5, tail), f)
    else:
        # With s = f / (2 + f): log(1 + f) = 2 atanh(s) = f - (f^2/2 - s (f^2/2 + z P(z))), z = s^2.
        s = b.fdiv(f, b.fadd(f, 2.0))
        z = b.fmul(s, s)
        half_square = b.fmul(square, 0.5)
        tail = b.fmul(s, b.fma(z, r.horner(b, z, c.ATANH_F64), half_square))
        if k is not None:
            tail = b.fma(k, low, tail)
        result = b.fsub(f, b.fsub(half_square, tail))
    return result if k is None else b.fma(k, high, result)


def _special(b: FunctionBuilder, x: Value, result: Value, zero: float) -> Value:
    """-inf where x is `zero`, NaN below, and x itself for infinity and NaN."""
    result = b.select(b.fcmp("olt", x, math.inf), result, x)
    result = b.select(b.fcmp("oeq", x, zero), -math.inf, result)
    return b.select(b.fcmp("olt", x, zero), math.nan, result)
