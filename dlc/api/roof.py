"""What the machine at hand can do at most: multiply-adds a second, bytes a second from memory and L2.

Measured on it, once a process and thread count. Roofs of a kernel follow S. Williams, A. Waterman,
D. Patterson, "Roofline: an insightful visual performance model for multicore architectures", CACM 52(4),
2009.
"""

from __future__ import annotations

import functools
import threading
import time
from ctypes import c_void_p
from dataclasses import dataclass

from dlc.runtime.arena import Block
from dlc.runtime.call import Binding, Interface, NativeModel
from dlc.target.cpu import CpuTarget, native

#: Each figure is the best of the trials that fit into so many seconds, and at least of so many: others on the
#: machine only make it slower.
_SECONDS, _TRIALS = 0.05, 3
_REPETITIONS = 200_000
#: Bytes that a thread moves in a trial within L2.
_CACHED_BYTES = 16 << 20
#: Bytes of memory that are walked through for the bandwidth of DRAM, at least and at most, and how many times
#: as large as the last cache they shall be. Where that is larger still, the figure is in part the cache's.
_LEAST_BYTES, _MOST_BYTES, _TIMES_CACHE = 64 << 20, 128 << 20, 4

_lock = threading.Lock()


@dataclass(frozen=True)
class Bandwidth:
    """Bytes a second: of reading; and of copying, where bytes count once as read and once as written."""

    read: float
    copy: float

    def seconds(self, reads: float, writes: float) -> float:
        """The least time for so many bytes: that of reading, and for what is written what a copy takes
        beyond its reading (at least what reading takes)."""
        write = max(2 / self.copy - 1 / self.read, 1 / self.read)
        return reads / self.read + writes * write


@dataclass(frozen=True)
class Roof:
    """The most that `threads` threads reach: float32 operations a second in multiply-adds; bytes a second
    from DRAM, and from the L2 caches, which hold `l2_bytes` together.
    """

    threads: int
    flops: float
    dram: Bandwidth
    l2: Bandwidth
    l2_bytes: int

    def compute_seconds(self, flops: float, dtype: str) -> float | None:
        """The least time of so many operations of contractions in `dtype`; None where that has no roof."""
        match dtype:
            case "f32":
                return flops / self.flops
            case "f64":
                return flops / (self.flops / 2)
        return None

    def memory_seconds(self, reads: float, writes: float) -> float:
        """The least time to read and write so many bytes, in L2 where that holds them all."""
        memory = self.l2 if reads + writes <= self.l2_bytes else self.dram
        return memory.seconds(reads, writes)


def roof(threads: int) -> Roof:
    """The roof of `threads` threads; the first call measures it, in less than half a second.

    Raises UnsupportedError on a machine that dlc generates no code for.
    """
    with _lock:
        return _measured(threads)


@functools.cache
def _measured(threads: int) -> Roof:
    from dlc.backends.cpu.roof import roof_object

    target = native()
    return _Measurement(roof_object(target), target, threads).roof()


class _Measurement:
    """The code, loaded, and memory for it to walk through."""

    def __init__(self, code: bytes, target: CpuTarget, threads: int) -> None:
        from dlc.backends.cpu.roof import SYMBOLS

        self._target = target
        self._threads = threads
        self._native = NativeModel([code], Interface(SYMBOLS, 1, ()), [], threads=threads)
        self._bytes = min(max(_LEAST_BYTES, _TIMES_CACHE * target.l3), _MOST_BYTES)
        self._memory = Block(self._bytes, what="the measured memory")
        # Pages that nobody has written to are one page of zeros.
        self._memory.poison()

    def roof(self) -> Roof:
        """Measure."""
        from dlc.backends.cpu import roof as kernels

        flops = kernels.multiply_add_flops(self._target, _REPETITIONS) * self._threads
        seconds = self._seconds(kernels.MULTIPLY_ADD, _REPETITIONS, 0)
        part = _granules(min(self._target.l2 // 2, self._bytes // self._threads))
        whole = _granules(self._bytes // self._threads)
        l2 = self._bandwidth(part, max(1, _CACHED_BYTES // part))
        dram = self._bandwidth(whole, 1)
        self._native.close()
        self._memory.close()
        return Roof(self._threads, flops / seconds, dram, l2, self._target.l2 * self._threads)

    def _bandwidth(self, part: int, passes: int) -> Bandwidth:
        """Bytes a second of threads that walk through `part` bytes each."""
        from dlc.backends.cpu import roof as kernels

        moved = part * passes * self._threads
        read = moved / self._seconds(kernels.READ, passes, part)
        return Bandwidth(read, moved / self._seconds(kernels.COPY, passes, part))

    def _seconds(self, kernel: int, repetitions: int, part: int) -> float:
        """The least time of a launch with a chunk a thread."""
        binding = Binding((kernel, self._threads, repetitions, part), 0, ())
        call = self._native.prepare(binding, [c_void_p(self._memory.address).value], [])
        times: list[int] = []
        end = time.monotonic() + _SECONDS
        while len(times) < _TRIALS or time.monotonic() < end:
            launch = call.record().launches[0]
            times.append(max(launch.end - launch.start, 1))
        return min(times) * 1e-9


def _granules(size: int) -> int:
    """The largest number of bytes up to `size` that both halves of can be walked through."""
    from dlc.backends.cpu.roof import GRANULE

    return max(size // (2 * GRANULE), 1) * 2 * GRANULE
