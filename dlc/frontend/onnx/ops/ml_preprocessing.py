"""Importers of what prepares features: scaling, imputation, encoding, choosing columns."""

from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import ml
from dlc.frontend.onnx.geometry import require_equal, reshape
from dlc.frontend.onnx.ml import NUMBERS, cast, integers, numbers, tensor, texts
from dlc.ir.dims import maximum, minimum, product
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.indexing import Gather
from dlc.ir.ops.maps import StringIndex
from dlc.ir.ops.movement import Concat, Pad, Slice
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary, Where
from dlc.ir.ops.reduction import ArgReduce, Reduce


@ml("Scaler")
def scaler(ctx: NodeContext) -> Value:
    """(x - offset) * scale as f32, each for all features or for one each."""
    x = _wide(ctx, tensor(ctx))
    for fn, key, neutral in (("sub", "offset", 0.0), ("mul", "scale", 1.0)):
        content = numbers(ctx, key)
        if len(content) and not (content == neutral).all():
            x = ctx.add(Binary(fn), x, _per_feature(ctx, x, content, key, x.tensor.dtype))
    return cast(ctx, x, DType.F32)


@ml("Normalizer")
def normalizer(ctx: NodeContext) -> Value:
    """Rows divided by their maximum, sum of magnitudes or length as f32; a row for which that is 0 stays."""
    x, norm = _wide(ctx, tensor(ctx)), ctx.string("norm", "MAX")
    functions = {"MAX": "max", "L1": "l1", "L2": "l2"}
    if norm not in functions:
        ctx.fail(f"norm {norm!r} is none of {', '.join(functions)}", "model/attribute")
    if x.tensor.rank not in (1, 2):
        ctx.fail(f"operand 0 must have one or two axes, but is {x.type}", "model/type")
    size = ctx.add(Reduce(functions[norm], (x.tensor.rank - 1,), True), x)
    zero, one = (ctx.const(number, x.tensor.dtype) for number in (0.0, 1.0))
    divisor = ctx.add(Where(), ctx.add(Compare("eq"), size, zero), one, size)
    return cast(ctx, ctx.add(Binary("div"), x, divisor), DType.F32)


@ml("Binarizer")
def binarizer(ctx: NodeContext) -> Value:
    """1 for what is greater than the threshold, otherwise 0, of the type of x."""
    x = tensor(ctx)
    dtype = x.tensor.dtype
    # An integer and the threshold are compared as numbers.
    wide = x if dtype in (DType.F32, DType.F64) else cast(ctx, x, DType.F64)
    greater = ctx.add(Compare("gt"), wide, ctx.const(ctx.float("threshold", 0.0), wide.tensor.dtype))
    return cast(ctx, greater, dtype)


@ml("Imputer")
def imputer(ctx: NodeContext) -> Value:
    """x with one number replaced, by one for all features or one for each; NaN is replaced if it is NaN."""
    x = tensor(ctx)
    dtype = x.tensor.dtype
    is_float = dtype in (DType.F32, DType.F64)
    if is_float:
        imputed, replaced = numbers(ctx, "imputed_value_floats"), ctx.float("replaced_value_float", 0.0)
    else:
        imputed, replaced = integers(ctx, "imputed_value_int64s"), ctx.int("replaced_value_int64", 0)
    if not len(imputed):
        ctx.fail(f"there is no imputed value for {x.type}", "model/attribute")
    if not is_float and not (_fits(imputed, dtype) and _fits(np.array([replaced]), dtype)):
        ctx.unsupported(f"a value is no {dtype.text}")
    if is_float and np.isnan(replaced):
        found = ctx.add(Unary("is_nan"), x)
    else:
        found = ctx.add(Compare("eq"), x, ctx.const(replaced, dtype))
    values = _per_feature(ctx, x, imputed, "imputed values", dtype)
    return ctx.add(Where(), found, values, x)


