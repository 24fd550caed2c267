"""Buffers between protected pages: an access beyond either end of one ends the process with SIGSEGV."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
from numpy.typing import DTypeLike, NDArray

_PAGE = mmap.PAGESIZE
_PROT_NONE = 0

_libc = ctypes.CDLL(None, use_errno=True)


def guarded(shape: tuple[int, ...], dtype: DTypeLike, *, at_end: bool = True) -> NDArray[np.generic]:
    """An array that ends (or, without `at_end`, starts) exactly at a protected page; the other end lies
    within a page of one. It is aligned to one element only when it ends at the page."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    pages = max(1, -(-size // _PAGE))
    mapping = mmap.mmap(-1, (pages + 2) * _PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    base = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    for page in (0, pages + 1):
        if _libc.mprotect(ctypes.c_void_p(base + page * _PAGE), _PAGE, _PROT_NONE) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    offset = _PAGE + (pages * _PAGE - size if at_end else 0)
    return np.frombuffer(mapping, kind, size // kind.itemsize, offset).reshape(shape)
