"""sin, cos, tan: reduction by multiples of pi/2 in three words; huge arguments go to the C library."""
from __future__ import annotations

import enum
import math

from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.math import coefficients as c, real as r
from dlc.backends.cpu.types import Value


class _Which(enum.Enum):
    SIN = "sin"
    COS = "cos"
    TAN = "tan"


def sin(b: FunctionBuilder, x: Value) -> Value:
    """Sine; NaN for infinities."""
    return r.keep_tiny(b, x, _circular(b, x, _Which.SIN))


def cos(b: FunctionBuilder, x: Value) -> Value:
    """Cosine; NaN for infinities."""
    return _circular(b, x, _Which.COS)


def tan(b: FunctionBuilder, x: Value) -> Value:
    """Tangent; NaN for infinities."""
    return r.keep_tiny(b, x, _circular(b, x, _Which.TAN))


def _circular(b: FunctionBuilder, x: Value, which: _Which) -> Value:
    """Vector code up to |x| = 2**16 (f32) or 2**28 (f64), and the C function for all lanes where one is
    beyond.
    """
    single = r.real_of(x) is r.F32
    inside = b.fcmp("olt", b.fabs(x), 2.0 ** (16 if single else 28))
    fast = _reduced(b, b.select(inside, x, 0.0), which)
    everywhere = b.all(inside) if x.type.is_vector else inside
    with b.if_else(everywhere, name=which.value) as both:
        with both.then:
            both.then.yields = (fast,)
        with both.otherwise:
            slow = r.call_lanes(b, which.value + ("f" if single else ""), x)
            both.otherwise.yields = (b.select(inside, fast, slow),)
    return both.results[0]


def _reduced(b: FunctionBuilder, x: Value, which: _Which) -> Value:
    """The function for moderate x = n pi/2 + rest: sine or cosine of the rest, with a sign, by n modulo 4."""
    real = r.real_of(x)
    n, i = r.nearest(b, x, 2 / math.pi)
    rest = x
    for word in real.half_pi:
        rest = b.fma(n, -word, rest)
    single = real is r.F32
    sin_table, cos_table = (c.SIN_F32, c.COS_F32) if single else (c.SIN_F64, c.COS_F64)
    z = b.fmul(rest, rest)
    sine = b.fma(b.fmul(rest, z), r.horner(b, z, sin_table), rest)
    cosine = b.fma(b.fmul(z, z), r.horner(b, z, cos_table), b.fma(z, -0.5, 1.0))
    if which is _Which.COS:
        i = b.add(i, 1)
    odd = b.icmp("ne", b.and_(i, 1), 0)
    if which is _Which.TAN:
        ratio = b.fdiv(b.select(odd, cosine, sine), b.select(odd, sine, cosine))
        return _negate(b, ratio, i, 0)
    return _negate(b, b.select(odd, cosine, sine), i, 1)


def _negate(b: FunctionBuilder, x: Value, i: Value, bit: int) -> Value:
    """-x where that bit of `i` is set."""
    top = i.type.bits - 1
    sign = b.shl(b.and_(b.lshr(i, bit), 1), top)
    return b.bitcast(b.xor(r.bits_of(b, x), sign), x.type)
