"""The compile cache: privacy, integrity, eviction, and use by several processes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dlc
from dlc.errors import ResourceError
from dlc.runtime import cache as cache_module
from dlc.runtime.cache import Cache, default_cache
from dlc.runtime.library import runtime_object

KEY, OTHER = Cache.key("a"), Cache.key("b")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def entries(cache: Cache) -> list[Path]:
    assert cache.directory is not None
    return sorted(path for path in cache.directory.rglob("*") if path.is_file())


def test_what_is_put_is_got(cache: Cache) -> None:
    assert cache.get(KEY) is None
    cache.put(KEY, b"code")
    cache.put(OTHER, b"")
    assert (cache.get(KEY), cache.get(OTHER)) == (b"code", b"")
    cache.put(KEY, b"newer")
    assert cache.get(KEY) == b"newer"
    info = cache.info()
    assert (info.directory, info.entries) == (str(cache.directory), 2)
    assert info.bytes == sum(path.stat().st_size for path in entries(cache))
    assert cache.clear() == 2
    assert cache.get(KEY) is None and cache.info().entries == 0


def test_get_or_create_creates_once(cache: Cache) -> None:
    made = []

    def create() -> bytes:
        made.append(1)
        return b"code"

    assert [cache.get_or_create(KEY, create) for _ in range(3)] == [b"code"] * 3
    assert len(made) == 1


def test_keys_separate_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [Cache.key("ab", "c"), Cache.key("a", "bc"), Cache.key("abc"), Cache.key("abc", ""), Cache.key()]
    assert len(set(keys)) == 5
    assert Cache.key("é", b"x") == Cache.key("é".encode(), "x")
    assert Cache.key("\ud800") != Cache.key("\ud801")
    monkeypatch.setattr(cache_module, "__version__", dlc.__version__ + ".1")
    assert Cache.key("a") != KEY


@pytest.mark.parametrize("key", ["", "a", "../" * 20 + "etcd", KEY.upper(), KEY[:-1] + "\n", "." * 64])
def test_a_key_is_no_path(cache: Cache, key: str) -> None:
    with pytest.raises(ValueError, match="cache key"):
        cache.put(key, b"")
    with pytest.raises(ValueError, match="cache key"):
        cache.get(key)


def test_a_cache_that_is_switched_off() -> None:
    cache = Cache(None)
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    assert cache.get_or_create(KEY, lambda: b"made") == b"made"
    assert (cache.info().directory, cache.info().entries, cache.clear()) == (None, 0, 0)


# --- Poisoning ------------------------------------------------------------------------------------


def test_folders_and_files_are_private(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    cache = Cache(tmp_path / "cache")
    cache.put(KEY, b"code")
    for path in (tmp_path / "cache", *(tmp_path / "cache").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("damage", ["bit", "truncated", "header", "empty", "other entry", "long"])
def test_damaged_entries_are_removed(cache: Cache, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    cache.put(KEY, b"code" * 100)
    cache.put(OTHER, b"evil" * 100)
    path = next(path for path in entries(cache) if KEY in path.name)
    content = path.read_bytes()
    other = next(path for path in entries(cache) if OTHER in path.name).read_bytes()
    path.write_bytes(
        {
            "bit": content[:-1] + b"!",
            "truncated": content[:-1],
            "header": b"x" + content[1:],
            "empty": b"",
            "other entry": other,
            "long": content + b"x",
        }[damage]
    )
    assert cache.get(KEY) is None
    assert "damaged" in caplog.text
    assert not path.exists()
    assert cache.get(OTHER) == b"evil" * 100


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_entries_that_are_no_files(cache: Cache, tmp_path: Path, kind: str) -> None:
    cache.put(KEY, b"code")
    (path,) = entries(cache)
    content = path.read_bytes()
    path.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert cache.get(KEY) is None
    assert cache.get_or_create(KEY, lambda: b"made") == b"made"


def test_a_link_as_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    with pytest.raises(ResourceError, match="symbolic link"):
        Cache(tmp_path / "cache")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError):
        Cache(tmp_path / "file")


def test_foreign_folders_and_files_are_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.put(KEY, b"code")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert cache.directory is not None
    with pytest.raises(ResourceError, match="belongs to another user"):
        Cache(cache.directory)
    assert cache.get(KEY) is None


def test_the_default_cache_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "mine"))
    assert default_cache().directory == tmp_path / "mine"
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING, "dlc"):
        assert default_cache().directory is None
    assert "compiling without a cache" in caplog.text
    monkeypatch.delenv("DLC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache().directory == tmp_path / "xdg" / "dlc"


def test_a_cache_that_cannot_be_written_to_is_no_error(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    cache.put(KEY, b"code")
    assert "No space left" in caplog.text
    assert entries(cache) == []


# --- Size -----------------------------------------------------------------------------------------


def test_the_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=10_000)
    keys = [Cache.key(str(number)) for number in range(12)]
    start = time.time() - 1000
    for age, key in enumerate(keys[:9]):
        cache.put(key, bytes(1000))
        path = next(path for path in entries(cache) if key in path.name)
        os.utime(path, (start + age, start + age))
    assert cache.get(keys[0]) is not None  # now the most recently used of the first nine
    cache.put(keys[9], bytes(1000))
    assert cache.info().bytes <= 10_000
    assert cache.get(keys[1]) is None and cache.get(keys[2]) is None
    assert cache.get(keys[0]) is not None and cache.get(keys[9]) is not None


def test_an_entry_larger_than_the_cache_is_not_stored(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_bytes=1000)
    cache.put(KEY, b"small")
    cache.put(OTHER, bytes(1000))
    assert cache.get(OTHER) is None and cache.get(KEY) == b"small"


def test_files_of_crashed_writers_are_removed(cache: Cache) -> None:
    cache.put(KEY, b"code")
    (path,) = entries(cache)
    old, new = path.with_name("new-old"), path.with_name("new-new")
    old.write_bytes(b"")
    new.write_bytes(b"")
    os.utime(old, (0, 0))
    assert cache.info().entries == 1
    assert not old.exists() and new.exists()


def test_many_processes_share_a_cache(tmp_path: Path) -> None:
    program = (
        "import sys, random\n"
        "from dlc.runtime.cache import Cache\n"
        "cache, rng = Cache(sys.argv[1], limit_bytes=20_000), random.Random(sys.argv[2])\n"
        "for _ in range(300):\n"
        "    number = rng.randrange(40)\n"
        "    expected = str(number).encode() * 500\n"
        "    assert cache.get_or_create(cache.key(str(number)), lambda: expected) == expected\n"
        "    if rng.random() < 0.01: cache.clear()\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, tmp_path, str(seed)]) for seed in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert Cache(tmp_path).info().bytes <= 20_000


def test_the_runtime_is_compiled_once(cache: Cache) -> None:
    first = runtime_object(cache)
    assert cache.info().entries == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dlc.runtime.library.compile_runtime", lambda triple: b"compiled again")
        assert runtime_object(cache) == first
        cache.clear()
        assert runtime_object(cache) == b"compiled again"
