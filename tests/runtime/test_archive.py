"""The container: zip tools read what is written; anything else than what is written is refused."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Callable

import pytest

from dlc.errors import PackageError
from dlc.runtime import archive as archive_module
from dlc.runtime.archive import ALIGNMENT, check_name, read_archive, write_archive

MEMBERS = {
    "manifest.json": b"{}",
    "weights.bin": bytes(range(256)) * 100,
    "empty": b"",
    "code/x86-64-v4.o": b"x" * 5000,
}


def archive(members: dict[str, bytes]) -> bytes:
    return b"".join(write_archive({name: memoryview(content) for name, content in members.items()}))


def test_members_are_found_and_aligned() -> None:
    data = archive(MEMBERS)
    spans = read_archive(memoryview(data))
    assert list(spans) == list(MEMBERS)
    for name, span in spans.items():
        assert data[span.offset : span.offset + span.size] == MEMBERS[name]
        assert span.offset % ALIGNMENT == 0
    assert read_archive(memoryview(archive({}))) == {}


def test_zip_tools_read_it() -> None:
    with zipfile.ZipFile(io.BytesIO(archive(MEMBERS))) as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == MEMBERS
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_writing_is_deterministic() -> None:
    assert archive(MEMBERS) == archive(dict(MEMBERS))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../evil",
        "a/../b",
        "a//b",
        "/etc/passwd",
        "a/",
        ".hidden",
        "a\\b",
        "C:x",
        "a b",
        "a\nb",
        "a\0",
        "ä",
        "a" * 101,
        "/".join("abcdefghi"),
        "x\x1b[31m",
    ],
)
def test_names_that_are_no_plain_relative_paths(name: str) -> None:
    with pytest.raises(PackageError, match="invalid member name"):
        check_name(name)
    with pytest.raises(PackageError, match="invalid member name"):
        archive({name: b""})


def test_files_of_other_tools_are_refused() -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as file:
            file.writestr("manifest.json", b"{}" * 1000)
        with pytest.raises(PackageError, match=r"not a valid \.dlc package"):
            read_archive(memoryview(buffer.getvalue()))


# --- Tampering ------------------------------------------------------------------------------------


def _replace(data: bytes, old: bytes, new: bytes, occurrence: int = -1) -> bytes:
    """`data` with one occurrence (default: the last one) of `old` replaced by `new` of the same length."""
    assert len(old) == len(new)
    positions = [i for i in range(len(data)) if data.startswith(old, i)]
    at = positions[occurrence]
    return data[:at] + new + data[at + len(old) :]


def _patch_entry(data: bytes, name: str, offset: int, form: str, value: int) -> bytes:
    """`data` with a field of the directory entry of `name` changed."""
    at = data.rindex(b"PK\1\2", 0, data.rindex(name.encode())) + offset
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


def _patch_zip64(data: bytes, name: str, field: int, value: int) -> bytes:
    """`data` with size (0), compressed size (1) or offset (2) of the directory entry of `name` changed."""
    return _patch_entry(data, name, 46 + len(name) + 4 + 8 * field, "<Q", value)


def _patch_tail(data: bytes, offset: int, form: str, value: int) -> bytes:
    at = len(data) - 98 + offset
    return data[:at] + struct.pack(form, value) + data[at + struct.calcsize(form) :]


def _overlap(data: bytes) -> bytes:
    """The second member points at the first one's header."""
    return _patch_zip64(data, "weights.bin", 2, 0)