@ml("OneHotEncoder")
def one_hot_encoder(ctx: NodeContext) -> Value:
    """A 1 at the place of the category of each element, along a new last axis, f32; floats are truncated.

    An unknown category has zeros only or, with `zeros` 0, is an error of the run.
    """
    x = tensor(ctx, (*NUMBERS, DType.STRING))
    categories = integers(ctx, "cats_int64s")
    if x.tensor.dtype is DType.STRING:
        names = np.array(texts(ctx, "cats_strings"), object)
        distinct, categories = np.unique(names, return_inverse=True)
        x = ctx.add(StringIndex(tuple(distinct.tolist())), x)
    if not len(categories):
        ctx.fail(f"there are no categories for {x.type}", "model/attribute")
    column = reshape(ctx, cast(ctx, x, DType.I64), (*x.tensor.shape, 1))
    found = ctx.add(Compare("eq"), column, ctx.const(categories))
    # Of equal categories the last one counts.
    last = np.array([category not in categories[place + 1 :] for place, category in enumerate(categories)])
    if not last.all():
        found = ctx.add(Binary("and"), found, ctx.const(last))
    if ctx.int("zeros", 1):
        return ctx.add(Cast(DType.F32), found)
    axis = x.tensor.rank
    marks = ctx.add(Cast(DType.I64), found)
    position = ctx.add(ArgReduce("max", axis, False, False), marks)
    known = ctx.add(Compare("eq"), ctx.add(Reduce("max", (axis,), False), marks), ctx.const(1, DType.I64))
    # The position behind the last category is an index fault.
    index = ctx.add(Where(), known, position, ctx.const(len(categories), DType.I64))
    return ctx.add(Gather(0), ctx.const(np.eye(len(categories), dtype=np.float32)), index)


@ml("FeatureVectorizer")
def feature_vectorizer(ctx: NodeContext) -> Value:
    """The operands side by side as f32, each [N, ...] as [N, n], filled up with zeros or cut to its `n`."""
    sizes = integers(ctx, "inputdimensions")
    if len(sizes) not in (0, len(ctx.operands)) or (len(sizes) and sizes.min() < 0):
        ctx.fail(
            f"inputdimensions {sizes.tolist()} are none of {len(ctx.operands)} operands", "model/attribute"
        )
    parts = []
    for index in range(len(ctx.operands)):
        x = ctx.required(index)
        if x.tensor.dtype not in NUMBERS or not x.tensor.rank:
            ctx.fail(f"operand {index} must hold rows of numbers, but is {x.type}", "model/type")
        shape = x.tensor.shape if x.tensor.rank > 1 else (1, *x.tensor.shape)
        part = reshape(ctx, cast(ctx, x, DType.F32), (shape[0], product(shape[1:])))
        parts.append(_sized(ctx, part, int(sizes[index])) if len(sizes) else part)
    for part in parts[1:]:
        require_equal(ctx, part.tensor.shape[0], parts[0].tensor.shape[0], "the numbers of rows")
    return ctx.add(Concat(1), *parts)


def _sized(ctx: NodeContext, x: Value, size: int) -> Value:
    """The first `size` columns of x [N, C], or x and columns of zeros."""
    rows, columns = x.tensor.shape
    kept, missing = minimum(columns, size), maximum(size - columns, 0)
    if kept is not columns:
        x = ctx.add(Slice((0, 0), (rows, kept), (1, 1)), x)
    return x if missing == 0 else ctx.add(Pad((0, 0), (0, missing), "constant"), x, ctx.const(0.0, DType.F32))


@ml("ArrayFeatureExtractor")
def array_feature_extractor(ctx: NodeContext) -> Value:
    """The elements of the last axis at some positions; of a vector as [1, n]."""
    x, positions = tensor(ctx, (*NUMBERS, DType.STRING)), ctx.required(1)
    if positions.tensor.dtype is not DType.I64 or not x.tensor.rank:
        ctx.fail(
            f"operands must be a tensor and i64 positions, but are {x.type}, {positions.type}", "model/type"
        )
    flat = reshape(ctx, positions, (positions.tensor.elements,), "positions")
    chosen = ctx.add(Gather(x.tensor.rank - 1), x, flat)
    return reshape(ctx, chosen, (1, *chosen.tensor.shape)) if x.tensor.rank == 1 else chosen


def _wide(ctx: NodeContext, x: Value) -> Value:
    """x as f64 if it is, otherwise as f32."""
    return x if x.tensor.dtype is DType.F64 else cast(ctx, x, DType.F32)


def _fits(values: Array, dtype: DType) -> bool:
    """Whether integers are numbers of `dtype`."""
    return bool((values == values.astype(dtype.numpy)).all())


def _per_feature(ctx: NodeContext, x: Value, content: Array, what: str, dtype: DType) -> Value:
    """A number for all features of x, or one for each of its last axis."""
    if len(content) > 1:
        if x.tensor.rank not in (1, 2):
            ctx.fail(f"{x.type} does not have one feature for each of {len(content)} of {what}", "model/type")
        require_equal(ctx, x.tensor.shape[-1], len(content), f"the numbers of features and of {what}")
    return ctx.const(content.astype(dtype.numpy) if len(content) > 1 else content.astype(dtype.numpy)[0])
