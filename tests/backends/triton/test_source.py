"""Generated modules: what Triton sees of them, where they lie, and what may go wrong with the folder."""

from __future__ import annotations

import collections
import inspect
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from dlc.backends.triton import source
from dlc.errors import InternalError
from tests.helpers.gpu_kernels import kernel

_COUNT = iter(range(1000))


def new_text() -> str:
    """A module that was not loaded before."""
    return kernel(f"pass  # {os.getpid()} {next(_COUNT)}", ()).text


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "triton"


def test_the_text_lies_in_a_private_file_of_the_cache(folder: Path) -> None:
    text = new_text()
    function = source.load(text, "k")
    path = Path(function.fn.__code__.co_filename)
    assert path.parent == folder and path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert inspect.getsource(function.fn) in text
    assert source.load(text, "k") is function
    assert [entry.name for entry in folder.iterdir()] == [path.name]


def test_without_a_writable_folder_the_module_lives_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("DLC_CACHE_DIR", str(blocked))
    function = source.load(new_text(), "k")
    assert function.fn.__code__.co_filename.startswith("<dlc triton ")
    assert "def k" in inspect.getsource(function.fn)


def test_what_lies_in_the_folder_is_never_executed(folder: Path) -> None:
    text = new_text()
    path = Path(source.load(text, "k").fn.__code__.co_filename)
    forget(text)
    path.write_text("raise SystemExit('forged')".ljust(len(text)))
    function = source.load(text, "k")
    assert "def k" in inspect.getsource(function.fn) and function.fn.__code__.co_filename == str(path)


def test_a_damaged_file_is_written_anew(folder: Path) -> None:
    text = new_text()
    path = Path(source.load(text, "k").fn.__code__.co_filename)
    forget(text)
    path.write_text(text[:20])
    source.load(text, "k")
    assert path.read_text() == text


def forget(text: str) -> None:
    """Let the next load of `text` start from the folder."""
    function = source.load(text, "k")
    (digest,) = (key for key, module in source._loaded.items() if module.__dict__.get("k") is function)
    source._forget(source._loaded.pop(digest))


def test_modules_and_files_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_loaded", collections.OrderedDict())
    monkeypatch.setattr(source, "_MAX_LOADED", 3)
    monkeypatch.setattr(source, "_MAX_FILES", 2)
    first = source.load(new_text(), "k")
    for _ in range(4):
        source.load(new_text(), "k")
    assert len(source._loaded) == 3 and first.fn.__module__ not in sys.modules
    assert len(list(folder.iterdir())) == 5
    source._pruned.discard(folder)  # as in a new process
    source.load(new_text(), "k")
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("def k(:", "SyntaxError"), ("1 / 0", "ZeroDivisionError"), ("k = 3", "no Triton function k")],
)
def test_texts_that_are_no_modules_with_the_function(text: str, message: str) -> None:
    with pytest.raises(InternalError, match=message):
        source.load(text, "k")


def test_nothing_imports_triton_before_it_is_needed() -> None:
    modules = "binary, function, interpreter, resources, source, workers"
    program = (
        f"import sys; from dlc.backends.triton import {modules}; "
        "assert not {'triton', 'torch', 'llvmlite'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
