"""Importers of the operators that make tensors from little: constants, ranges, identities."""
from __future__ import annotations

import math

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import reshape
from dlc.frontend.onnx.registry import importer
from dlc.frontend.onnx.tensors import element_type
from dlc.ir.dims import Dim, ceildiv, maximum
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.movement import Expand, Range
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary

_CONSTANT_FORMS = ("value", "sparse_value", "value_int", "value_ints", "value_float", "value_floats",
                   "value_string", "value_strings")


@importer("Constant")
def constant(ctx: NodeContext) -> Value:
    """The content of the one attribute that is given."""
    given = [form for form in _CONSTANT_FORMS if ctx.has(form)]
    if len(given) != 1:
        ctx.fail(f"exactly one of {', '.join(_CONSTANT_FORMS)} must be given, but there are {len(given)}")
    return ctx.builder.constant(_content(ctx, given[0]), name=ctx.output_names[0])


def _content(ctx: NodeContext, form: str) -> Array:
    match form:
        case "value_int":
            return np.array(ctx.int(form), dtype=np.int64)
        case "value_ints":
            return np.array(ctx.ints(form), dtype=np.int64)
        case "value_float":
            return np.array(ctx.float(form), dtype=np.float32)
        case "value_floats":
            return np.array(ctx.floats(form), dtype=np.float32)
        case "value_string":
            return np.array(ctx.string(form), dtype=object)
        case "value_strings":
            return np.array(ctx.strings(form), dtype=object)
    return _tensor(ctx, form)


def _tensor(ctx: NodeContext, key: str) -> Array:
    """An attribute that is a tensor; ModelError for anything else."""
    array = ctx.attributes[key]
    if not isinstance(array, np.ndarray):
        ctx.fail(f"attribute {key!r} must be a tensor, but is {type(array).__name__}")
    return array


@importer("ConstantOfShape", since=9)
def constant_of_shape(ctx: NodeContext) -> Value:
    """A tensor of the shape that the operand holds, filled with `value` (a tensor of one element, 0.0f)."""
    value = _tensor(ctx, "value") if ctx.has("value") else np.zeros(1, dtype=np.float32)
    if value.size != 1:
        ctx.fail(f"attribute 'value' must have one element, but has {value.size}")
    return ctx.add(Expand(ctx.dims(0)), ctx.const(value.reshape(())))


@importer("Range", since=11)
def range_(ctx: NodeContext) -> Value:
    """start + i * delta for i below max(ceil((limit - start) / delta), 0).

    The quotient is taken in float64, and exactly where the operands are integers and delta is constant.
    Opset 27 brought the narrow floats, computed in float32.
    """
    if ctx.int("stash_type", 1) != 1:
        ctx.unsupported(f"stash_type {ctx.int('stash_type')} asks for another type than float32")
    start, _, delta = (reshape(ctx, ctx.required(index), (), "bound") for index in range(3))
    extent, content = _range_extent(ctx)
    result = ctx.add(Range(extent), start, delta)
    if content is not None:
        ctx.set_dims(result, content)
    return result


def _range_extent(ctx: NodeContext) -> tuple[Dim, Array | None]:
    """The number of elements of Range, and its elements as Dims where they are known."""
    constants = [ctx.importer.constant(ctx.single(index)) for index in range(3)]
    start, limit, delta = (None if array is None else array.reshape(-1)[0] for array in constants)
    if start is not None and limit is not None and delta is not None and start.dtype.kind == "f":
        with np.errstate(all="ignore"):
            quotient = np.float64(limit - start) / np.float64(delta)
        if not np.isfinite(quotient):
            ctx.fail(f"the number of elements from {start} to {limit} by {delta} is not finite")
        return max(math.ceil(quotient), 0), None
    if (step := _exact_step(ctx)) is None:
        return _computed_extent(ctx), None
    (first,), (last,) = ctx.dims(0), ctx.dims(1)
    extent = maximum(ceildiv(last - first, step) if step > 0 else ceildiv(first - last, -step), 0)
    if not isinstance(extent, int) or extent > ctx.importer.limits.rank:
        return extent, None
    content = np.empty(extent, dtype=object)
    content[:] = [first + index * step for index in range(extent)]
    return extent, content


def _exact_step(ctx: NodeContext) -> int | None:
    """The delta of a Range over integers when it is known at compile time."""
    if not ctx.required(0).tensor.dtype.is_integer:
        return None
    known = ctx.known_dims(2)
    step = None if known is None else known.reshape(-1)[0]
    if step == 0:
        ctx.fail("delta is 0")
    return step if isinstance(step, int) else None


def _computed_extent(ctx: NodeContext) -> Dim:
    """The number of elements when it depends on data: computed in float64 and bound to a symbol."""
    start, limit, delta = (ctx.add(Cast(DType.F64), ctx.required(index)) for index in range(3))
    quotient = ctx.add(Binary("div"), ctx.add(Binary("sub"), limit, start), delta)
    count = ctx.add(Cast(DType.I64), ctx.add(Unary("ceil"), quotient))
    bound: Dim = ctx.importer.dims(count, ctx).reshape(-1)[0]
    return maximum(bound, 0)


@importer("EyeLike", since=9)
def eye_like(ctx: NodeContext) -> Value:
    """Ones on diagonal k of a matrix with the operand's shape; `dtype` overrides its type."""
    x = ctx.required(0).tensor
    if x.rank != 2:
        ctx.fail(f"the operand must be a matrix, but is {x}")
    dtype = element_type(ctx.int("dtype"), "attribute 'dtype'") if ctx.has("dtype") else x.dtype
    rows, columns = x.shape
    one = ctx.const(1, DType.I64)
    row = ctx.add(Range(rows), ctx.const(ctx.int("k", 0), DType.I64), one)
    column = ctx.add(Range(columns), ctx.const(0, DType.I64), one)
    return ctx.add(Cast(dtype), ctx.add(Compare("eq"), reshape(ctx, row, (rows, 1)), column))
