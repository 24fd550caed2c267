"""The two formats that the vector math computes in, and the steps that its functions share."""
from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.math import coefficients as c
from dlc.backends.cpu.semantics import maximum_fast, minimum_fast
from dlc.backends.cpu.types import Value
from dlc.errors import InternalError


@dataclass(frozen=True)
class Real:
    """A binary floating-point format and the constants of the range reductions in it.

    `mantissa`: stored bits of the significand; `ln2` in two words, the first short enough for exact
    multiples; `half_pi` in three words (the last from extended precision: the rest of the double would be
    too coarse). `exp_range`: beyond it exp is 0 or infinite. `tiny`: below it f(x) = x for every f(x) = x +
    O(x^2).
    """

    element: t.IRType
    integer: t.IRType
    mantissa: int
    bias: int
    ln2: tuple[float, float]
    half_pi: tuple[float, float, float]
    exp_range: tuple[float, float]
    tiny: float
    exp: c.Coefficients

    @property
    def magic(self) -> float:
        """Added to |y| < 2**(mantissa - 1), it rounds y to an integer and leaves that in the low bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def magic_bits(self) -> int:
        """The bits of `magic`."""
        return self.constant_bits(self.magic)

    def constant_bits(self, number: float) -> int:
        """The bits of a positive `number` rounded to the format."""
        if self.element is t.f32:
            return int(struct.unpack("<i", struct.pack("<f", number))[0])
        return int(struct.unpack("<q", struct.pack("<d", number))[0])


F32 = Real(
    element=t.f32,
    integer=t.i32,
    mantissa=23,
    bias=127,
    ln2=(0.693359375, -0.00021219444170128554),
    half_pi=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    exp_range=(-104.0, 89.0),
    tiny=2.0**-26,
    exp=c.EXP_F32,
)
F64 = Real(
    element=t.f64,
    integer=t.i64,
    mantissa=52,
    bias=1023,
    ln2=(6.93147180369123816490e-01, 1.9082149292705877e-10),
    half_pi=(1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
    exp_range=(-746.0, 710.0),
    tiny=2.0**-55,
    exp=c.EXP_F64,
)


def real_of(x: Value) -> Real:
    """The format of `x`, f32 or f64."""
    match x.type.element:
        case t.f32:
            return F32
        case t.f64:
            return F64
    raise InternalError(f"no vector math on {x.type}")


def horner(b: FunctionBuilder, x: Value, coefficients: Sequence[float]) -> Value:
    """The polynomial with these coefficients, lowest power first."""
    result = b.const(x.type, coefficients[-1])
    for number in reversed(coefficients[:-1]):
        result = b.fma(result, x, number)
    return result


def integers_of(x: Value) -> t.IRType:
    """Integers as wide as the lanes of `x`."""
    return x.type.with_element(real_of(x).integer)


def bits_of(b: FunctionBuilder, x: Value) -> Value:
    """The bits of each lane as an integer."""
    return b.bitcast(x, integers_of(x))


def at_most(b: FunctionBuilder, x: Value, bound: float) -> Value:
    """min(x, bound); a NaN stays."""
    return minimum_fast(b, bound, x)


def at_least(b: FunctionBuilder, x: Value, bound: float) -> Value:
    """max(x, bound); a NaN stays."""
    return maximum_fast(b, bound, x)


def nearest(b: FunctionBuilder, x: Value, factor: float) -> tuple[Value, Value]:
    """x * factor rounded to an integer, as a float and as an integer; |x * factor| < 2**(mantissa - 1).

    A conversion instruction would be undefined for NaN; this gives an arbitrary integer and the float NaN.
    """
    real = real_of(x)
    shifted = b.fma(x, factor, real.magic)
    return b.fsub(shifted, real.magic), b.sub(bits_of(b, shifted), real.magic_bits)


def float_of(b: FunctionBuilder, i: Value, real: Real) -> Value:
    """A small integer (|i| < 2**(mantissa - 1)) as a float, also where i64 has no conversion instruction."""
    type = i.type.with_element(real.element)
    if real is F32:
        return b.sitofp(i, type)
    return b.fsub(b.bitcast(b.add(i, real.magic_bits), type), real.magic)


def power_of_two(b: FunctionBuilder, i: Value, real: Real) -> Value:
    """2**i for an integer within the normal range."""
    return b.bitcast(b.shl(b.add(i, real.bias), real.mantissa), i.type.with_element(real.element))


def scale(b: FunctionBuilder, x: Value, n: Value, i: Value) -> Value:
    """x * 2**n with one rounding, |n| < 2 * bias; `n` and `i` are the same integer as float and as integer.

    AVX-512 has an instruction; elsewhere two factors, as 2**n alone may overflow or be denormal.
    """
    if b.target.avx512 and x.type == t.vector(16, t.f32):
        return _scalef(b, "ps", x, n)
    if b.target.avx512 and x.type == t.vector(16, t.f64):
        halves = [_scalef(b, "pd", b.slice(x, k, 8), b.slice(n, k, 8)) for k in (0, 8)]
        return b.concat(*halves)
    real = real_of(x)
    half = b.ashr(i, 1)
    return b.fmul(b.fmul(x, power_of_two(b, half, real)), power_of_two(b, b.sub(i, half), real))


def _scalef(b: FunctionBuilder, kind: str, x: Value, n: Value) -> Value:
    mask = b.const(t.integer(x.type.lanes), -1)
    rounding = b.const(t.i32, 4)  # that of the environment
    return b.intrinsic(f"llvm.x86.avx512.mask.scalef.{kind}.512", x.type, x, n, x, mask, rounding)


def reduce_exp(b: FunctionBuilder, x: Value) -> tuple[Value, Value, Value]:
    """(r, n, n as integer) with x = n ln 2 + r, |r| <= ln 2 / 2."""
    real = real_of(x)
    n, i = nearest(b, x, 1 / math.log(2))
    r = b.fma(n, -real.ln2[0], x)
    return b.fma(n, -real.ln2[1], r), n, i


def keep_tiny(b: FunctionBuilder, x: Value, result: Value) -> Value:
    """`x` itself where it is so small that the function is the identity: exact, with the sign of zero."""
    return b.select(b.fcmp("olt", b.fabs(x), real_of(x).tiny), x, result)


def call_lanes(b: FunctionBuilder, symbol: str, *args: Value) -> Value:
    """The C function `symbol` of every lane, through one small function a module that loops over the
    lanes.
    """
    type = args[0].type
    if not type.is_vector:
        return b.call(symbol, args, type)
    lanes, element = type.lanes, type.element
    name = f"lanes{lanes}.{symbol}"
    if b.module.defined(name) is None:
        params = [(f"x{k}", t.ptr) for k in range(len(args))]
        f = b.module.function(name, params, internal=True)
        with f.loop(0, lanes) as lane:
            places = [f.offset(p, lane.iv, element) for p in f.params]
            f.store(f.call(symbol, [f.load(p, element) for p in places], element), places[0])
    # Aligned to the element only: vectors in memory claim no more anywhere.
    blocks = [b.stack(type.bytes) for _ in args]
    for block, arg in zip(blocks, args):
        b.store(arg, block)
    b.call(name, blocks)
    return b.load(blocks[0], type)
