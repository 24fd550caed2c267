"""External data: weights in files beside the model, mapped read-only from where a model may point to.

A model is untrusted, so that a location is accepted only when it leads to a regular file inside the model's
folder, inside the `blobs` folder of a Hugging Face cache whose snapshot holds the model (its files are
symbolic links into it), or inside a folder that the user names. The descriptor that was checked is the one
that is mapped: nobody can swap the file in between.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from dlc.errors import ExternalDataError, printable
from dlc.ir.operator import Array

_NUMBER_DIGITS = 19


class ExternalData:
    """The external files of one model; each is opened at most once and mapped when first read.

    `folder` holds the model file (None for a model that was given as bytes), `extra` is the user's
    `external_data_dir`. Locations are looked up in `folder` first.
    """

    def __init__(self, folder: Path | None, extra: Path | None = None) -> None:
        self.bases = [base for base in (folder, extra) if base is not None]
        self.roots = [root for base in self.bases for root in _roots(base)]
        self._files: dict[str, Array] = {}

    @property
    def used(self) -> bool:
        """Whether anything has been read."""
        return bool(self._files)

    def read(self, entries: Mapping[str, str], nbytes: int, what: str) -> Array:
        """The `nbytes` bytes (uint8, read-only) that the `external_data` entries of a tensor speak of.

        Raises ExternalDataError when location, offset or length are missing, malformed or out of bounds.
        """
        location = entries.get("location", "")
        offset = _number(entries.get("offset", "0"), "offset", what)
        length = _number(entries.get("length", str(nbytes)), "length", what)
        if length != nbytes:
            raise ExternalDataError(
                f"{what} takes {nbytes} bytes, but {length} are declared in external data"
            )
        content = self._file(location, what)
        if offset + nbytes > content.size:
            raise ExternalDataError(
                f"{what} reaches to byte {offset + nbytes} of '{printable(location)}', "
                f"which has {content.size} bytes"
            )
        return content[offset : offset + nbytes]

    def _file(self, location: str, what: str) -> Array:
        """The mapped content of the file at `location`."""
        content = self._files.get(location)
        if content is None:
            descriptor = self._open(location, what)
            try:
                content = self._files[location] = _mapped(descriptor, location, what)
            finally:
                os.close(descriptor)
        return content

    def _open(self, location: str, what: str) -> int:
        """A descriptor of the regular file at `location`."""
        parts = PurePosixPath(location).parts
        if (
            not parts
            or "\0" in location
            or PurePosixPath(location).is_absolute()
            or ".." in parts
            or PureWindowsPath(location).is_absolute()
            or PureWindowsPath(location).drive
        ):
            raise _refused(what, location, "is not a relative path inside the model's folder")
        if not self.bases:
            raise ExternalDataError(
                f"{what} is in the file '{printable(location)}', but the model has no folder",
                hint="give the model as a path, or pass external_data_dir",
            )
        for base in self.bases:
            try:
                path = Path(os.path.realpath(base / location, strict=True))
            except (OSError, ValueError):
                continue
            root = next((root for root in self.roots if path.is_relative_to(root)), None)
            if root is None:
                raise _refused(what, location, "leads out of the folders in which external data may lie")
            return _open_beneath(root, path, location, what)
        raise ExternalDataError(
            f"{what} is in the file '{printable(location)}', which does not exist",
            hint="keep the file beside the model, or pass external_data_dir",
        )


def _roots(base: Path) -> list[Path]:
    """The folders in which files of `base` may lie, resolved: itself, and a Hugging Face cache's blobs."""
    resolved = Path(os.path.realpath(base))
    roots = [resolved]
    for parent in (resolved, *resolved.parents):
        blobs = parent.parent.parent / "blobs"
        if parent.parent.name == "snapshots" and blobs.is_dir() and not blobs.is_symlink():
            roots.append(blobs)
            break
    return roots


def _open_beneath(root: Path, path: Path, location: str, what: str) -> int:
    """Open the resolved `path` below `root` part by part, following no link; it must be a regular file."""
    directory_flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = -1
    try:
        descriptor = os.open(root, directory_flags)
        parts = path.relative_to(root).parts
        if not parts:
            raise _refused(what, location, "is a folder")
        for part in parts[:-1]:
            inner = os.open(part, directory_flags | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        # Opening a device may act on it, and opening a FIFO waits: look before, and do not wait.
        if not stat.S_ISREG(os.stat(parts[-1], dir_fd=descriptor, follow_symlinks=False).st_mode):
            raise _refused(what, location, "is not a regular file")
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(parts[-1], flags, dir_fd=descriptor)
    except OSError as error:
        raise _refused(what, location, f"cannot be opened: {error.strerror}") from None
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _refused(what, location, "is not a regular file")
    return file


def _mapped(descriptor: int, location: str, what: str) -> Array:
    """The whole file as a read-only array of bytes over a shared mapping."""
    size = os.fstat(descriptor).st_size
    if not size:
        return np.zeros(0, dtype=np.uint8)
    try:
        mapping: Any = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise _refused(what, location, f"cannot be mapped: {error}") from None
    return np.frombuffer(mapping, dtype=np.uint8)


def _number(text: str, key: str, what: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _NUMBER_DIGITS:
        raise ExternalDataError(
            f"the {key} of {what} in external data is '{printable(text, 40)}', not a number"
        )
    return int(text)


def _refused(what: str, location: str, reason: str) -> ExternalDataError:
    return ExternalDataError(f"the external data '{printable(location)}' of {what} {reason}")