TAMPERING: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "not a zip": lambda data: b"\0" * 10_000,
    "truncated by a byte": lambda data: data[:-1],
    "truncated to a page": lambda data: data[:4096],
    "only the end": lambda data: data[-98:],
    "a byte appended": lambda data: data + b"\0",
    "a comment": lambda data: data[:-2] + b"\1\0c",
    "data in front": lambda data: b"MZ" + data,
    "two members of one name": lambda data: _replace(
        _replace(archive({**MEMBERS, "enopy": b""}), b"enopy", b"empty", 0), b"enopy", b"empty"
    ),
    "a path upwards": lambda data: _replace(
        _replace(data, b"code/x8", b"../../x", 0), b"code/x8", b"../../x"
    ),
    "an absolute path": lambda data: _replace(_replace(data, b"code/", b"/code", 0), b"code/", b"/code"),
    "a terminal escape": lambda data: _replace(
        _replace(data, b"empty", b"\x1b[31m", 0), b"empty", b"\x1b[31m"
    ),
    "not ASCII": lambda data: _replace(_replace(data, b"empty", b"empt\xff", 0), b"empty", b"empt\xff"),
    "another name in the local header": lambda data: _replace(data, b"empty", b"emptx", 0),
    "another name in the directory": lambda data: _replace(data, b"empty", b"emptx"),
    "compressed": lambda data: _patch_entry(data, "weights.bin", 10, "<H", 8),
    "encrypted": lambda data: _patch_entry(data, "weights.bin", 8, "<H", 1),
    "a timestamp": lambda data: _patch_entry(data, "weights.bin", 12, "<H", 77),
    "a link": lambda data: _patch_entry(data, "weights.bin", 38, "<I", 0o120777 << 16),
    "another checksum": lambda data: _patch_entry(data, "weights.bin", 16, "<I", 1),
    "a 32-bit size": lambda data: _patch_entry(data, "weights.bin", 24, "<I", 25600),
    "a name beyond the directory": lambda data: _patch_entry(data, "weights.bin", 28, "<H", 0xFFFF),
    "a member comment": lambda data: _patch_entry(data, "weights.bin", 32, "<H", 3),
    "a larger size": lambda data: _patch_zip64(data, "weights.bin", 0, 25601),
    "an enormous size": lambda data: _patch_zip64(
        _patch_zip64(data, "empty", 0, 2**64 - 1), "empty", 1, 2**64 - 1
    ),
    "a size that wraps around": lambda data: _patch_zip64(data, "weights.bin", 0, 2**64 - 4096),
    "a smaller size": lambda data: _patch_zip64(data, "weights.bin", 0, 25599),
    "a different stored size": lambda data: _patch_zip64(data, "weights.bin", 1, 10),
    "overlapping members": _overlap,
    "an offset beyond the end": lambda data: _patch_zip64(data, "weights.bin", 2, 2**40),
    "an offset off by one": lambda data: _patch_zip64(data, "weights.bin", 2, 4099),
    "more members than there are": lambda data: _patch_tail(_patch_tail(data, 24, "<Q", 5), 32, "<Q", 5),
    "fewer members than there are": lambda data: _patch_tail(_patch_tail(data, 24, "<Q", 3), 32, "<Q", 3),
    "endless members": lambda data: _patch_tail(_patch_tail(data, 24, "<Q", 2**63), 32, "<Q", 2**63),
    "a directory elsewhere": lambda data: _patch_tail(data, 48, "<Q", 0),
    "a directory of another size": lambda data: _patch_tail(data, 40, "<Q", 0),
    "a second disk": lambda data: _patch_tail(data, 16, "<I", 1),
    "a locator elsewhere": lambda data: _patch_tail(data, 64, "<Q", 0),
    "hidden data between members": lambda data: _replace(data, bytes(64), b"hidden" + bytes(58), 0),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_tampering_is_refused(name: str) -> None:
    data = archive(MEMBERS)
    changed = TAMPERING[name](data)
    assert changed != data
    with pytest.raises(PackageError):
        read_archive(memoryview(changed))


def test_random_damage_outside_of_contents_is_refused() -> None:
    data = archive(MEMBERS)
    contents = read_archive(memoryview(data)).values()
    rng = random.Random(0)
    refused = 0
    for _ in range(3000):
        position, value = rng.randrange(len(data)), rng.randrange(256)
        changed = bytearray(data)
        changed[position] = value
        in_content = any(span.offset <= position < span.offset + span.size for span in contents)
        if in_content or changed == data:
            assert read_archive(memoryview(changed)) == read_archive(memoryview(data))
            continue
        # A checksum in the directory must match its local header, so it cannot change alone either.
        with pytest.raises(PackageError):
            read_archive(memoryview(changed))
        refused += 1
    assert refused > 500


def test_sizes_beyond_4_gib_are_recorded() -> None:
    """Of the headers alone, so that the test need not write so much."""
    header = archive_module._local_header(b"large", 0, 5 << 30, 0)
    entry = archive_module._central_header(b"large", 0, 5 << 30, 6 << 30)
    assert len(header) % ALIGNMENT == 0
    assert struct.unpack_from("<2Q", header, 30 + 5 + 4) == (5 << 30, 5 << 30)
    assert struct.unpack_from("<3Q", entry, 46 + 5 + 4) == (5 << 30, 5 << 30, 6 << 30)
