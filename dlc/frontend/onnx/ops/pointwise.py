"""Arithmetic, comparison, logical and bitwise operators of ONNX."""
from __future__ import annotations

import functools

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.operands import broadcast_operands, limited_broadcast_operands, require_shape
from dlc.frontend.onnx.registry import importer
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array, Operator
from dlc.ir.ops.conversion import float_limit
from dlc.ir.ops.movement import Reshape
from dlc.ir.ops.pointwise import Binary, Cast, Clip, Compare, IsInf, Unary, Where

_UNARY = {
    "Abs": ("abs", 1),
    "Neg": ("neg", 1),
    "Sign": ("sign", 9),
    "Floor": ("floor", 1),
    "Ceil": ("ceil", 1),
    "Round": ("round", 11),
    "Exp": ("exp", 1),
    "Log": ("log", 1),
    "Sqrt": ("sqrt", 1),
    "Reciprocal": ("reciprocal", 1),
    "Sin": ("sin", 7),
    "Cos": ("cos", 7),
    "Tan": ("tan", 7),
    "Asin": ("asin", 7),
    "Acos": ("acos", 7),
    "Atan": ("atan", 7),
    "Sinh": ("sinh", 9),
    "Cosh": ("cosh", 9),
    "Asinh": ("asinh", 9),
    "Acosh": ("acosh", 9),
    "Atanh": ("atanh", 9),
    "Not": ("not", 1),
    "BitwiseNot": ("bitwise_not", 18),
    "IsNaN": ("is_nan", 9),
}
_BINARY = {
    "Add": ("add", 7),
    "Sub": ("sub", 7),
    "Mul": ("mul", 7),
    "Div": ("div", 7),
    "Pow": ("pow", 7),
    "And": ("and", 7),
    "Or": ("or", 7),
    "Xor": ("xor", 7),
    "BitwiseAnd": ("bitwise_and", 18),
    "BitwiseOr": ("bitwise_or", 18),
    "BitwiseXor": ("bitwise_xor", 18),
}
_COMPARE = {
    "Equal": ("eq", 7),
    "Less": ("lt", 7),
    "LessOrEqual": ("le", 12),
    "Greater": ("gt", 7),
    "GreaterOrEqual": ("ge", 12),
}
_VARIADIC = {"Max": "max", "Min": "min", "Sum": "add"}

#: Since this opset operands broadcast as in NumPy; operators that are older broadcast on request only.
_MULTIDIRECTIONAL = 7


def _register_unary(op_type: str, fn: str, since: int) -> None:
    @importer(op_type, since)
    def unary(ctx: NodeContext) -> Value:
        return ctx.add(Unary(fn), ctx.required(0))


@importer("Erf", since=9)
def erf(ctx: NodeContext) -> Value:
    """The error function; of integers in f32, converted back as by Cast."""
    x = ctx.required(0)
    if not x.tensor.dtype.is_integer:
        return ctx.add(Unary("erf"), x)
    return ctx.add(Cast(x.tensor.dtype), ctx.add(Unary("erf"), ctx.add(Cast(DType.F32), x)))


def _register_two(op_type: str, operator: Operator, since: int) -> None:
    @importer(op_type, since)
    def two(ctx: NodeContext) -> Value:
        return ctx.add(operator, *broadcast_operands(ctx, ctx.required(0), ctx.required(1)))

    if since == _MULTIDIRECTIONAL:

        @importer(op_type)
        def limited(ctx: NodeContext) -> Value:
            return ctx.add(operator, *limited_broadcast_operands(ctx))


def _register_variadic(op_type: str, fn: str) -> None:
    @importer(op_type)
    def variadic(ctx: NodeContext) -> Value:
        return _fold(ctx, fn)


for _op_type, (_fn, _since) in _UNARY.items():
    _register_unary(_op_type, _fn, _since)
for _op_type, (_fn, _since) in _BINARY.items():
    _register_two(_op_type, Binary(_fn), _since)
for _op_type, (_fn, _since) in _COMPARE.items():
    _register_two(_op_type, Compare(_fn), _since)
for _op_type, _fn in _VARIADIC.items():
    _register_variadic(_op_type, _fn)


def _fold(ctx: NodeContext, fn: str) -> Value:
    """All operands combined from left to right; a single one is itself. They broadcast since opset 8."""
    operands = [ctx.required(index) for index in range(max(1, len(ctx.operands)))]
    if ctx.opset < 8:
        for index, operand in enumerate(operands):
            require_shape(ctx, operand, operands[0].tensor.shape, f"operand {index}")
    broadcast_operands(ctx, *operands)
    return functools.reduce(lambda left, right: ctx.add(Binary(fn), left, right), operands)


