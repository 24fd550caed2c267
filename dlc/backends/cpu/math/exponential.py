"""exp and its relatives: hyperbolic functions, sigmoid, softplus."""
from __future__ import annotations

from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.math import coefficients as c, real as r
from dlc.backends.cpu.math.logarithm import log1p
from dlc.backends.cpu.semantics import relu
from dlc.backends.cpu.types import Value


def exp(b: FunctionBuilder, x: Value) -> Value:
    """e**x; denormal results are right."""
    low, high = r.real_of(x).exp_range
    rest, n, i = r.reduce_exp(b, r.at_least(b, r.at_most(b, x, high), low))
    return r.scale(b, _exp_of_rest(b, rest), n, i)


def exp2(b: FunctionBuilder, x: Value) -> Value:
    """2**x, exact for integers."""
    real = r.real_of(x)
    low, high = -(real.bias + real.mantissa + 1.0), real.bias + 1.0
    x = r.at_least(b, r.at_most(b, x, high), low)
    n, i = r.nearest(b, x, 1.0)
    table = c.EXP2_F32 if real is r.F32 else c.EXP2_F64
    rest = b.fsub(x, n)
    return r.scale(b, r.horner(b, rest, (1.0, *table)), n, i)


def expm1(b: FunctionBuilder, x: Value) -> Value:
    """e**x - 1, accurate near 0."""
    real = r.real_of(x)
    low = -1.0 - real.mantissa  # e**low is below half a unit in the last place of 1
    # Half of it, doubled at the end: 2**n alone would overflow before the result does.
    half = _expm1_over(b, r.at_least(b, r.at_most(b, x, real.exp_range[1]), low), 1)
    return r.keep_tiny(b, x, b.fadd(half, half))


def tanh(b: FunctionBuilder, x: Value) -> Value:
    """E / (E + 2) with E = e**2|x| - 1, and the sign of x."""
    beyond = 10.0 if r.real_of(x) is r.F32 else 20.0  # there it is 1
    a = r.at_most(b, b.fabs(x), beyond)
    e = _expm1_over(b, b.fadd(a, a), 0)
    return b.copysign(b.fdiv(e, b.fadd(e, 2.0)), x)


def sigmoid(b: FunctionBuilder, x: Value) -> Value:
    """1 / (1 + e**-x), without overflow; denormal results are right."""
    e = exp(b, b.fneg(b.fabs(x)))
    numerator = b.select(b.fcmp("olt", x, 0.0), e, 1.0)
    return b.fdiv(numerator, b.fadd(e, 1.0))


def softplus(b: FunctionBuilder, x: Value) -> Value:
    """log(1 + e**x) = max(x, 0) + log1p(e**-|x|)."""
    return b.fadd(relu(b, x), log1p(b, exp(b, b.fneg(b.fabs(x)))))


def sinh(b: FunctionBuilder, x: Value) -> Value:
    """(E + E / (E + 1)) / 2 with E = e**|x| - 1, and the sign of x."""
    u = _quarter_expm1(b, x)
    e = b.fmul(u, 4.0)
    half = b.fadd(u, b.fdiv(u, b.fadd(e, 1.0)))
    return r.keep_tiny(b, x, b.copysign(b.fadd(half, half), x))


def cosh(b: FunctionBuilder, x: Value) -> Value:
    """h + 1 / 4h with h = e**|x| / 2."""
    u = _quarter_expm1(b, x)
    h = b.fadd(b.fadd(u, u), 0.5)
    return b.fadd(h, b.fdiv(0.25, h))


def _quarter_expm1(b: FunctionBuilder, x: Value) -> Value:
    """(e**|x| - 1) / 4, finite where sinh and cosh are; beyond, large enough for twice it to be infinite."""
    beyond = 89.5 if r.real_of(x) is r.F32 else 710.6
    return _expm1_over(b, r.at_most(b, b.fabs(x), beyond), 2)


def _exp_of_rest(b: FunctionBuilder, rest: Value) -> Value:
    """e**rest for |rest| <= ln 2 / 2."""
    return r.horner(b, rest, (1.0, 1.0, *r.real_of(rest).exp))


def _expm1_over(b: FunctionBuilder, x: Value, shift: int) -> Value:
    """(e**x - 1) / 2**shift for x in range: 2**n (e**r - 1) + (2**n - 1), scaled; not for tiny x."""
    real = r.real_of(x)
    rest, _, i = r.reduce_exp(b, x)
    small = b.fma(b.fmul(rest, rest), r.horner(b, rest, real.exp), rest)
    power = r.power_of_two(b, b.sub(i, shift), real)
    return b.fma(small, power, b.fsub(power, 2.0**-shift))
