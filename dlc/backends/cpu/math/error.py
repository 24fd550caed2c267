"""The error function and the GELU activations."""
from __future__ import annotations

import math

from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.math import coefficients as c, real as r
from dlc.backends.cpu.math.exponential import sigmoid
from dlc.backends.cpu.types import Value


def erf(b: FunctionBuilder, x: Value) -> Value:
    """Near zero an odd polynomial, from 0.9 on 1 - exp of a polynomial for log(erfc)."""
    single = r.real_of(x) is r.F32
    beyond, origin = (4.0, 2.4) if single else (6.0, 3.0)
    near, far = (c.ERF_SMALL_F32, c.ERF_LARGE_F32) if single else (c.ERF_SMALL_F64, c.ERF_LARGE_F64)
    a = r.at_most(b, b.fabs(x), beyond)  # there it is 1
    small = b.fma(x, r.horner(b, b.fmul(x, x), near), x)
    rest, _, i = r.reduce_exp(b, r.horner(b, b.fsub(a, origin), far))
    real = r.real_of(x)
    complement = b.fmul(r.horner(b, rest, (1.0, 1.0, *real.exp)), r.power_of_two(b, i, real))
    large = b.copysign(b.fsub(1.0, complement), x)
    return b.select(b.fcmp("olt", a, 0.9), small, large)


def gelu(b: FunctionBuilder, x: Value) -> Value:
    """x (1 + erf(x / sqrt 2)) / 2; accurate to an absolute error of 3e-7 (f32) where it vanishes, -0 at
    -inf.
    """
    result = b.fmul(b.fmul(x, 0.5), b.fadd(erf(b, b.fmul(x, math.sqrt(0.5))), 1.0))
    return _vanish(b, x, result)


def gelu_tanh(b: FunctionBuilder, x: Value) -> Value:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2 = x sigmoid(twice that argument); -0 at -inf."""
    cubic = b.fma(b.fmul(x, x), 0.044715, 1.0)
    argument = b.fmul(b.fmul(x, 2 * math.sqrt(2 / math.pi)), cubic)
    return _vanish(b, x, b.fmul(x, sigmoid(b, argument)))


def _vanish(b: FunctionBuilder, x: Value, result: Value) -> Value:
    """-0 far on the negative side, where the formulas give infinity times zero."""
    return b.select(b.fcmp("olt", x, -40.0), -0.0, result)