@importer("Mean")
def mean(ctx: NodeContext) -> Value:
    """The sum of all operands divided by their number."""
    total = _fold(ctx, "add")
    return ctx.add(Binary("div"), total, ctx.const(len(ctx.operands), total.tensor.dtype))


@importer("Mod", since=10)
def mod(ctx: NodeContext) -> Value:
    """Remainder of the floored quotient, or with `fmod` of the truncated one (floats before opset 28)."""
    left, fmod = ctx.required(0), ctx.int("fmod", 0)
    if fmod not in (0, 1):
        ctx.fail(f"attribute 'fmod' must be 0 or 1, but is {fmod}")
    if left.tensor.dtype.is_float and not fmod and ctx.opset < 28:
        ctx.fail("attribute 'fmod' must be 1 for floating-point operands")
    return ctx.add(Binary("fmod" if fmod else "mod"), *broadcast_operands(ctx, left, ctx.required(1)))


@importer("BitShift", since=11)
def bit_shift(ctx: NodeContext) -> Value:
    """Shift by the second operand, to the side that `direction` names."""
    match ctx.string("direction"):
        case "LEFT":
            fn = "shift_left"
        case "RIGHT":
            fn = "shift_right"
        case other:
            ctx.fail(f"attribute 'direction' must be LEFT or RIGHT, but is {other!r}")
    return ctx.add(Binary(fn), *broadcast_operands(ctx, ctx.required(0), ctx.required(1)))


@importer("IsInf", since=10)
def is_inf(ctx: NodeContext) -> Value:
    """Infinities, of one sign only when an attribute turns the other off."""
    positive, negative = ctx.int("detect_positive", 1), ctx.int("detect_negative", 1)
    return ctx.add(IsInf(bool(positive), bool(negative)), ctx.required(0))


@importer("Where", since=9)
def where(ctx: NodeContext) -> Value:
    """A choice by a condition."""
    return ctx.add(Where(), *broadcast_operands(ctx, *(ctx.required(index) for index in range(3))))


@importer("Clip")
def clip_attributes(ctx: NodeContext) -> Value:
    """Bounds are attributes."""
    x = ctx.required(0)
    low = ctx.float("min") if ctx.has("min") else None
    high = ctx.float("max") if ctx.has("max") else None
    return _clip(ctx, x, low, high)


@importer("Clip", since=11)
def clip(ctx: NodeContext) -> Value:
    """Bounds are scalar operands; run-time ones become max and min."""
    x = ctx.required(0)
    bounds = [None if ctx.optional(index) is None else _scalar(ctx, index, x) for index in (1, 2)]
    numbers = [None if bound is None else ctx.importer.constant(bound) for bound in bounds]
    if any(bound is not None and number is None for bound, number in zip(bounds, numbers)):
        for fn, bound in zip(("max", "min"), bounds):
            x = x if bound is None else ctx.add(Binary(fn), x, bound)
        return x
    low, high = (None if number is None else _number(number) for number in numbers)
    return _clip(ctx, x, low, high)


def _scalar(ctx: NodeContext, index: int, x: Value) -> Value:
    """Operand `index`, which must hold one number of the type of `x`, as a tensor of rank 0."""
    value = ctx.required(index)
    if value.tensor.dtype is not x.tensor.dtype:
        ctx.fail(f"operand {index} must be of type {x.tensor.dtype.text}, but is {value.type}")
    if value.tensor.rank == 0:
        return value
    if value.tensor.shape != (1,):
        ctx.fail(f"operand {index} must be a scalar, but is {value.type}")
    content = ctx.constant(index)
    return ctx.builder.add(Reshape(()), value) if content is None else ctx.const(content.reshape(()))


def _number(array: Array) -> int | float:
    return int(array) if np.issubdtype(array.dtype, np.integer) else float(array)


def _clip(ctx: NodeContext, x: Value, low: float | int | None, high: float | int | None) -> Value:
    """Clip; a bound that is not given is the largest finite number of a float type, by the standard."""
    dtype = x.tensor.dtype
    if dtype.is_float:
        limit = float_limit(dtype)
        low, high = (-limit if low is None else low, limit if high is None else high)
    return ctx.add(Clip(low, high), x)
