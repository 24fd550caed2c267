"""Reading parameter tables from cubins, whole and damaged."""

from __future__ import annotations

import random
import struct

import pytest

from dlc.errors import PackageError
from dlc.runtime.cuda.cubin import ParameterSlot, kernel_parameters
from tests.runtime.cuda.compiled import compiled_add
from tests.runtime.cuda.cubins import ADD_SLOTS, cubin, elf

SLOTS = tuple(ParameterSlot(offset, size) for offset, size in ADD_SLOTS)


def parameter(ordinal: int, offset: int, size: int) -> bytes:
    return struct.pack("<BBHIHHI", 4, 0x17, 12, 0, ordinal, offset, size << 18)


def with_info(info: bytes) -> bytes:
    return elf([(".nv.info.add", info)])


def test_parameters_in_order() -> None:
    assert kernel_parameters(cubin(), "add") == SLOTS
    assert kernel_parameters(cubin("other_name", [(0, 4), (4, 2)]), "other_name") == (
        ParameterSlot(0, 4),
        ParameterSlot(4, 2),
    )


def test_the_name_must_be_the_whole_name() -> None:
    with pytest.raises(PackageError, match="it has no kernel 'ad'"):
        kernel_parameters(cubin(), "ad")
    with pytest.raises(PackageError, match="has no kernel"):
        kernel_parameters(cubin(), "add\ud800")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (b"", "not a 64-bit little-endian ELF"),
        (b"\x7fELF\x01\x01" + b"\0" * 100, "not a 64-bit little-endian ELF"),
        (elf([(".nv.info.add", b"")], machine=62), "ELF machine 62"),
        (cubin()[:-1], "section table is cut off"),
        (with_info(parameter(0, 0, 8) + b"\x04"), "an attribute is cut off"),
        (with_info(parameter(0, 0, 8)[:-1]), "data of an attribute is cut off"),
        (with_info(struct.pack("<BBHI", 4, 0x17, 4, 0)), "description of a parameter is cut off"),
        (with_info(parameter(0, 0, 8) * 2), "described twice"),
        (with_info(parameter(1, 8, 8)), "missing from its table"),
        (
            with_info(parameter(0, 0, 8) + struct.pack("<BBH", 3, 0x19, 16)),
            "take 8 bytes, and the kernel has 16",
        ),
    ],
)
def test_damaged_cubins_are_package_errors(code: bytes, text: str) -> None:
    with pytest.raises(PackageError, match=text):
        kernel_parameters(code, "add")


def test_no_damage_is_any_other_error() -> None:
    whole = cubin()
    generator = random.Random(0)
    outcomes: set[bool | None] = set()
    for cut in range(len(whole)):
        with pytest.raises(PackageError):
            kernel_parameters(whole[:cut], "add")
    for _ in range(5000):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.choice(
                (0, 1, 0x7F, 0xFF, generator.randrange(256))
            )
        try:
            outcomes.add(kernel_parameters(bytes(damaged), "add") == SLOTS)
        except PackageError:
            outcomes.add(None)
    assert outcomes == {True, False, None}


@pytest.mark.parametrize("arch", [80, 89, 90, 100, 120])
def test_cubins_of_triton(arch: int) -> None:
    binary = compiled_add(arch)
    assert kernel_parameters(binary.code, "add") == SLOTS
    binary.check()
