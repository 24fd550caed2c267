"""Minimal cubins: ELF files with nothing but the parameter table of one kernel."""

from __future__ import annotations

import struct
from collections.abc import Sequence

#: The function ``add(x, y, z, n)`` of the tests: Triton's types, and (offset, size) scratch pointers last.
ADD_TYPES = ("*fp32", "*fp32", "*fp32", "i32")
ADD_SLOTS = ((0, 8), (8, 8), (16, 8), (24, 4), (32, 8), (40, 8))


def cubin(entry: str = "add", slots: Sequence[tuple[int, int]] = ADD_SLOTS) -> bytes:
    """A cubin whose kernel `entry` takes parameters of (offset, size)."""
    end = max(offset + size for offset, size in slots)
    info = struct.pack("<BBH", 3, 0x19, end) + struct.pack("<BBHI", 4, 0x37, 4, 129)
    for ordinal, (offset, size) in reversed(list(enumerate(slots))):
        info += struct.pack("<BBHIHHI", 4, 0x17, 12, 0, ordinal, offset, size << 18 | 0x1F000)
    return elf([(".text." + entry, b"\0" * 128), (".nv.info." + entry, info)])


def elf(sections: Sequence[tuple[str, bytes]], machine: int = 190) -> bytes:
    """An ELF file of these sections, with the table of their names first and their headers at the end."""
    named = [(".shstrtab", b""), *sections]
    names = b"\0" + b"".join(name.encode() + b"\0" for name, _ in named)
    named[0] = (".shstrtab", names)
    body, headers = b"", b"\0" * 64
    for name, content in named:
        position = 64 + len(body)
        place = names.index(name.encode() + b"\0")
        headers += struct.pack("<IIQQQQIIQQ", place, 1, 0, 0, position, len(content), 0, 0, 1, 0)
        body += content + b"\0" * (-len(content) % 8)
    identity = b"\x7fELF\x02\x01\x01\x33" + b"\0" * 8
    fields = struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(named) + 1, 1
    )
    return identity + fields + body + headers
