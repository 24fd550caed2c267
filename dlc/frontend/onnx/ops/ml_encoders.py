"""Importers of maps from labels to labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import ml
from dlc.frontend.onnx.look_up import look_up
from dlc.frontend.onnx.ml import integers, numbers, tensor
from dlc.ir.dtypes import DType, from_numpy
from dlc.ir.graph import Value
from dlc.ir.operator import Array

#: The types of keys and values by the ends of their attributes' names.
_LISTS = {"strings": DType.STRING, "int64s": DType.I64, "floats": DType.F32}
_DEFAULTS: dict[DType, tuple[str, Any]] = {
    DType.STRING: ("default_string", "_Unused"),
    DType.I64: ("default_int64", -1),
    DType.F32: ("default_float", -0.0),
}
_TENSOR_TYPES = (DType.STRING, DType.I64, DType.I32, DType.I16, DType.F32, DType.F64)


@ml("LabelEncoder")
def label_encoder_1(ctx: NodeContext) -> Value:
    """The position of each string in `classes_strings`, or the string at each position."""
    return _between(ctx, np.array(ctx.strings("classes_strings"), object), None)


@ml("CategoryMapper")
def category_mapper(ctx: NodeContext) -> Value:
    """The number of each string, or the string of each number."""
    texts, codes = ctx.strings("cats_strings", ()), integers(ctx, "cats_int64s")
    if len(texts) != len(codes):
        ctx.fail(f"there are {len(texts)} cats_strings and {len(codes)} cats_int64s", "model/attribute")
    return _between(ctx, np.array(texts, object), codes)


def _between(ctx: NodeContext, texts: Array, codes: Array | None) -> Value:
    """Strings to their numbers (0, 1, ... for None), or numbers to strings."""
    x = tensor(ctx, (DType.STRING, DType.I64))
    codes = np.arange(len(texts)) if codes is None else codes
    if x.tensor.dtype is DType.STRING:
        return look_up(ctx, x, texts, codes, np.array(ctx.int("default_int64", -1)))
    return look_up(ctx, x, codes, texts, np.array(ctx.string("default_string", "_Unused"), object))


@ml("LabelEncoder", since=2)
def label_encoder_2(ctx: NodeContext) -> Value:
    """The value of each element's key, or the default; of equal keys the first one counts."""
    keys, values = _list(ctx, "keys"), _list(ctx, "values")
    name, default = _DEFAULTS[_type_of(values)]
    given = ctx.attributes.get(name, default)
    return _encoded(ctx, keys, values, np.array(given, values.dtype))


@ml("LabelEncoder", since=4)
def label_encoder_4(ctx: NodeContext) -> Value:
    """As of version 2; keys, values and the default may be tensors of more types. NaN is a key as well."""
    keys, values = _list(ctx, "keys", tensors=True), _list(ctx, "values", tensors=True)
    dtype = _type_of(values)
    name, default = _DEFAULTS.get(dtype, ("default_tensor", 0 if dtype.numpy.kind == "f" else -1))
    given = ctx.attributes.get(name, default)
    if ctx.has("default_tensor"):
        given = np.asarray(ctx.attributes["default_tensor"])
        if given.size != 1 or given.dtype != values.dtype:
            ctx.fail(f"default_tensor must hold one {dtype.text}", "model/attribute")
        given = given.reshape(())
    return _encoded(ctx, keys, values, np.array(given, values.dtype))


def _list(ctx: NodeContext, what: str, tensors: bool = False) -> Array:
    """The only one of the attributes that hold keys or values."""
    names = [f"{what}_{end}" for end in _LISTS] + ([f"{what}_tensor"] if tensors else [])
    present = [name for name in names if ctx.has(name)]
    if len(present) != 1:
        ctx.fail(f"one of {', '.join(names)} must be there", "model/attribute")
    (name,) = present
    match name.removeprefix(f"{what}_"):
        case "strings":
            return np.array(ctx.strings(name), object)
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
