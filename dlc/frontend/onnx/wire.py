"""A scan of a serialized ModelProto before protobuf sees it: nesting, number of messages, valid strings.

The scan follows ONNX's schema over the wire format and skips by their length what dlc does not read, and all
numbers, so that its time grows with the structure of a model and not with its weights.
"""

from __future__ import annotations

import functools
import re
from typing import Any, TypeAlias

from dlc.errors import LimitError, ModelError
from dlc.limits import Limits

#: Field number -> the fields of the message that it holds; _TEXT for a string, _UNREAD for other messages.
_Fields: TypeAlias = dict[int, Any]
_TEXT: _Fields = {-1: "text"}
_UNREAD: _Fields = {-1: "unread"}

#: Messages that dlc does not look into: claims about types, annotations.
_UNREAD_FIELDS = {
    "value_info",
    "quantization_annotation",
    "device_configurations",
    "configuration",
    "training_info",
}
#: Messages that a legal model may hold for each node of `Limits.nodes`: attributes, dims, metadata.
_MESSAGES_PER_NODE = 16
_GIT_LFS = b"version https://git-lfs"


@functools.cache
def _schema() -> _Fields:
    """The messages and strings of ModelProto, tied into the cycles that the schema has."""
    from onnx import ModelProto

    known: dict[str, _Fields] = {}

    def fields(descriptor: Any) -> _Fields:
        if descriptor.full_name not in known:
            table = known[descriptor.full_name] = {}
            for field in descriptor.fields:
                if field.type == field.TYPE_STRING:
                    table[field.number] = _TEXT
                elif field.message_type is not None:
                    read = field.name not in _UNREAD_FIELDS
                    table[field.number] = fields(field.message_type) if read else _UNREAD
        return known[descriptor.full_name]

    return fields(ModelProto.DESCRIPTOR)


def scan(data: bytes, limits: Limits) -> None:
    """Check that `data` is wire format, nested and populated within `limits`, and that its strings are UTF-8.

    Raises ModelError (code "model/protobuf") for truncated or malformed bytes and for nesting beyond
    `limits.depth`, LimitError for more messages than `limits.nodes` allows.
    """
    if not data:
        raise _malformed("the file is empty")
    if data.startswith(_GIT_LFS):
        raise _malformed("the file is a Git LFS pointer, not the model; fetch it with `git lfs pull`")
    # The protobuf nesting of one subgraph is three messages: node, attribute, graph.
    deepest = 3 * limits.depth
    budget = _MESSAGES_PER_NODE * limits.nodes
    enclosing: list[tuple[int, _Fields]] = []
    position, end, fields = 0, len(data), _schema()
    while True:
        while position == end:
            if not enclosing:
                return
            end, fields = enclosing.pop()
        key, position = _varint(data, position, end)
        number, wire_type = key >> 3, key & 7
        if not number:
            raise _malformed("a field has number 0")
        match wire_type:
            case 0:
                _, position = _varint(data, position, end)
                position = _after_run(data, position, end, key)
                continue
            case 1:
                position += 8
            case 5:
                position += 4
            case 2:
                length, start = _varint(data, position, end)
                position = start + length
                inner = fields.get(number)
                if inner is None or position > end:
                    pass
                elif inner is _TEXT:
                    _check_text(data[start:position])
                elif inner is _UNREAD:
                    # A message within takes two bytes at least.
                    budget -= 1 + length // 2
                else:
                    budget -= 1
                    if len(enclosing) >= deepest:
                        raise _malformed(f"messages are nested deeper than {deepest}")
                    enclosing.append((end, fields))
                    position, end, fields = start, position, inner
                if budget < 0:
                    raise LimitError(
                        "the model holds too many messages for its limit on nodes",
                        hint=f"if it is trusted, pass limits=dlc.Limits(nodes={2 * limits.nodes})",
                    )
            case _:
                raise _malformed(f"wire type {wire_type} does not occur in ONNX")
        if position > end:
            raise _malformed("the file is truncated or damaged")
        if wire_type == 5:
            position = _after_run(data, position, end, key)


def _after_run(data: bytes, position: int, end: int, key: int) -> int:
    """The position after the numbers that follow with the same key: the attributes of trees hold millions."""
    if key < 0x80 and position < end and data[position] == key:
        pattern = _run_pattern(key)
        while run := pattern.match(data, position, end):
            position = run.end()
    return position


@functools.cache
def _run_pattern(key: int) -> re.Pattern[bytes]:
    """Some numbers, varints or of four bytes, each after its key of one byte.

    Only some, since a match takes memory for each.
    """
    number = rb"[\x80-\xff]{0,9}[\x00-\x7f]" if key & 7 == 0 else rb".{4}"
    return re.compile(rb"(?:" + re.escape(bytes([key])) + number + rb"){1,1024}", re.DOTALL)


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The number that starts at `position`, and the position after it."""
    if position < end and data[position] < 0x80:
        return data[position], position + 1
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _malformed("the file is truncated or damaged")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _malformed("a number has more than ten bytes")


def _check_text(text: bytes) -> None:
    """ModelError unless `text` is UTF-8: protobuf would hand out bytes in place of a string."""
    if not text.isascii():
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            raise _malformed("a name in it is not UTF-8") from None


def _malformed(reason: str) -> ModelError:
    return ModelError(f"this is no ONNX model: {reason}", code="model/protobuf")
