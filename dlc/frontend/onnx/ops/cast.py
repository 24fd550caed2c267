"""Conversions between element types, and the operators that pass a value on."""
from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.geometry import only_since
from dlc.frontend.onnx.registry import importer
from dlc.frontend.onnx.tensors import element_type
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
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
