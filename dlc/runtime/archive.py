"""The container of a `.dlc` package: a zip file of stored members, each aligned to a page.

Any zip tool can list and extract such a file, but the reader accepts only what the writer makes: no
compression (so a member maps directly and cannot be larger than the file), no comments, flags or data
between members, plain relative names without duplicates, local and central headers that agree. What a file
may hold is thereby known, and bounds are checked before anything is used. Nothing depends on a clock or on
a path.

Format: PKWARE's .ZIP File Format Specification (APPNOTE.TXT) 6.3.10, sections 4.3 to 4.5. Sizes and offsets
are always written in the zip64 form, so that there is one form to check, whatever the size.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dlc.errors import PackageError, printable

#: Alignment of each member's first byte in the file.
ALIGNMENT = 4096

_MAXIMUM_MEMBERS = 1 << 16
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}){0,7}\Z")

_MARKER_16, _MARKER_32 = 0xFFFF, 0xFFFF_FFFF  # "see the zip64 record"
_VERSION = 45  # that of zip64
_DATE = 0x0021  # 1980-01-01, the earliest that can be written

_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_ZIP64 = struct.Struct("<2H2Q")
_PADDING = struct.Struct("<2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_CENTRAL_ZIP64 = struct.Struct("<2H3Q")
_END_ZIP64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_END = struct.Struct("<4s4H2IH")
_TAIL_BYTES = _END_ZIP64.size + _LOCATOR.size + _END.size

_ZIP64_TAG = 0x0001
_PADDING_TAG = 0xD935  # used for alignment by Android's zipalign, too
_COPY_BYTES = 16 << 20


@dataclass(frozen=True)
class Span:
    """Where the content of a member lies in the file."""

    offset: int
    size: int


def check_name(name: str) -> str:
    """`name` if it can name a member: parts of letters, digits and ``_.+-``, joined by "/", none starting
    with a dot; else PackageError."""
    if not _NAME.match(name):
        raise PackageError(f"invalid member name {printable(repr(name))}")
    return name


def write_archive(members: Mapping[str, memoryview]) -> Iterator[bytes | memoryview]:
    """The file's content in pieces. `members` maps names to bytes (format "B"), in the order of the file."""
    if len(members) > _MAXIMUM_MEMBERS:
        raise PackageError(f"a package holds at most {_MAXIMUM_MEMBERS} members, not {len(members)}")
    entries: list[bytes] = []
    position = 0
    for name, content in members.items():
        encoded = check_name(name).encode("ascii")
        checksum = 0
        for piece in _pieces(content):
            checksum = zlib.crc32(piece, checksum)
        header = _local_header(encoded, checksum, len(content), position)
        entries.append(_central_header(encoded, checksum, len(content), position))
        position += len(header) + len(content)
        yield header
        yield from _pieces(content)
    central = b"".join(entries)
    yield central
    yield _tail(len(members), len(central), position)


def read_archive(data: memoryview) -> dict[str, Span]:
    """The members of the archive in `data` (format "B"). PackageError unless it is one that write_archive
    could have made; the content of members is not looked at."""
    directory, count = _read_tail(data)
    members: dict[str, Span] = {}
    position, expected = directory, 0
    for _ in range(count):
        name, checksum, span_size, header_offset, length = _read_central(data, position)
        if name in members:
            raise _damaged(f"two members are called {name}")
        if header_offset != expected:
            raise _damaged(f"member {name} does not follow the one before it")
        # Equality with the header that the writer would have written checks every field at once.
        header = _local_header(name.encode("ascii"), checksum, span_size, header_offset)
        start = header_offset + len(header)
        if start + span_size > directory:
            raise _damaged(f"member {name} is out of bounds")
        if data[header_offset:start] != header:
            raise _damaged(f"the header of member {name} is not the expected one")
        members[name] = Span(start, span_size)
        expected = start + span_size
        position += length
    if expected != directory or position != len(data) - _TAIL_BYTES:
        raise _damaged("there is data that belongs to no member")
    return members


