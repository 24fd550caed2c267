"""AttributeProto to Python values: numbers, strings, arrays; subgraphs and types stay protobuf messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlc.errors import ModelError, printable
from dlc.frontend.onnx.tensors import TensorReader

if TYPE_CHECKING:
    from onnx import AttributeProto

_Decode = Callable[["AttributeProto", TensorReader, str], Any]


def _text(content: bytes, what: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ModelError(f"{what} is not UTF-8", code="model/attribute") from None


#: AttributeProto.AttributeType -> (field of the content, its decoding).
_DECODERS: dict[int, tuple[str, _Decode]] = {
    1: ("f", lambda a, tensors, what: a.f),
    2: ("i", lambda a, tensors, what: a.i),
    3: ("s", lambda a, tensors, what: _text(a.s, what)),
    4: ("t", lambda a, tensors, what: tensors.dense(a.t, what)),
    5: ("g", lambda a, tensors, what: a.g),
    6: ("floats", lambda a, tensors, what: list(a.floats)),
    7: ("ints", lambda a, tensors, what: list(a.ints)),
    8: ("strings", lambda a, tensors, what: [_text(item, what) for item in a.strings]),
    9: ("tensors", lambda a, tensors, what: [tensors.dense(item, what) for item in a.tensors]),
    10: ("graphs", lambda a, tensors, what: list(a.graphs)),
    11: ("sparse_tensor", lambda a, tensors, what: tensors.sparse(a.sparse_tensor, what)),
    12: (
        "sparse_tensors",
        lambda a, tensors, what: [tensors.sparse(item, what) for item in a.sparse_tensors],
    ),
    13: ("tp", lambda a, tensors, what: a.tp),
    14: ("type_protos", lambda a, tensors, what: list(a.type_protos)),
}


def decode(attribute: AttributeProto, tensors: TensorReader) -> Any:
    """The value of one attribute: int, float, str, ndarray, a list of these, GraphProto or TypeProto.

    Files of IR version 1 do not say the type; it follows from the only field that is present. Raises
    ModelError (code "model/attribute") when type and content contradict each other.
    """
    what = f"attribute '{printable(attribute.name)}'"
    kind = attribute.type or _implied_type(attribute, what)
    if kind not in _DECODERS:
        raise ModelError(f"{what} has type {kind}, which ONNX does not define", code="model/attribute")
    field, decoder = _DECODERS[kind]
    for descriptor, _ in attribute.ListFields():
        if descriptor.name != field and descriptor.name in _CONTENT_FIELDS:
            raise ModelError(
                f"{what} is declared as {field}, but holds {descriptor.name}", code="model/attribute"
            )
    return decoder(attribute, tensors, what)


_CONTENT_FIELDS = {field: kind for kind, (field, _) in _DECODERS.items()}


def _implied_type(attribute: AttributeProto, what: str) -> int:
    kinds = [_CONTENT_FIELDS[d.name] for d, _ in attribute.ListFields() if d.name in _CONTENT_FIELDS]
    if len(kinds) != 1:
        raise ModelError(f"{what} declares no type and holds {len(kinds)} values", code="model/attribute")
    return kinds[0]


def decode_all(
    attributes: Sequence[AttributeProto], tensors: TensorReader, enclosing: Mapping[str, Any]
) -> dict[str, Any]:
    """All attributes of a node by name.

    `enclosing` holds the attributes of the function call around the node: a reference to an absent one leaves
    the attribute out, as the standard says.
    """
    values: dict[str, Any] = {}
    for attribute in attributes:
        if attribute.name in values:
            raise ModelError(f"attribute '{printable(attribute.name)}' occurs twice", code="model/attribute")
        if attribute.ref_attr_name:
            if attribute.ref_attr_name in enclosing:
                values[attribute.name] = enclosing[attribute.ref_attr_name]
            continue
        values[attribute.name] = decode(attribute, tensors)
    return values
