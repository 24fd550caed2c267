"""Generated Triton modules as Python functions that Triton can compile or interpret.

Triton reads the source of a function through `inspect`. So each text gets a module of its own whose lines
stand in `linecache`: what is compiled is always the text given, never what lies in a file. The text is also
written to the user's cache folder, under a name made of its hash, where profilers, tracebacks and people
find it; without a writable folder the module lives in memory only.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import linecache
import logging
import os
import sys
import tempfile
import threading
import types
from pathlib import Path
from typing import Any

from dlc.errors import InternalError, UnsupportedError
from dlc.options import Environment

#: Triton keeps state in globals (and its interpreter patches `triton.language`): whoever loads, compiles or
#: interprets holds this lock.
TRITON_LOCK = threading.RLock()

#: Loaded modules kept in memory, and files kept in the folder; the least recently used go.
_MAX_LOADED = 1024
_MAX_FILES = 4096

_log = logging.getLogger("dlc")
_loaded: collections.OrderedDict[str, types.ModuleType] = collections.OrderedDict()
_pruned: set[Path] = set()


def require_triton() -> Any:
    """The module `triton`; UnsupportedError where it is not installed."""
    try:
        import triton
    except ImportError as error:
        raise UnsupportedError(
            "compiling for a GPU needs Triton, which cannot be imported",
            hint="install it with: pip install 'dlc[gpu]'",
            code="unsupported/target",
        ) from error
    return triton


def load(text: str, name: str) -> Any:
    """The `@triton.jit` function `name` of the module `text`; the same object for the same text while it is
    kept. Raises InternalError if the text is not a module that defines it."""
    require_triton()
    with TRITON_LOCK:
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        module = _loaded.get(digest)
        if module is None:
            module = _loaded[digest] = _execute(text, f"_dlc_triton_{digest}", _file(text, digest))
            if len(_loaded) > _MAX_LOADED:
                _forget(_loaded.popitem(last=False)[1])
        _loaded.move_to_end(digest)
    function = getattr(module, name, None)
    if not hasattr(function, "arg_names"):
        raise InternalError(f"the generated module defines no Triton function {name}")
    return function


def _execute(text: str, module_name: str, file: str) -> types.ModuleType:
    """A new module made of `text`, whose lines `inspect` finds under `file`."""
    # Without a time of modification, linecache never compares the entry with a file.
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = types.ModuleType(module_name)
    module.__file__ = file
    sys.modules[module_name] = module  # where inspect.getmodule looks first
    try:
        exec(compile(text, file, "exec"), module.__dict__)
    except Exception as error:
        _forget(module)
        raise InternalError(f"a generated Triton module cannot be loaded: {error!r}") from error
    return module


def _forget(module: types.ModuleType) -> None:
    sys.modules.pop(module.__name__, None)
    linecache.cache.pop(str(module.__file__), None)


def _folder() -> Path:
    """Where the texts lie: `triton` in DLC_CACHE_DIR, else in the platform's folder for caches."""
    directory = Environment.read().cache_dir
    if directory is None:
        import platformdirs

        directory = platformdirs.user_cache_dir("dlc", appauthor=False)
    return Path(directory, "triton")


def _file(text: str, digest: str) -> str:
    """The path of a file that holds `text`, or a name in angle brackets where none can be written."""
    try:
        folder = _folder()
        path = folder / f"{digest}.py"
        data = text.encode()
        if path.exists() and path.stat().st_size == len(data):
            os.utime(path)
            return str(path)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, data)
        _prune(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
        _log.debug("generated Triton code is kept in memory: %s", error)
        return f"<dlc triton {digest}>"
    return str(path)


def _write(path: Path, data: bytes) -> None:
    """`path` with `data`, atomically: other processes see all of it or nothing."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix="new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _prune(folder: Path) -> None:
    """Once a process and folder, remove the files that were not used for longest beyond the bound."""
    if folder in _pruned:
        return
    _pruned.add(folder)
    files = sorted(((entry.stat().st_mtime, entry.path) for entry in os.scandir(folder)), reverse=True)
    for _, path in files[_MAX_FILES:]:
        with contextlib.suppress(OSError):
            os.unlink(path)
