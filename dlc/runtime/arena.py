"""Blocks of memory for activations: aligned, backed by huge pages where possible, checked before they are
taken.

Memory comes from the system in whole mappings, not from the C library's heap: a block can be given back at
once, its pages start as zeros without being touched, and its place modulo the page size is known. Blocks of
equal alignment collide in the sets of the caches, so the users of several blocks can stagger them.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlc.errors import LimitError, ResourceError
from dlc.host import memory_limit

#: Alignment of every block in bytes: a cache line, and the widest vector register.
ALIGNMENT = 64

_HUGE_PAGE = 2 << 20
_MEMINFO = Path("/proc/meminfo")
#: Tells itself in every type: a NaN as float16, bfloat16, float32 and float64, an absurd index as
#: integer.
_POISON = np.uint64(0xFFF7_FFF7_FFF7_FFF7)


class Block:
    """`bytes` of zeroed memory, aligned to 64 bytes (2 MiB and `stagger` bytes further if it is that large).

    Raises LimitError if `bytes` exceeds `limit`, ResourceError if the machine does not have them; both
    before anything is taken. `what` names the block in messages. With `poison`, every 16-bit, 32-bit and
    64-bit float in it is a NaN, so that a read before the first write shows.
    """

    def __init__(
        self,
        size: int,
        *,
        limit: int | None = None,
        stagger: int = 0,
        poison: bool = False,
        what: str = "memory of a call",
    ) -> None:
        if size < 0 or stagger < 0 or stagger % ALIGNMENT:
            raise ValueError("sizes are not negative and a stagger is a multiple of the alignment")
        if limit is not None and size > limit:
            raise LimitError(
                f"{what}: {size:,} bytes exceed the limit of {limit:,}",
                hint=f"if the model is trusted, raise it with limits=dlc.Limits(arena_bytes={size})",
            )
        self.size = size
        is_huge = size >= _HUGE_PAGE
        margin = stagger + (_HUGE_PAGE if is_huge else 0)
        total = max(size + margin, 1)
        require_memory(size, what)
        try:
            self._mapping = mmap.mmap(-1, total, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, OverflowError, ValueError) as error:
            raise _exhausted(size, what) from error
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
        start = (-base % _HUGE_PAGE if is_huge else 0) + stagger
        self._start = start
        #: Address of the first byte; 0 after close().
        self.address = base + start
        if is_huge:
            with contextlib.suppress(OSError):  # a kernel without huge pages
                self._mapping.madvise(mmap.MADV_HUGEPAGE)
        if poison:
            self.poison()

    def array(self) -> NDArray[np.uint8]:
        """The block as bytes. The block stays mapped as long as the array lives."""
        return np.frombuffer(self._mapping, np.uint8, self.size, self._start)

    def poison(self) -> None:
        """Fill the block with NaNs."""
        whole = self.size // 8 * 8
        content = self.array()
        content[:whole].view(np.uint64)[:] = _POISON
        content[whole:] = 0xFF

    def close(self) -> None:
        """Give the memory back. BufferError while an :meth:`array` lives."""
        self._mapping.close()
        self.address = 0


def require_memory(size: int, what: str) -> None:
    """ResourceError unless the machine and the control group can be expected to have `size` bytes free.

    Linux grants more than it has and ends a process that uses it, so the system's refusal cannot be relied
    on.
    """
    # A small block is not worth reading two files for.
    if size <= _HUGE_PAGE:
        return
    bounds = [bound for bound in (memory_limit(), available_memory()) if bound is not None]
    if bounds and size > min(bounds):
        raise _exhausted(size, what, min(bounds))


def available_memory(meminfo: Path = _MEMINFO) -> int | None:
    """Bytes that can be taken without swapping, caches included, as the kernel estimates it; None if
    unknown."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _exhausted(size: int, what: str, bound: int | None = None) -> ResourceError:
    known = "" if bound is None else f", of which {bound:,} are available"
    return ResourceError(
        f"{what}: {size:,} bytes are needed{known}",
        hint="use smaller inputs, memory='low', or a machine with more memory",
    )