def _pieces(content: memoryview) -> Iterator[memoryview]:
    """`content` in parts, so that a mapped file of any size passes through little memory."""
    for start in range(0, len(content), _COPY_BYTES):
        yield content[start : start + _COPY_BYTES]


def _local_header(name: bytes, checksum: int, size: int, position: int) -> bytes:
    """The header in front of a member, padded so that the content is aligned."""
    plain = _LOCAL.size + len(name) + _LOCAL_ZIP64.size + _PADDING.size
    padding = -(position + plain) % ALIGNMENT
    sizes = _LOCAL_ZIP64.pack(_ZIP64_TAG, 16, size, size)
    extra = sizes + _PADDING.pack(_PADDING_TAG, padding) + bytes(padding)
    fixed = _LOCAL.pack(
        b"PK\3\4", _VERSION, 0, 0, 0, _DATE, checksum, _MARKER_32, _MARKER_32, len(name), len(extra)
    )
    return fixed + name + extra


def _central_header(name: bytes, checksum: int, size: int, position: int) -> bytes:
    extra = _CENTRAL_ZIP64.pack(_ZIP64_TAG, 24, size, size, position)
    fixed = _CENTRAL.pack(
        *(b"PK\1\2", _VERSION, _VERSION, 0, 0, 0, _DATE, checksum, _MARKER_32, _MARKER_32),
        *(len(name), len(extra), 0, 0, 0, 0, _MARKER_32),
    )
    return fixed + name + extra


def _tail(count: int, size: int, offset: int) -> bytes:
    """The three records at the end of a file whose central directory has `count` entries and `size` bytes."""
    return (
        _END_ZIP64.pack(b"PK\6\6", _END_ZIP64.size - 12, _VERSION, _VERSION, 0, 0, count, count, size, offset)
        + _LOCATOR.pack(b"PK\6\7", 0, offset + size, 1)
        + _END.pack(b"PK\5\6", 0, 0, _MARKER_16, _MARKER_16, _MARKER_32, _MARKER_32, 0)
    )


def _read_tail(data: memoryview) -> tuple[int, int]:
    """(offset of the central directory, number of members) from the end of the file."""
    start = len(data) - _TAIL_BYTES
    if start < 0:
        raise _damaged("it is too short")
    signature, *_, count, size, offset = _END_ZIP64.unpack_from(data, start)
    if signature != b"PK\6\6":
        raise _damaged("it does not end as a package does, or is truncated")
    if offset + size != start or data[start:] != _tail(count, size, offset):
        raise _damaged("the records at its end are not the expected ones")
    if count > _MAXIMUM_MEMBERS:
        raise _damaged(f"it claims to have {count} members")
    return offset, count


def _read_central(data: memoryview, position: int) -> tuple[str, int, int, int, int]:
    """(name, CRC-32, size, offset of the local header, length of this entry) of the directory entry at
    `position`."""
    end = len(data) - _TAIL_BYTES
    if position + _CENTRAL.size > end:
        raise _damaged("its directory is out of bounds")
    fields = _CENTRAL.unpack_from(data, position)
    checksum, name_length = fields[7], fields[10]
    length = _CENTRAL.size + name_length + _CENTRAL_ZIP64.size
    if position + length > end:
        raise _damaged("its directory is out of bounds")
    encoded = bytes(data[position + _CENTRAL.size : position + _CENTRAL.size + name_length])
    try:
        name = check_name(encoded.decode("ascii"))
    except UnicodeDecodeError:
        raise _damaged("a member's name is not ASCII text") from None
    _, _, size, _, offset = _CENTRAL_ZIP64.unpack_from(data, position + length - _CENTRAL_ZIP64.size)
    if data[position : position + length] != _central_header(encoded, checksum, size, offset):
        raise _damaged(f"the directory entry of member {name} is not the expected one")
    return name, checksum, size, offset, length


def _damaged(reason: str) -> PackageError:
    return PackageError(
        f"not a valid .dlc package: {reason}", hint="copy it again, or compile the model again"
    )
