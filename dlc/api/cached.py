"""The compile cache: whole packages, by the content of the model, the options, the version and the target."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc.options import Options

if TYPE_CHECKING:
    from dlc.api.assemble import Artifact
    from dlc.target.cpu import CpuTarget

#: Packages above this size are not cached: writing them would cost more than compiling again.
MAX_BYTES = 1 << 30


def key(source: Any, options: Options, target: CpuTarget) -> str | None:
    """The cache key of a compilation; None when the model cannot be identified by its own bytes.

    A model with external data is not: its weights may change without the file.
    """
    import dlc
    from dlc.runtime.cache import Cache

    content = _content(source)
    if content is None or b"external_data" in content or b"location" in content:
        return None
    return Cache.key(
        hashlib.sha256(content).digest(),
        options.key(),
        dlc.__version__,
        target.cpu,
        ",".join(sorted(target.features)),
        _compiler_digest(),
    )


def _content(source: Any) -> bytes | None:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return path.read_bytes() if path.is_file() else None
    return None


def _compiler_digest() -> str:
    """What identifies the code of the compiler itself: sizes and times of its files."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        status = path.stat()
        digest.update(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def find(key: str) -> bytes | None:
    """The package stored under `key`."""
    from dlc.runtime.cache import default_cache

    return default_cache().get(key)


def store(key: str, artifact: Artifact) -> None:
    """Keep the package of `artifact` under `key`."""
    from dlc.runtime.cache import default_cache

    if artifact.size <= MAX_BYTES:
        default_cache().put(key, artifact.to_bytes())
