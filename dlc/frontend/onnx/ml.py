"""What importers of traditional machine learning share: matrices, lists of numbers, transforms of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import reshape
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.operator import Array
from dlc.ir.ops.movement import Concat
from dlc.ir.ops.normalization import Softmax
from dlc.ir.ops.pointwise import Binary, Cast, Compare, Unary, Where
from dlc.ir.ops.reduction import Reduce

#: The element types of most operators.
NUMBERS = (DType.F32, DType.F64, DType.I32, DType.I64)
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
#: What SOFTMAX_ZERO takes for 0.
_NEARLY_ZERO = 1e-7


def matrix(ctx: NodeContext, dtypes: Sequence[DType] = NUMBERS) -> Value:
    """Operand 0, rows of features of one of `dtypes`; ModelError for another type or rank."""
    x = tensor(ctx, dtypes)
    if x.tensor.rank != 2:
        ctx.fail(f"operand 0 must have two axes, but is {x.type}", "model/type")
    return x


def features(ctx: NodeContext, vector: bool = False) -> Value:
    """Operand 0, rows of features, as f64 if it is, otherwise f32; with `vector` a single row may be one."""
    x = tensor(ctx)
    if vector and x.tensor.rank == 1:
        x = reshape(ctx, x, (1, x.tensor.shape[0]))
    elif x.tensor.rank != 2:
        ctx.fail(f"operand 0 must have two axes, but is {x.type}", "model/type")
    return x if x.tensor.dtype is DType.F64 else cast(ctx, x, DType.F32)


def tensor(ctx: NodeContext, dtypes: Sequence[DType] = NUMBERS) -> Value:
    """Operand 0; ModelError unless it is a tensor of one of `dtypes`."""
    x = ctx.required(0)
    if x.tensor.dtype not in dtypes:
        names = ", ".join(dtype.text for dtype in dtypes)
        ctx.fail(f"operand 0 must be of one of the types {names}, but is {x.type}", "model/type")
    return x


def cast(ctx: NodeContext, x: Value, dtype: DType) -> Value:
    """`x` as `dtype`."""
    return x if x.tensor.dtype is dtype else ctx.add(Cast(dtype), x)


def integers(ctx: NodeContext, key: str) -> Array:
    """An attribute of integers, i64; empty when absent. ModelError when it holds something else."""
    content = np.asarray(ctx.attributes.get(key, ()))
    if content.size and content.dtype.kind not in "iu":
        ctx.fail(f"attribute {key!r} must be a list of integers", "model/attribute")
    return content.astype(np.int64).reshape(-1)


def texts(ctx: NodeContext, key: str) -> tuple[str, ...]:
    """An attribute of strings; empty when absent. ModelError when it holds something else."""
    content = ctx.strings(key, ())
    if not all(isinstance(text, str) for text in content):
        ctx.fail(f"attribute {key!r} must be a list of strings", "model/attribute")
    return content


def numbers(ctx: NodeContext, key: str, tensor: bool = False) -> Array:
    """An attribute of numbers, f64; empty when absent. ModelError when it holds something else.

    With `tensor` it may be given as the attribute <key>_as_tensor instead, but not both.
    """
    keys = [name for name in ((key, f"{key}_as_tensor") if tensor else (key,)) if ctx.has(name)]
    lists = [np.asarray(ctx.attributes[name]) for name in keys]
    present = [content for content in lists if content.size]
    if len(present) > 1:
        ctx.fail(f"attributes {keys[0]!r} and {keys[1]!r} are both there", "model/attribute")
    if not present:
        return np.zeros(0)
    if present[0].dtype.kind not in "fiuV":
        ctx.fail(f"attribute {key!r} must be a list of numbers", "model/attribute")
    return present[0].astype(np.float64).reshape(-1)


def post_transform(ctx: NodeContext, scores: Value, name: str) -> Value:
    """The transform called `name` of scores [N, C].

    A single score, which there is nothing to weigh against, is changed by PROBIT alone, as in onnxruntime.
    """
    if scores.tensor.shape[1] == 1 and name != "PROBIT":
        return scores
    match name:
        case "NONE":
            return scores
        case "SOFTMAX":
            return ctx.add(Softmax(1), scores)
        case "LOGISTIC":
            return ctx.add(Unary("sigmoid"), scores)
        case "SOFTMAX_ZERO":
            return _softmax_zero(ctx, scores)
        case "PROBIT":
            return _probit(ctx, scores)
    ctx.fail(f"post_transform {name!r} is none of {', '.join(TRANSFORMS)}", "model/attribute")


def two_scores(ctx: NodeContext, score: Value, *, complement: bool, transform: str) -> Value:
    """The scores of two classes from that of the second, [N, 1] -> [N, 2], transformed.

    The other one is 1 minus it, if `complement`, or minus it. The softmax transforms leave them as they are,
    as in onnxruntime.
    """
    whole = 1.0 if complement and transform != "LOGISTIC" else 0.0
    other = ctx.add(Binary("sub"), ctx.const(whole, score.tensor.dtype), score)
    both = ctx.add(Concat(1), other, score)
    return both if transform in ("SOFTMAX", "SOFTMAX_ZERO") else post_transform(ctx, both, transform)


def _softmax_zero(ctx: NodeContext, scores: Value) -> Value:
    """Softmax among the scores other than 0; those stay 0. Nothing but zeros gives NaN."""
    dtype = scores.tensor.dtype
    highest = ctx.add(Reduce("max", (1,), True), scores)
    powers = ctx.add(Unary("exp"), ctx.add(Binary("sub"), scores, highest))
    large = ctx.add(Compare("gt"), ctx.add(Unary("abs"), scores), ctx.const(_NEARLY_ZERO, dtype))
    scale = ctx.add(Unary("exp"), ctx.add(Unary("neg"), highest))
    powers, small = (
        ctx.add(Where(), large, powers, other)
        for other in (ctx.const(0.0, dtype), ctx.add(Binary("mul"), scores, scale))
    )
    total = ctx.add(Reduce("sum", (1,), True), powers)
    return ctx.add(Binary("div"), small, total)


def _probit(ctx: NodeContext, scores: Value) -> Value:
    """The inverse of the normal distribution, sqrt(2) erfinv(2 x - 1), by Winitzki's approximation.

    The inverse of erf as in S. Winitzki, "A handy approximation for the error function and its inverse"
    (2008), with the constants of onnxruntime and of the ONNX reference.
    """
    dtype = scores.tensor.dtype

    def binary(fn: str, left: Value, right: Value | float) -> Value:
        return ctx.add(Binary(fn), left, ctx.const(right, dtype) if isinstance(right, float) else right)

    z = binary("sub", binary("mul", scores, 2.0), 1.0)
    one = ctx.const(1.0, dtype)
    log = ctx.add(Unary("log"), binary("mul", binary("sub", one, z), binary("add", one, z)))
    half, quotient = binary("add", binary("mul", log, 0.5), 2 / (3.14159 * 0.147)), binary("div", log, 0.147)
    root = ctx.add(Unary("sqrt"), binary("sub", binary("mul", half, half), quotient))
    # root - half, of which the second form does not cancel.
    small = binary("div", ctx.add(Unary("neg"), quotient), binary("add", root, half))
    positive = ctx.add(Compare("gt"), half, ctx.const(0.0, dtype))
    size = ctx.add(Unary("sqrt"), ctx.add(Where(), positive, small, binary("sub", root, half)))
    negative = ctx.add(Compare("lt"), z, ctx.const(0.0, dtype))
    return binary("mul", ctx.add(Where(), negative, ctx.add(Unary("neg"), size), size), 1.41421356)
