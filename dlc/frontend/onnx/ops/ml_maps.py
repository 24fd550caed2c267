"""Importers of what makes and reads maps, which Python does at run time."""

from __future__ import annotations

from dlc.frontend.onnx.context import NodeContext
from dlc.frontend.onnx.extension import ml
from dlc.frontend.onnx.geometry import require_equal, reshape
from dlc.frontend.onnx.ml import integers, tensor, texts
from dlc.frontend.onnx.open_results import bind_extents, with_symbols
from dlc.ir.dtypes import DType
from dlc.ir.graph import Value
from dlc.ir.ops.maps import CastMap, DictVectorizer, ZipMap
from dlc.ir.types import MapType

_TARGETS = {"TO_FLOAT": DType.F32, "TO_STRING": DType.STRING, "TO_INT64": DType.I64}


@ml("ZipMap")
def zip_map(ctx: NodeContext) -> Value:
    """A sequence of maps from the labels of classes to the numbers of each row; a vector is one row."""
    x, keys = tensor(ctx, (DType.F32,)), _keys(ctx, "classlabels_int64s", "classlabels_strings")
    if x.tensor.rank == 1:
        x = reshape(ctx, x, (1, *x.tensor.shape))
    elif x.tensor.rank != 2:
        ctx.fail(f"operand 0 must have one or two axes, but is {x.type}", "model/type")
    require_equal(ctx, x.tensor.shape[1], len(keys), "the numbers of columns and of labels")
    return ctx.add(ZipMap(keys), x)


@ml("DictVectorizer")
def dict_vectorizer(ctx: NodeContext) -> Value:
    """The values of a map under the words of a vocabulary: [1, words]."""
    source, keys = _map(ctx), _keys(ctx, "int64_vocabulary", "string_vocabulary")
    if isinstance(keys[0], str) != (source.key is DType.STRING):
        ctx.fail(f"the vocabulary is none of a {source}", "model/attribute")
    return ctx.add(DictVectorizer(keys, source), ctx.required(0))


@ml("CastMap")
def cast_map(ctx: NodeContext) -> Value:
    """The values of a map in the order of its keys, or, if SPARSE, at the places that the keys are."""
    source, to, form = _map(ctx), ctx.string("cast_to", "TO_FLOAT"), ctx.string("map_form", "DENSE")
    if source.key is not DType.I64:
        ctx.fail(f"the keys of a {source} are no integers", "model/type")
    if to not in _TARGETS or form not in ("DENSE", "SPARSE"):
        ctx.fail(f"cast_to and map_form cannot be {to!r} and {form!r}", "model/attribute")
    size = ctx.int("max_map", 1) if form == "SPARSE" else None
    if size is not None and size < 0:
        ctx.fail(f"max_map is {size}, a negative number", "model/attribute")
    type_, symbols = with_symbols(ctx, _TARGETS[to], (1, size))
    result = ctx.add(CastMap(source, type_, form == "DENSE"), ctx.required(0))
    bind_extents(ctx, symbols, result)
    return result


def _keys(ctx: NodeContext, numbers: str, strings: str) -> tuple[int, ...] | tuple[str, ...]:
    """The keys that one of two attributes holds."""
    integer_keys, string_keys = tuple(integers(ctx, numbers).tolist()), texts(ctx, strings)
    if bool(integer_keys) == bool(string_keys):
        ctx.fail(f"one of {numbers!r} and {strings!r} must be there", "model/attribute")
    return integer_keys or string_keys


def _map(ctx: NodeContext) -> MapType:
    """The type of operand 0; ModelError unless it is a map."""
    type_ = ctx.required(0).type
    if not isinstance(type_, MapType):
        ctx.fail(f"operand 0 must be a map, but is {type_}", "model/type")
    return type_
