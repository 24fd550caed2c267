"""Packages: one file with a compiled model's code, weights and manifest, which maps in milliseconds.

A `.dlc` file is a program: load only what you would execute. The checks here are for damaged, truncated and
hostile *containers*: the archive's structure and every bound are checked before use, and code is compared
with its digest before it can be mapped. Digests in the same file cannot tell who made it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import mmap
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dlc.errors import InputError, PackageError, ResourceError, printable
from dlc.runtime.archive import Span, read_archive, write_archive
from dlc.runtime.arena import ALIGNMENT, Block
from dlc.runtime.manifest import Constant, Manifest, TargetCode

#: The member that holds the manifest.
MANIFEST = "manifest.json"

#: Members up to this size are compared with their digest when they are first read; larger ones, which hold
#: weights, on demand: hashing a gigabyte takes a second, mapping it none.
EAGER_BYTES = 1 << 20

_MAXIMUM_MANIFEST_BYTES = 64 << 20

#: What a member may be written from.
Content = bytes | bytearray | memoryview | NDArray[np.generic]


def package_bytes(manifest: Manifest, members: Mapping[str, Content]) -> bytes:
    """A package in memory. See :func:`write_package`."""
    return b"".join(_pieces(manifest, members))


def write_package(manifest: Manifest, members: Mapping[str, Content], path: str | os.PathLike[str]) -> None:
    """Write a package of `members` and `manifest` (whose digests are computed here) to `path`.

    Equal arguments give equal bytes. Members are written as they come, so mapped weights need no memory;
    the file appears under its name when it is complete. Raises PackageError for invalid names or a manifest
    that does not fit the members, ResourceError if the file cannot be written.
    """
    final = Path(os.path.realpath(path))
    temporary = final.with_name(f".{final.name}.{secrets.token_hex(8)}")
    pieces = _pieces(manifest, members)
    try:
        # Not a temporary file's mode 0600: the permissions that the user's umask gives to any new file.
        with open(temporary, "xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    except OSError as error:
        message = f"cannot write {printable(str(path))}: {error.strerror}"
        raise ResourceError(message, hint="choose another folder") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


class Package:
    """An open package. Members are views of the mapped, read-only file and stay valid as long as they live.

    :meth:`open` makes one. The file must not be changed while it is in use: its descriptor is kept, so it
    may be renamed or removed, but a file that another process truncates ends this one with SIGBUS when a
    missing page is touched (``copy=True`` excludes that).
    """

    def __init__(self, data: memoryview, file: BinaryIO | None) -> None:
        self._data = data
        self._file = file
        self._members = read_archive(data)
        span = self._members.get(MANIFEST)
        if span is None or span.size > _MAXIMUM_MANIFEST_BYTES:
            raise PackageError(f"the package has no usable {MANIFEST}")
        self.manifest = Manifest.from_json(bytes(self._view(span)))
        self._verified = {MANIFEST}
        sizes = {name: span.size for name, span in self._members.items()}
        check_members(self.manifest, sizes)

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview,
        *,
        verify: bool = False,
        copy: bool = False,
    ) -> Package:
        """Open a package from a file or from bytes (copied unless read-only and aligned to 64 bytes).

        Without `verify`, a member of up to 1 MiB and all code is compared with its digest when it is first
        read, larger ones by :meth:`verify`; with it, everything is compared now. With `copy`, the file is
        read into memory instead of being mapped. Raises PackageError if it is no valid package, InputError
        if there is no such file, ResourceError if memory is short.
        """
        package = cls._open(source, copy)
        try:
            if verify:
                package.verify()
        except BaseException:
            package.close()
            raise
        return package

    @classmethod
    def _open(cls, source: str | os.PathLike[str] | bytes | bytearray | memoryview, copy: bool) -> Package:
        if isinstance(source, (bytes, bytearray, memoryview)):
            content = memoryview(source).cast("B")
            if content.readonly and np.frombuffer(content, np.uint8).ctypes.data % ALIGNMENT == 0:
                return cls(content, None)
            array = Block(len(content), what="the package").array()
            array[:] = np.frombuffer(content, np.uint8)
            return cls(array.data.toreadonly(), None)
        file = _open_regular(Path(source))
        try:
            package = cls(_read(file), None) if copy else cls(_map(file), file)
        except BaseException:
            file.close()
            raise
        if copy:
            file.close()
        return package

    @property
    def members(self) -> Mapping[str, int]:
        """Name and size in bytes of every member, in the order of the file."""
        return {name: span.size for name, span in self._members.items()}

    def member(self, name: str) -> memoryview:
        """The content of a member, read-only, aligned to 4096 bytes. KeyError if there is none of that name;
        PackageError if it is up to 1 MiB large and differs from its digest."""
        span = self._members[name]
        if span.size <= EAGER_BYTES:
            self._verify_member(name)
        self._check_size()
        return self._view(span)

    def constant(self, constant: Constant) -> memoryview:
        """The bytes of one of the manifest's constants, aligned to 64 bytes."""
        return self.member(constant.member)[constant.offset : constant.offset + constant.size]

    def code(self, target: TargetCode) -> list[bytes]:
        """The objects of one of the manifest's targets, each compared with its digest."""
        for name in target.objects:
            self._verify_member(name)
        return [bytes(self.member(name)) for name in target.objects]

    def verify(self) -> None:
        """Compare every member and every constant with its digest. PackageError for the first that
        differs."""
        for name in self._members:
            self._verify_member(name)
        for constant in self.manifest.constants:
            if _sha256(self.constant(constant)) != constant.sha256:
                raise PackageError(f"the constant {printable(constant.name)} is damaged")

    def close(self) -> None:
        """Close the file. Views of members remain valid."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _view(self, span: Span) -> memoryview:
        return self._data[span.offset : span.offset + span.size]

    def _verify_member(self, name: str) -> None:
        if name in self._verified:
            return
        self._check_size()
        if _sha256(self._view(self._members[name])) != self.manifest.digests[name]:
            raise PackageError(f"the member {name} is damaged", hint="copy or make the package again")
        self._verified.add(name)

    def _check_size(self) -> None:
        """PackageError if a mapped file has become shorter, rather than the signal that touching it would
        raise."""
        if (
            self._file is not None
            and not self._file.closed
            and os.fstat(self._file.fileno()).st_size < len(self._data)
        ):
            raise PackageError("the package was truncated while it was in use", hint="open it with copy=True")


def check_members(manifest: Manifest, sizes: Mapping[str, int]) -> None:
    """PackageError unless digests cover exactly the members (of the given `sizes`) and references stay in
    bounds."""
    others = set(sizes) - {MANIFEST}
    for name in sorted(others ^ set(manifest.digests)):
        reason = "has no digest" if name in others else "is missing"
        raise PackageError(f"the member {name} {reason}")
    for target in manifest.targets:
        for name in target.objects:
            if name not in others:
                raise PackageError(f"the code {name} is missing")
    for constant in manifest.constants:
        if constant.member not in others or constant.offset + constant.size > sizes[constant.member]:
            raise PackageError(f"the constant {printable(constant.name)} is out of bounds")


def _pieces(manifest: Manifest, members: Mapping[str, Content]) -> Iterator[bytes | memoryview]:
    if MANIFEST in members:
        raise PackageError(f"{MANIFEST} is written from the manifest")
    views = {name: _as_bytes(content) for name, content in members.items()}
    complete = dataclasses.replace(manifest, digests={name: _sha256(view) for name, view in views.items()})
    complete.check()
    check_members(complete, {name: len(view) for name, view in views.items()})
    return write_archive({MANIFEST: memoryview(complete.to_json().encode("ascii")), **views})


def _as_bytes(content: Content) -> memoryview:
    """`content` as bytes in C order; numbers as the little-endian machines that packages are for have
    them."""
    if isinstance(content, np.ndarray):
        little = np.ascontiguousarray(content, dtype=content.dtype.newbyteorder("<"))
        return little.reshape(-1).view(np.uint8).data.toreadonly()
    return memoryview(content).cast("B").toreadonly()


def _sha256(content: memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _open_regular(path: Path) -> BinaryIO:
    """The file, opened without following it into a pipe or a device."""
    name = printable(str(path))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"cannot open {name}: {error.strerror}", code="input/file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PackageError(f"{name} is not a regular file")
    return os.fdopen(descriptor, "rb", buffering=0)


def _map(file: BinaryIO) -> memoryview:
    if os.fstat(file.fileno()).st_size == 0:
        return memoryview(b"")
    return memoryview(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))


def _read(file: BinaryIO) -> memoryview:
    size = os.fstat(file.fileno()).st_size
    view = Block(size, what="the package").array().data
    position = 0
    while position < size:
        count = file.readinto(view[position:])  # type: ignore[attr-defined]
        if not count:
            raise PackageError("the package was truncated while it was being read")
        position += count
    return view.toreadonly()
