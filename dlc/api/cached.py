"""The compile cache: whole packages, by the content of the model, the options, the version and the target."""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc.options import Options

if TYPE_CHECKING:
    from dlc.api.assemble import Artifact
    from dlc.api.gpu.build import GpuArtifact
    from dlc.target import CpuTarget, GpuTarget

#: Packages above this size are not cached: writing them would cost more than compiling again.
MAX_BYTES = 1 << 30


def key(source: Any, options: Options, target: CpuTarget | GpuTarget) -> str | None:
    """The cache key of a compilation; None when `source` is neither bytes nor a file."""
    import dlc
    from dlc.runtime.cache import Cache
    from dlc.runtime.digests import content_digest

    content = _content(source)
    if content is None:
        return None
    return Cache.key(
        content_digest(content),
        options.key(),
        dlc.__version__,
        *_machine(target),
        _compiler_digest(),
    )


def _machine(target: CpuTarget | GpuTarget) -> tuple[str, ...]:
    """What identifies a target, with the version of the compiler behind dlc where that is not fixed."""
    from dlc.target import CpuTarget

    if isinstance(target, CpuTarget):
        return target.cpu, ",".join(sorted(target.features))
    from importlib.metadata import version

    return target.backend, str(target.arch), version("triton")


def _content(source: Any) -> bytes | memoryview | None:
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | os.PathLike) or not Path(source).is_file():
        return None
    with open(source, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return b""
        return memoryview(mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))


def _compiler_digest() -> str:
    """What identifies the code of the compiler itself: sizes and times of its files."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        status = path.stat()
        digest.update(f"{path.relative_to(root)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def find(key: str) -> memoryview | None:
    """The package stored under `key`."""
    from dlc.runtime.cache import default_cache

    return default_cache().get(key)


def store(key: str, artifact: Artifact | GpuArtifact) -> None:
    """Keep the package of `artifact` under `key`."""
    from dlc.runtime.cache import default_cache

    if artifact.size <= MAX_BYTES:
        default_cache().put(key, artifact.to_bytes())
