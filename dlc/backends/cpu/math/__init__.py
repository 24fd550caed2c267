"""Vector math: elementary functions as polynomials, the same on every target, with stated errors.

`emit(b, name, *args)` writes the function `name` of scalars or vectors of any float type; f16 and bf16 are
computed in f32. Special values follow C: infinities, NaN, signed zeros, denormals and overflow are exact.
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
