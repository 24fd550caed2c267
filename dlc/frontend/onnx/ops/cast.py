"""Conversions between element types, and the operators that pass a value on."""
from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import only_since
from dlc.frontend.onnx.registry import importer
from dlc.frontend.onnx.tensors import element_type
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.movement import Expand
from dlc.ir.ops.pointwise import BitCast, Cast


@importer("Cast")
def cast_by_name(ctx: NodeContext) -> Value:
    """Conversion to the type that `to` names as TensorProto.DataType does."""
    from onnx import TensorProto

    name = ctx.string("to")
    if name not in TensorProto.DataType.keys():  # noqa: SIM118 - an enumeration of protobuf, no dictionary
        ctx.fail(f"attribute 'to' names no element type: {name!r}", "model/attribute")
    to = element_type(TensorProto.DataType.Value(name), "attribute 'to'")
    x = ctx.required(0)
    return x if x.tensor.dtype is to else ctx.add(Cast(to), x)


@importer("Cast", since=6)
def cast(ctx: NodeContext) -> Value:
    """Conversion to the type that `to` numbers; `saturate` since 19, `round_mode` since 24."""
    return _cast(ctx, ctx.dtype("to"))


@importer("CastLike", since=15)
def cast_like(ctx: NodeContext) -> Value:
    """Conversion to the type of the second operand."""
    return _cast(ctx, ctx.required(1).tensor.dtype)


def _cast(ctx: NodeContext, to: DType) -> Value:
    x = ctx.required(0)
    only_since(ctx, 19, "saturate")
    only_since(ctx, 24, "round_mode")
    round_mode = ctx.string("round_mode", "up")
    if round_mode not in ("up", "down", "nearest"):
        ctx.fail(f"attribute 'round_mode' must be up, down or nearest, but is {round_mode!r}")
    saturate = bool(ctx.int("saturate", 1))
    return x if x.tensor.dtype is to else ctx.add(Cast(to, saturate, round_mode), x)


@importer("BitCast", since=26)
def bit_cast(ctx: NodeContext) -> Value:
    """The same bits as another type of the same width."""
    return ctx.add(BitCast(ctx.dtype("to")), ctx.required(0))


@importer("Identity")
def identity(ctx: NodeContext) -> Value:
    """The operand itself, whatever its type."""
    return ctx.required(0)


@importer("Dropout", since=7)
def dropout_mask_like_data(ctx: NodeContext) -> tuple[Value, ...]:
    """Inference only: `ratio` has no effect, and the mask has the type of the data."""
    ctx.float("ratio", 0.5)
    return _kept(ctx, ctx.required(0).tensor.dtype)


@importer("Dropout", since=10)
def dropout_ratio_attribute(ctx: NodeContext) -> tuple[Value, ...]:
    """Inference only: `ratio` has no effect, and the mask is bool."""
    ctx.float("ratio", 0.5)
    return _kept(ctx, DType.BOOL)


@importer("Dropout", since=12)
def dropout(ctx: NodeContext) -> tuple[Value, ...]:
    """Identity, unless `training_mode` may be true and the ratio is not 0. `seed` has no effect."""
    ctx.int("seed", 0)
    if ctx.optional(2) is not None:
        training, ratio = ctx.constant(2), ctx.constant(1)
        drops = (ctx.optional(1) is None or ratio is None or bool(np.any(ratio != 0)))
        if drops and (training is None or bool(np.any(training))):
            ctx.unsupported("dropout in training mode", "export the model for inference")
    return _kept(ctx, DType.BOOL)


def _kept(ctx: NodeContext, mask: DType) -> tuple[Value, ...]:
    """The data, and a mask of ones when the node wants one."""
    x = ctx.required(0)
    if not ctx.wants(1):
        return (x,)
    return (x, ctx.builder.add(Expand(x.tensor.shape), ctx.const(1, mask)))
