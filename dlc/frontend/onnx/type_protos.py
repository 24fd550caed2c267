"""Declared types of sequences, optionals and maps to ours; extents in them are claims about elements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dlc.errors import Finding, InputError, ModelError, UnsupportedError
from dlc.frontend.onnx.tensors import element_type
from dlc.ir.dims import Dim
from dlc.ir.types import ElementType, MapType, OpenTensorType, OptionalType, SequenceType, element_dtype

if TYPE_CHECKING:
    from onnx import TypeProto


def declared_type(declared: TypeProto, what: str) -> ElementType:
    """The type that `declared` stands for, as that of an element; names of dims stand for any extent.

    `what` names it in errors: ModelError for none at all, UnsupportedError for sparse tensors and
    maps to anything else than scalars.
    """
    match declared.WhichOneof("value"):
        case "tensor_type":
            tensor = declared.tensor_type
            dtype = element_type(tensor.elem_type, what)
            if not tensor.HasField("shape"):
                return OpenTensorType(dtype, None)
            extents = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
            return OpenTensorType(dtype, tuple(None if extent < 0 else extent for extent in extents))
        case "sequence_type":
            return SequenceType(declared_type(declared.sequence_type.elem_type, f"an element of {what}"))
        case "optional_type":
            return OptionalType(declared_type(declared.optional_type.elem_type, f"the value of {what}"))
        case "map_type" if declared.map_type.value_type.WhichOneof("value") == "tensor_type":
            key = element_type(declared.map_type.key_type, f"a key of {what}")
            value = element_type(declared.map_type.value_type.tensor_type.elem_type, f"a value of {what}")
            return MapType(key, value)
        case None:
            raise ModelError(f"{what} declares no type", code="model/type")
        case kind:
            reason = f"values of kind {kind} are not supported"
            raise UnsupportedError(
                f"{what}: {reason}", findings=(Finding(what, "type", "", 0, (kind,), (), reason),)
            )


def tensor_shapes(type_: ElementType) -> Iterator[tuple[Dim | None, ...]]:
    """The shape of the tensors that a value of a type consists of, if it is known."""
    match type_:
        case OpenTensorType(shape=tuple() as shape):
            yield shape
        case SequenceType(element) | OptionalType(element):
            yield from tensor_shapes(element)


def with_extents(type_: ElementType, given: Sequence[int | str | None], what: str) -> ElementType:
    """`type_` with the extents of its tensors as `given`; a name stands for any extent, None for the old one.

    InputError where that contradicts the model.
    """
    match type_:
        case SequenceType(element):
            return SequenceType(with_extents(element, given, what))
        case OptionalType(element):
            return OptionalType(with_extents(element, given, what))
        case OpenTensorType(dtype, shape):
            old = (None,) * len(given) if shape is None else shape
            new = tuple(wish if isinstance(wish, int) else dim for wish, dim in zip(given, old))
            if len(given) != len(old) or any(d is not None and d != n for d, n in zip(old, new)):
                raise InputError(
                    f"shapes gives {list(given)} for the tensors of {what}, which are {type_}",
                    code="input/option",
                )
            return OpenTensorType(dtype, new)
    return type_


def kinds(type_: ElementType) -> str:
    """A type without the extents of its tensors."""
    match type_:
        case SequenceType(element):
            return f"seq<{kinds(element)}>"
        case OptionalType(element):
            return f"optional<{kinds(element)}>"
        case MapType():
            return str(type_)
    return element_dtype(type_).text
