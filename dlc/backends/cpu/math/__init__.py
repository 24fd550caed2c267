"""Vector math: elementary functions as polynomials, the same bits on every target with fused multiply-add.

`emit(b, name, *args)` writes the function `name` of scalars or vectors of any float type; f16 and bf16 are
computed in f32. Special values follow C: infinities, NaN, signed zeros, denormals and overflow are exact.

Largest errors in units in the last place, f32 / f64, measured on dense ranges and on random bit patterns and
enforced by tests/backends/cpu/test_math.py:

    exp 0.9/0.9     exp2 0.8/0.9   expm1 1.4/1.6   log 0.8/0.8     log2 1.6/1.4    log1p 1.3/1.2
    tanh 2.1/2.4    sigmoid 2.0/1.9               softplus 1.4/1.4                erf 2.4/3.0
    sinh 1.8/2.1    cosh 1.5/1.5   asinh 1.3/1.4   acosh 1.6/1.5   atanh 1.8/1.8   pow 0.51/C library
    sin 1.5/1.5     cos 1.5/1.6    tan 3.0/3.1     asin 1.8/2.0    acos 1.3/1.2    atan 1.7/1.6
    gelu, gelu_tanh: absolute error below 4e-7 / 1e-15 times max(|x|, 1)

sin, cos and tan of huge arguments and pow in f64 call the C library for each lane (sinf, sin, pow, ...).
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.math import error, exponential, inverse, logarithm, power, trigonometric
from dlc.backends.cpu.semantics import cast_float
from dlc.backends.cpu.types import Value
from dlc.errors import InternalError

#: Every function that :func:`emit` knows.
FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "tanh": exponential.tanh,
    "sigmoid": exponential.sigmoid,
    "softplus": exponential.softplus,
    "sinh": exponential.sinh,
    "cosh": exponential.cosh,
    "log": logarithm.log,
    "log2": logarithm.log2,
    "log1p": logarithm.log1p,
    "asinh": logarithm.asinh,
    "acosh": logarithm.acosh,
    "atanh": logarithm.atanh,
    "erf": error.erf,
    "gelu": error.gelu,
    "gelu_tanh": error.gelu_tanh,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "tan": trigonometric.tan,
    "asin": inverse.asin,
    "acos": inverse.acos,
    "atan": inverse.atan,
    "pow": power.pow,
}


def emit(b: FunctionBuilder, name: str, *args: Value) -> Value:
    """The function `name` of `args`, all of one float type; the result has it too."""
    function = FUNCTIONS.get(name)
    if function is None:
        raise InternalError(f"no vector function {name}")
    type = args[0].type
    if any(arg.type != type for arg in args):
        raise InternalError(f"{name} of different types: {', '.join(str(arg.type) for arg in args)}")
    if type.element in (t.f32, t.f64):
        return function(b, *args)
    wide = type.with_element(t.f32)
    return cast_float(b, function(b, *(cast_float(b, arg, wide) for arg in args)), type)
