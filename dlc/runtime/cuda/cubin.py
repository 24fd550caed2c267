"""The parameter table of a kernel, read from its cubin (an ELF file for the GPU).

Section ``.nv.info.<kernel>`` holds attributes of one byte format, one byte id and two bytes of value or size.
EIATTR_KPARAM_INFO describes one parameter: index u32, ordinal u16, offset u16, and a u32 whose upper 14 bits
are the size. NVIDIA does not document the format; ids and layouts are those that ``cuobjdump -elf`` prints.
The bytes come from packages, so every read is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dlc.errors import PackageError, printable

_EM_CUDA = 190
_HEADER_BYTES = 64
_SECTION_BYTES = 64
#: Sections of a cubin number some dozens.
_MOST_SECTIONS = 4096
_SECTION_WITHOUT_BYTES = 8  # SHT_NOBITS

#: Attribute format with the size of the data that follows; in all others the two bytes are the value.
_SIZED_VALUE = 4
_KPARAM_INFO = 0x17
_CBANK_PARAM_SIZE = 0x19
_KPARAM_BYTES = 12


@dataclass(frozen=True)
class ParameterSlot:
    """Where a parameter lies in the kernel's parameter block: bytes from its start, and bytes."""

    offset: int
    size: int


def kernel_parameters(code: bytes, entry: str) -> tuple[ParameterSlot, ...]:
    """The parameters of the kernel `entry` of the cubin `code`, in order. PackageError if `code` is no
    cubin, is damaged, or has no such kernel."""
    data = _section(code, f".nv.info.{entry}")
    if data is None:
        raise _damaged(f"it has no kernel {printable(entry)!r}")
    slots: dict[int, ParameterSlot] = {}
    total = None
    for attribute, value, content in _attributes(data):
        if attribute == _CBANK_PARAM_SIZE:
            total = value
        elif attribute == _KPARAM_INFO:
            if len(content) < _KPARAM_BYTES:
                raise _damaged("the description of a parameter is cut off")
            _, ordinal, offset, packed = struct.unpack_from("<IHHI", content)
            if ordinal in slots:
                raise _damaged(f"parameter {ordinal} is described twice")
            slots[ordinal] = ParameterSlot(offset, packed >> 18)
    if sorted(slots) != list(range(len(slots))):
        raise _damaged("parameters are missing from its table")
    ordered = tuple(slots[ordinal] for ordinal in range(len(slots)))
    end = max((slot.offset + slot.size for slot in ordered), default=0)
    if total is not None and end != total:
        raise _damaged(f"its parameters take {end} bytes, and the kernel has {total}")
    return ordered


def _attributes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(id, value or size, data) of each attribute."""
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            raise _damaged("an attribute is cut off")
        form, attribute, value = struct.unpack_from("<BBH", data, position)
        position += 4
        size = value if form == _SIZED_VALUE else 0
        if position + size > len(data):
            raise _damaged("the data of an attribute is cut off")
        yield attribute, value, data[position : position + size]
        position += size


def _section(code: bytes, name: str) -> bytes | None:
    """The content of the section called `name`, or None."""
    if len(code) < _HEADER_BYTES or code[:6] != b"\x7fELF\x02\x01":
        raise _damaged("it is not a 64-bit little-endian ELF file")
    (machine,) = struct.unpack_from("<H", code, 18)
    if machine != _EM_CUDA:
        raise _damaged(f"it is for ELF machine {machine}, not for an NVIDIA GPU")
    (table,) = struct.unpack_from("<Q", code, 40)
    entry_size, count, names_index = struct.unpack_from("<HHH", code, 58)
    if entry_size != _SECTION_BYTES or not names_index < count <= _MOST_SECTIONS:
        raise _damaged("its section table is malformed")
    if table + count * _SECTION_BYTES > len(code):
        raise _damaged("its section table is cut off")
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", code, table + index * _SECTION_BYTES) for index in range(count)
    ]

    def content(index: int) -> bytes:
        _, kind, _, _, offset, size = sections[index][:6]
        if kind == _SECTION_WITHOUT_BYTES:
            return b""
        if offset + size > len(code):
            raise _damaged(f"section {index} is cut off")
        return code[offset : offset + size]

    names = content(names_index)
    wanted = name.encode(errors="replace") + b"\0"
    for index, (name_offset, *_) in enumerate(sections):
        if names[name_offset : name_offset + len(wanted)] == wanted:
            return content(index)
    return None


def _damaged(why: str) -> PackageError:
    return PackageError(f"GPU code is damaged: {why}", hint="compile the model again")
