"""The native runtime as loaded into this process: one library and one thread pool, shared by all models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, byref, c_int64, c_void_p
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from dlc.errors import ResourceError
from dlc.runtime.abi import CALL_FUNCTION, Context
from dlc.runtime.cache import Cache, default_cache
from dlc.runtime.loader import JitLibrary
from dlc.runtime.native import EXPORTS, compile_runtime, source

_lock = threading.Lock()
_runtime: Runtime | None = None

_POOL_CREATE = CFUNCTYPE(c_void_p)
_POOL_DESTROY = CFUNCTYPE(None, c_void_p)
_POOL_COUNT = CFUNCTYPE(c_int64, c_void_p)
_CONTEXT_FUNCTION = CFUNCTYPE(None, c_void_p)


@dataclass(frozen=True)
class Runtime:
    """`symbols`: address of each exported function, to link models with. `pool`: the process's thread pool.

    `call` is ``dlc_call``: runs the driver of the CallBlock at an address, without the GIL, and returns a
    Status value.
    """

    symbols: Mapping[str, int]
    pool: Pool
    call: Callable[[int], int]

    def release_memory(self, context: Context) -> None:
        """Free the scratch block and the storages of a context that no call uses."""
        _CONTEXT_FUNCTION(self.symbols["dlc_release_memory"])(byref(context))


class Pool:
    """A pool of native worker threads. Models share the one of :func:`runtime`; tests make their own.

    Threads start at the first launch that wants them. After a fork, the child starts its own.
    """

    def __init__(self, symbols: Mapping[str, int]) -> None:
        self._symbols = symbols
        self.address: int | None = _POOL_CREATE(symbols["dlc_pool_create"])()
        if not self.address:
            raise ResourceError("no memory for the thread pool")

    def close(self) -> None:
        """Stop and join the workers. No call may be running."""
        address, self.address = self.address, None
        if address is not None:
            _POOL_DESTROY(self._symbols["dlc_pool_destroy"])(address)

    @property
    def threads(self) -> int:
        """Threads that exist, counting the caller as one."""
        count: int = _POOL_COUNT(self._symbols["dlc_pool_threads"])(self.address)
        return count

    @property
    def wakeups(self) -> int:
        """How often a sleeping worker was woken."""
        count: int = _POOL_COUNT(self._symbols["dlc_pool_wakeups"])(self.address)
        return count


def runtime(cache: Cache | None = None) -> Runtime:
    """The runtime of this process; compiled and linked by the first call.

    `cache` keeps the compiled object between processes; None takes the user's cache. The library is never
    unloaded and the pool never closed, since workers may be running or asleep in their code until the
    process ends.
    """
    global _runtime
    with _lock:
        if _runtime is None:
            library = JitLibrary(
                [runtime_object(default_cache() if cache is None else cache)], {}, exports=EXPORTS
            )
            library.keep()
            symbols = MappingProxyType({name: library.address(name) for name in EXPORTS})
            _runtime = Runtime(symbols, Pool(symbols), CALL_FUNCTION(symbols["dlc_call"]))
        return _runtime


def runtime_object(cache: Cache) -> bytes:
    """The runtime compiled for this machine's architecture, from the cache if it is there."""
    import llvmlite
    import llvmlite.binding as llvm

    triple: str = llvm.get_process_triple()
    text = source(triple.split("-", 1)[0])
    key = cache.key("runtime", llvmlite.__version__, triple, text)
    return cache.get_or_create(key, partial(compile_runtime, triple))
