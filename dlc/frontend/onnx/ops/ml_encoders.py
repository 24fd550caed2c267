"""Importers of maps from labels to labels."""

from __future__ import annotations

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import ml
from dlc.frontend.onnx.look_up import look_up
from dlc.frontend.onnx.ml import integers, numbers, tensor, texts
from dlc.ir.dtypes import DType, from_numpy
from dlc.ir.graph import Value
from dlc.ir.operator import Array

#: The types of keys and values by the ends of their attributes' names.
_LISTS = {"strings": DType.STRING, "int64s": DType.I64, "floats": DType.F32}
_TENSOR_TYPES = (DType.STRING, DType.I64, DType.I32, DType.I16, DType.F32, DType.F64)


@ml("LabelEncoder")
def label_encoder_1(ctx: NodeContext) -> Value:
    """The position of each string in `classes_strings`, or the string at each position."""
    return _between(ctx, np.array(texts(ctx, "classes_strings"), object), None)


@ml("CategoryMapper")
def category_mapper(ctx: NodeContext) -> Value:
    """The number of each string, or the string of each number."""
    names, codes = texts(ctx, "cats_strings"), integers(ctx, "cats_int64s")
    if len(names) != len(codes):
        ctx.fail(f"there are {len(names)} cats_strings and {len(codes)} cats_int64s", "model/attribute")
    return _between(ctx, np.array(names, object), codes)


def _between(ctx: NodeContext, names: Array, codes: Array | None) -> Value:
    """Strings to their numbers (0, 1, ... for None), or numbers to strings."""
    x = tensor(ctx, (DType.STRING, DType.I64))
    codes = np.arange(len(names)) if codes is None else codes
    if x.tensor.dtype is DType.STRING:
        return look_up(ctx, x, names, codes, np.array(ctx.int("default_int64", -1)))
    return look_up(ctx, x, codes, names, np.array(ctx.string("default_string", "_Unused"), object))


@ml("LabelEncoder", since=2)
def label_encoder_2(ctx: NodeContext) -> Value:
    """The value of each element's key, or the default; of equal keys the first one counts."""
    keys, values = _list(ctx, "keys"), _list(ctx, "values")
    return _encoded(ctx, keys, values, _default(ctx, _type_of(values)))


@ml("LabelEncoder", since=4)
def label_encoder_4(ctx: NodeContext) -> Value:
    """As of version 2; keys, values and the default may be tensors of more types. NaN is a key as well."""
    keys, values = _list(ctx, "keys", tensors=True), _list(ctx, "values", tensors=True)
    if not ctx.has("default_tensor"):
        return _encoded(ctx, keys, values, _default(ctx, _type_of(values)))
    default = np.asarray(ctx.attributes["default_tensor"])
    if default.size != 1 or default.dtype != values.dtype:
        ctx.fail(f"default_tensor must hold one {_type_of(values).text}", "model/attribute")
    return _encoded(ctx, keys, values, default.reshape(()))


def _default(ctx: NodeContext, dtype: DType) -> Array:
    """The attribute with the default value of a type, or what stands for it."""
    match dtype:
        case DType.STRING:
            return np.array(ctx.string("default_string", "_Unused"), object)
        case DType.I64:
            return np.array(ctx.int("default_int64", -1))
        case DType.F32:
            return np.array(ctx.float("default_float", -0.0), np.float32)
    return np.array(0 if dtype.is_float else -1, dtype.numpy)


def _list(ctx: NodeContext, what: str, tensors: bool = False) -> Array:
    """The only one of the attributes that hold keys or values."""
    names = [f"{what}_{end}" for end in _LISTS] + ([f"{what}_tensor"] if tensors else [])
    present = [name for name in names if ctx.has(name)]
    if len(present) != 1:
        ctx.fail(f"one of {', '.join(names)} must be there", "model/attribute")
    (name,) = present
    match name.removeprefix(f"{what}_"):
        case "strings":
            return np.array(texts(ctx, name), object)
        case "int64s":
            return integers(ctx, name)
        case "floats":
            return numbers(ctx, name).astype(np.float32)
    content = np.asarray(ctx.attributes[name])
    if content.ndim != 1 or _type_of(content) not in _TENSOR_TYPES:
        ctx.fail(f"{name} must be a vector of strings or numbers", "model/attribute")
    return content


def _type_of(content: Array) -> DType:
    return DType.STRING if content.dtype.kind in "OUS" else from_numpy(content.dtype)


def _encoded(ctx: NodeContext, keys: Array, values: Array, default: Array) -> Value:
    if len(keys) != len(values):
        ctx.fail(f"there are {len(keys)} keys and {len(values)} values", "model/attribute")
    x = tensor(ctx, (_type_of(keys),))
    return look_up(ctx, x, keys, values, default)
