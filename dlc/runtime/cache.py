"""The compile cache: results of compilation on disk, addressed by a hash of everything that decided them.

A compiled object is a program, so the cache is as private as a shell's start-up file: a folder of the
user's own with mode 0700 (another owner or a symbolic link is refused), and files that are mapped, checked
against their digest, and used from that mapping. Files appear by atomic renaming, so any number of
processes may share a cache without a lock; the least recently used files go when the cache exceeds its
size.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import mmap
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dlc import __version__
from dlc.errors import ResourceError, printable
from dlc.options import Environment
from dlc.runtime.digests import content_digest

#: Size above which the least recently used entries are removed.
DEFAULT_LIMIT_BYTES = 2 << 30

_MAGIC = b"dlc-cache-2\n"
#: What follows the header of a mapped file is aligned to 64 bytes.
_HEADER_BYTES = 64
_SUFFIX = ".entry"
_TEMPORARY_PREFIX = "new-"
_ABANDONED_SECONDS = 3600.0

_log = logging.getLogger("dlc")


@dataclass(frozen=True)
class CacheInfo:
    """`directory` is None for a cache that is switched off; `bytes` and `limit_bytes` count file sizes."""

    directory: str | None
    entries: int
    bytes: int
    limit_bytes: int


class Cache:
    """A content-addressed store of byte strings.

    `directory` is created if needed; None makes a cache that stores nothing. Raises ResourceError if the
    folder cannot be used or is not the user's own.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None, limit_bytes: int = DEFAULT_LIMIT_BYTES
    ) -> None:
        self.directory = None if directory is None else _private_folder(Path(directory))
        self.limit_bytes = limit_bytes

    @staticmethod
    def key(*parts: str | bytes) -> str:
        """A key over `parts` and the version of dlc. Give everything that decides the content: the model's
        bytes, the options' key, the target with its CPU features."""
        digest = hashlib.sha256()
        for part in (__version__, *parts):
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return digest.hexdigest()

    def get(self, key: str) -> memoryview | None:
        """The bytes stored under `key`, mapped read-only and aligned to 64 bytes, or None. A damaged or
        foreign file is removed and counts as absent."""
        if self.directory is None:
            return None
        path = self._path(self.directory, key)
        try:
            content = _map_own_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("cache entry %s cannot be read: %s", path, error)
            return None
        payload = None if content is None else _checked_payload(content, key)
        if payload is None:
            _log.warning("cache entry %s is damaged or not this user's; removed", path)
            _remove(path)
            return None
        try:
            os.utime(path)
        except OSError:
            _log.debug("cache entry %s was removed by another process", path)
        return payload

    def put(self, key: str, payload: bytes) -> None:
        """Store `payload` under `key`. A cache that cannot be written to is no error: the work was done."""
        if self.directory is None or len(payload) + _HEADER_BYTES > self.limit_bytes:
            return
        path = self._path(self.directory, key)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY_PREFIX)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_header(key, payload))
                    file.write(payload)
                os.replace(temporary, path)
            except BaseException:
                _remove(Path(temporary))
                raise
            self._evict()
        except OSError as error:
            _log.warning("compile cache %s cannot be written: %s", self.directory, error)

    def get_or_create(self, key: str, create: Callable[[], bytes]) -> bytes:
        """The bytes stored under `key`; if absent, those that `create` returns, which are stored."""
        found = self.get(key)
        if found is not None:
            return bytes(found)
        created = create()
        self.put(key, created)
        return created

    def info(self) -> CacheInfo:
        """Where the cache is and how full."""
        sizes = [size for _, size, _ in self._entries()]
        directory = None if self.directory is None else str(self.directory)
        return CacheInfo(directory, len(sizes), sum(sizes), self.limit_bytes)

    def clear(self) -> int:
        """Remove all entries; returns how many."""
        return sum(_remove(path) for path, _, _ in list(self._entries()))

    @staticmethod
    def _path(directory: Path, key: str) -> Path:
        if len(key) != 64 or not set(key) <= set("0123456789abcdef"):
            raise ValueError("a cache key is what Cache.key returns")
        return directory / key[:2] / f"{key}{_SUFFIX}"

    def _entries(self) -> Iterator[tuple[Path, int, float]]:
        """(path, bytes, time of last use) of every entry; removes what writers that crashed left behind."""
        if self.directory is None:
            return
        for path in self.directory.glob("??/*"):
            try:
                status = path.lstat()
            except OSError:
                continue  # removed by another process meanwhile
            if path.suffix == _SUFFIX:
                yield path, status.st_size, status.st_mtime
            elif (
                path.name.startswith(_TEMPORARY_PREFIX) and time.time() - status.st_mtime > _ABANDONED_SECONDS
            ):
                _remove(path)

    def _evict(self) -> None:
        """Above the limit, remove the least recently used entries until nine tenths of it are left."""
        entries = sorted(self._entries(), key=lambda entry: entry[2])
        total = sum(size for _, size, _ in entries)
        if total <= self.limit_bytes:
            return
        for path, size, _ in entries[:-1]:
            _remove(path)
            total -= size
            if total <= self.limit_bytes * 9 // 10:
                break


def default_cache() -> Cache:
    """The user's cache: in DLC_CACHE_DIR, else where the platform keeps caches. If that folder cannot be
    used, a cache that stores nothing, and a warning in the log."""
    directory = Environment.read().cache_dir
    if directory is None:
        import platformdirs

        directory = platformdirs.user_cache_dir("dlc", appauthor=False)
    try:
        return Cache(directory)
    except ResourceError as error:
        _log.warning("compiling without a cache: %s", error)
        return Cache(None)


def _private_folder(path: Path) -> Path:
    """`path`, created if absent, as a folder that only this user can enter."""
    hint = "set DLC_CACHE_DIR to a folder of your own"
    name = printable(str(path))
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise ResourceError(f"the cache folder {name} is a symbolic link or no folder", hint=hint)
        if status.st_uid != os.geteuid():
            raise ResourceError(f"the cache folder {name} belongs to another user", hint=hint)
        if status.st_mode & 0o077:
            path.chmod(0o700)
    except OSError as error:
        raise ResourceError(f"the cache folder {name} cannot be used: {error.strerror}", hint=hint) from error
    return path


def _map_own_file(path: Path) -> memoryview | None:
    """The content of a regular file that belongs to this user; None if it is anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    status = os.fstat(descriptor)
    try:
        is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not is_own or status.st_size < _HEADER_BYTES:
            return None
        return memoryview(mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
    finally:
        os.close(descriptor)


def _header(key: str, payload: bytes | memoryview) -> bytes:
    """What stands before `payload`: a digest over key and payload, so that an entry under another's name is
    found out, too."""
    digest = hashlib.sha256(key.encode() + content_digest(payload)).digest()
    return (_MAGIC + digest).ljust(_HEADER_BYTES, b"\0")


def _checked_payload(content: memoryview, key: str) -> memoryview | None:
    header, payload = content[:_HEADER_BYTES], content[_HEADER_BYTES:]
    return payload if header == _header(key, payload) else None


def _remove(path: Path) -> bool:
    """True if this call removed the file."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
