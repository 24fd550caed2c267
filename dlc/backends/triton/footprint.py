"""What a cubin says of the registers and the stack of its kernel, without a tool.

Triton's kernels have no arrays of their own, so a stack frame means that registers did not suffice: values
go to memory and back. Layout of the section ``.nv.info``: records of format (1 byte), attribute (1 byte),
size or value (2 bytes), and for format 4 as many bytes; here pairs of the symbol's number and a count, 32
bits each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dlc.errors import InternalError

_SIZED = 4
_FRAME_SIZE, _REGISTERS = 0x11, 0x2F


@dataclass(frozen=True)
class Footprint:
    """32-bit registers of a thread, and bytes of its stack, where spilled registers lie."""

    registers: int
    stack_bytes: int


def footprint(cubin: bytes) -> Footprint:
    """The greatest figures of the functions in `cubin`; InternalError if it cannot be read."""
    registers = stack = 0
    try:
        for attribute, count in _records(_section(cubin, ".nv.info")):
            if attribute == _REGISTERS:
                registers = max(registers, count)
            elif attribute == _FRAME_SIZE:
                stack = max(stack, count)
    except (struct.error, ValueError, IndexError) as error:
        raise InternalError(f"a GPU binary cannot be read: {error}") from None
    return Footprint(registers, stack)


def _section(elf: bytes, wanted: str) -> bytes:
    """The content of a section of an ELF file of 64 bits; empty if there is none of that name."""
    (start,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, start + index * size) for index in range(count)]
    table = elf[headers[names][4] :]
    for name, _, _, _, offset, length in headers:
        if table[name : table.index(b"\0", name)] == wanted.encode():
            return elf[offset : offset + length]
    return b""


def _records(section: bytes) -> Iterator[tuple[int, int]]:
    """(attribute, count) of each record that has a count."""
    at = 0
    while at + 4 <= len(section):
        form, attribute, size = struct.unpack_from("<BBH", section, at)
        at += 4
        if form == _SIZED:
            if size >= 8:
                yield attribute, struct.unpack_from("<II", section, at)[1]
            at += size
