"""What a plan is run on: memory with addresses, copies, and launches of functions by number."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


class Memory(Protocol):
    """Some bytes of a machine's memory, aligned to 256; `address` says where."""

    address: int
    size: int

    def close(self) -> None:
        """Give it back."""


class PreparedLaunch(Protocol):
    """A launch with a fixed grid, whose pointers and numbers can be replaced."""

    def __call__(self) -> None:
        """Launch it; it runs after what was asked for before."""

    def patch(self, index: int, value: int) -> None:
        """Pass `value` for parameter number `index` from now on."""


class Machine(Protocol):
    """A GPU, or what stands for one."""

    name: str

    def __enter__(self) -> Machine:
        """Begin a run: launches are made between this and the end of the block."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End a run; what was asked for may still be under way."""

    def record(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do the launches and copies that `work` asks for; those of an equal key may be taken from before."""

    def use_stream(self, handle: int | None) -> None:
        """Put work into the stream of others with that handle from now on; None: into the machine's own."""

    def allocate(self, size: int, what: str) -> Memory:
        """Memory of `size` bytes; ResourceError where there is not so much."""

    def upload(self, address: int, source: Array) -> None:
        """Copy a contiguous array to an address."""

    def download(self, target: Array, address: int) -> None:
        """Fill a contiguous array from an address, when everything asked for before is done."""

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy within the machine's memory."""

    def fill(self, address: int, byte: int, size: int) -> None:
        """Set bytes."""

    def prepare(self, function: int, grid: tuple[int, ...], values: Sequence[int]) -> PreparedLaunch:
        """A launch of function number `function`, which takes `values`: addresses, then numbers."""

    def time(self, work: Callable[[], object], repeats: int) -> float:
        """Seconds that `work` takes, the median of as many times, after as many that do not count."""

    def synchronize(self) -> None:
        """Wait until everything is done; faults of the hardware are raised here."""

    def close(self) -> None:
        """Unload the functions."""
