"""The call path of native models: symbol values to shapes, a pool of contexts, one native call an inference.

A :class:`NativeModel` works on addresses. Checking arrays against the model's inputs and allocating outputs
is the business of the layer above, which gets the shapes from :meth:`NativeModel.bind`.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from ctypes import addressof, c_int64, c_void_p, cast
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dlc.errors import (
    CancelledError,
    Error,
    IndexFault,
    InputError,
    InternalError,
    LimitError,
    ResourceError,
    ShapeError,
    printable,
)
from dlc.host import memory_limit
from dlc.runtime.abi import (
    NO_FAULT,
    SHAPES_FUNCTION,
    CallBlock,
    Context,
    Status,
    Storage,
    decode_access,
    decode_fault,
)
from dlc.runtime.arena import Block
from dlc.runtime.hosts import Host, HostFactory, host_callback
from dlc.runtime.library import Runtime, runtime
from dlc.runtime.loader import JitLibrary
from dlc.runtime.profile import Launch, Recorder, Recording
from dlc.runtime.threads import default_threads

T = TypeVar("T")

#: Shapes that are kept for symbol values seen before.
_BINDINGS = 256

#: Bounds of the values of symbols: products of a few of them do not overflow. Elements of inputs, unlike
#: extents, are not bounded by memory that exists.
_LARGEST_EXTENT = (1 << 48) - 1
_LARGEST_ELEMENT = (1 << 31) - 1

#: An arena that gets too small becomes at least this many times as large: (numerator, denominator).
_GROWTH = (5, 4)

#: Arenas of several contexts start in different cache sets: at odd multiples of this many bytes.
_STAGGER = 17 * 64

@dataclass(frozen=True)
class Site:
    """Where something happens, for messages: what it is, and the ONNX name of the node that it comes from."""

    text: str
    node: str | None = None


@dataclass(frozen=True)
class Interface:
    """What the runtime knows of a generated driver.

    `symbols`: names of the symbols that :meth:`NativeModel.bind` takes values of, of which `elements` are
    elements of inputs, which may be negative, and the others extents; `run_symbols`: how many further values
    the driver stores behind them during a run; `storages`: how many growing storages it uses. `inputs` counts
    pointers; `output_ranks` has one entry an output. `guards` are what dlc_shapes and the driver check, in
    their numbering, each with the text of the error that its failure is. `kernels` are numbered as
    dlc_report_fault numbers them. `grown` has, where only the run tells the extents of some outputs, an entry
    an output: the growing storage that holds it after the run, or -1 for one in the caller's memory.
    `accesses` describes, in code to debug, what it checks of its own accesses to memory, by number.
    """

    symbols: tuple[str, ...]
    inputs: int
    output_ranks: tuple[int, ...]
    run_symbols: int = 0
    storages: int = 0
    guards: tuple[Site, ...] = ()
    kernels: tuple[Site, ...] = ()
    elements: tuple[str, ...] = ()
    grown: tuple[int, ...] = ()
    accesses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Binding:
    """What follows from the values of the symbols: bytes of the arena and the shapes of the outputs."""

    symbols: tuple[int, ...]
    arena_bytes: int
    output_shapes: tuple[tuple[int, ...], ...]


class RunState(NamedTuple):
    """What a run left in its context: the values of all symbols, those known from the start first,
    (address, bytes) of each growing storage, and what took the host steps."""

    symbols: tuple[int, ...]
    storages: tuple[tuple[int, int], ...]
    host: Host | None = None


class CancelToken:
    """Stops the calls that it was given to, from any thread, before their next kernel or iteration of a loop:
    they raise CancelledError. It stays set, so that calls that begin later stop as well.
    """

    def __init__(self) -> None:
        self._word = c_int64(0)
        self.address = addressof(self._word)

    def cancel(self) -> None:
        """Stop the calls that use this token, now and later."""
        self._word.value = 1


class NativeModel:
    """A compiled model, loaded and ready to run. Any number of Python threads may use it at once.

    `code` are the objects, which define dlc_shapes and dlc_run (see dlc.h); `constants` are buffers in the
    driver's order, aligned to 64 bytes, kept as long as the model. `threads` bounds the threads of one call
    (None: default_threads). Up to `contexts` calls run at the same time, each with an arena of its own of at
    most `arena_limit` bytes; further callers wait. `host` makes what takes host steps, one a context. With
    `poison`, the arena is filled with NaNs before each run.

    Raises PackageError if the code cannot be loaded.
    """

    def __init__(
        self,
        code: Iterable[bytes],
        interface: Interface,
        constants: Sequence[memoryview],
        *,
        threads: int | None = None,
        contexts: int = 8,
        arena_limit: int | None = None,
        host: HostFactory | None = None,
        poison: bool = False,
    ) -> None:
        if contexts < 1:
            raise InputError("a model needs at least one context", code="input/option")
        self.interface = interface
        self.threads = default_threads() if threads is None else threads
        self.arena_limit = arena_limit
        #: Most bytes of one growing storage: that, or what the machine has; 0 if neither is known.
        self.storage_limit = min((bound for bound in (arena_limit, memory_limit()) if bound), default=0)
        self.host = host
        self.poison = poison
        self.runtime = runtime()
        self.library = JitLibrary(code, self.runtime.symbols, exports=("dlc_shapes", "dlc_run"))
        self._call = self.runtime.call
        self._shapes = SHAPES_FUNCTION(self.library.address("dlc_shapes"))
        self._constants = [np.frombuffer(constant, np.uint8) for constant in constants]
        self.constant_table = (c_void_p * max(1, len(constants)))(
            *(array.ctypes.data for array in self._constants)
        )
        self._bindings: OrderedDict[tuple[int, ...], Binding] = OrderedDict()
        self._most_contexts = contexts
        self._idle: deque[_Slot] = deque()
        self._numbers = count()
        self._reset_waiting()
        _models.add(self)

    def bind(self, symbols: tuple[int, ...]) -> Binding:
        """The arena's size and the outputs' shapes for these values of the interface's symbols; recent
        results are kept. ShapeError, with the guard's text, if the model does not take them."""
        bindings = self._bindings
        try:
            found = bindings[symbols]
            bindings.move_to_end(symbols)
            return found
        except KeyError:  # never seen, or dropped by another thread meanwhile
            binding = self._evaluate(symbols)
        with self._condition:
            bindings[symbols] = binding
            while len(bindings) > _BINDINGS:
                bindings.popitem(last=False)
        return binding

    def run(
        self,
        binding: Binding,
        inputs: Sequence[int | None],
        outputs: Sequence[int | None],
        cancel: CancelToken | None = None,
        collect: Callable[[RunState], T] | None = None,
        objects: Sequence[Any] = (),
    ) -> T | None:
        """Run the model once. `inputs` and `outputs` are the addresses of contiguous arrays with the shapes
        of `binding`, in the interface's order (None where an optional one is absent); outputs are complete
        when this returns. What depends on the data is for `collect`: it is called with the state of the run
        while that is still there (it must copy what it wants to keep), and its result is returned. `objects`
        are the inputs that the host holds.

        Raises IndexFault for an index out of range in the data, ShapeError for a guard that fails during the
        run, CancelledError, ResourceError, LimitError, and what the host function raises.
        """
        try:
            slot = self._idle.pop()
        except IndexError:
            slot = self._wait_for_slot()
        try:
            if slot.binding is not binding or self.poison:
                slot.load(binding, self.poison)
            slot.inputs[:] = inputs
            slot.outputs[:] = outputs
            if cancel is not None:
                slot.context.cancel = cancel.address
            if slot.host is not None:
                slot.host.begin(objects)
            status = self._call(slot.address)
            if status:
                raise self._error(status, slot)
            return None if collect is None else collect(slot.state())
        finally:
            if slot.host is not None:
                slot.host.end()
            if cancel is not None:
                slot.context.cancel = None
            self._release(slot)

    def prepare(
        self,
        binding: Binding,
        inputs: Sequence[int | None],
        outputs: Sequence[int | None],
        cancel: CancelToken | None = None,
        objects: Sequence[Any] = (),
    ) -> PreparedCall:
        """A call of :meth:`run` with these arguments, ready to be repeated at the least cost. The arrays
        must live as long as it does."""
        self._require_open()
        slot = _Slot(self, next(self._numbers))
        return PreparedCall(self, slot, binding, inputs, outputs, cancel, objects)

    def profile(
        self, binding: Binding, inputs: Sequence[int | None], outputs: Sequence[int | None]
    ) -> list[Launch]:
        """Run once, and report the launches in order (the first 65,536 of them)."""
        return list(self.prepare(binding, inputs, outputs).record().launches)

    def close(self) -> None:
        """Unload the code, after the calls that are running; later ones raise InputError.

        A prepared call must not be running, since nothing tells that it is.
        """
        with self._condition:
            self._most_contexts = 0
            self._waiting += 1
            while self._made:
                try:
                    self._idle.pop()
                    self._made -= 1
                except IndexError:  # the rest are in use
                    self._condition.wait()
            self._waiting -= 1
            self._condition.notify_all()
        self.library.close()

    @property
    def closed(self) -> bool:
        """True after :meth:`close`."""
        return not self._most_contexts

    def _require_open(self) -> None:
        if not self._most_contexts:
            raise InputError("the model is closed")

    def _evaluate(self, symbols: tuple[int, ...]) -> Binding:
        self._require_open()
        names, ranks = self.interface.symbols, self.interface.output_ranks
        if len(symbols) != len(names):
            raise InputError(f"{len(names)} symbols need values, not {len(symbols)}")
        lowest = [-_LARGEST_ELEMENT if name in self.interface.elements else 0 for name in names]
        highest = [_LARGEST_ELEMENT if low else _LARGEST_EXTENT for low in lowest]
        if not all(low <= value <= high for low, value, high in zip(lowest, symbols, highest)):
            raise ShapeError(f"a size is out of range: {self._describe(symbols)}")
        out = (c_int64 * (1 + sum(ranks)))()
        failed = self._shapes((c_int64 * max(1, len(symbols)))(*symbols), out)
        if failed:
            raise self._guard_error(failed - 1, symbols)
        arena_bytes, *extents = out
        if arena_bytes < 0 or any(extent < 0 for extent in extents):
            raise ShapeError(f"a size overflows or is negative: {self._describe(symbols)}")
        shapes = []
        start = 0
        for rank in ranks:
            shapes.append(tuple(extents[start : start + rank]))
            start += rank
        return Binding(symbols, arena_bytes, tuple(shapes))

    def _wait_for_slot(self) -> _Slot:
        """Another context, or, if there are enough of them, the first that another thread gives back."""
        with self._condition:
            self._waiting += 1
            try:
                while True:
                    # Looked at after `_waiting` has risen: a thread that gives one back now will notify.
                    if self._idle:
                        return self._idle.pop()
                    if self._made < self._most_contexts:
                        self._made += 1
                        break
                    self._require_open()
                    self._condition.wait()
            finally:
                self._waiting -= 1
        try:
            return _Slot(self, next(self._numbers))
        except BaseException:
            with self._condition:
                self._made -= 1
                self._condition.notify()
            raise

    def _release(self, slot: _Slot) -> None:
        self._idle.append(slot)
        if self._waiting:
            with self._condition:
                self._condition.notify()

    def _reset_waiting(self) -> None:
        """State of the pool of contexts; again in a forked child, where the threads that had the others are
        gone."""
        self._condition = threading.Condition()
        self._waiting = 0
        self._made = len(self._idle)

    def _error(self, status: int, slot: _Slot) -> BaseException:
        """The error that a status of dlc_call stands for."""
        if status >= Status.GUARD:
            return self._guard_error(status - Status.GUARD, slot.symbols[: len(self.interface.symbols)])
        match status:
            case Status.CANCELLED:
                return CancelledError("the call was cancelled")
            case Status.NO_MEMORY:
                return ResourceError(
                    "no memory for scratch blocks or for values whose size depends on the data"
                )
            case Status.LIMIT:
                return LimitError(
                    f"a value whose size depends on the data exceeds {self.storage_limit:,} bytes",
                    hint="if the model is trusted, raise dlc.Limits(arena_bytes=...)",
                )
            case Status.ENDLESS:
                site = self._site(self.interface.kernels, decode_fault(slot.context.fault)[0])
                return LimitError(
                    f"a loop takes more iterations than its limit: {printable(site.text)}",
                    node=site.node,
                    hint="if the model is trusted, raise dlc.Limits(loop_iterations=...)",
                )
            case Status.OVERFLOW:
                site = self._site(self.interface.kernels, decode_fault(slot.context.fault)[0])
                message = f"a size that follows from the data is out of range in {printable(site.text)}"
                return ShapeError(message, node=site.node)
            case Status.FAULT:
                kernel, chunk = decode_fault(slot.context.fault)
                site = self._site(self.interface.kernels, kernel)
                access = decode_access(chunk)
                if access is not None:
                    return self._stray(access, site)
                message = f"an index in the data is out of range in {printable(site.text)} (chunk {chunk})"
                return IndexFault(message, node=site.node)
            case Status.HOST_ERROR if slot.host_errors:
                return slot.host_errors.pop()
        return InternalError(f"the compiled model ended with status {status}")

    def _stray(self, access: int, site: Site) -> Error:
        """The error of an access that left its memory."""
        known = self.interface.accesses
        what = printable(known[access]) if access < len(known) else f"access {access}"
        message = f"generated code left its memory in {printable(site.text)}: {what}"
        return InternalError(message, node=site.node)

    def _guard_error(self, index: int, symbols: Sequence[int]) -> Error:
        site = self._site(self.interface.guards, index)
        return ShapeError(f"{printable(site.text)}, where {self._describe(symbols)}", node=site.node)

    def _describe(self, symbols: Sequence[int]) -> str:
        pairs = zip(self.interface.symbols, symbols)
        return ", ".join(f"{printable(name)} = {value}" for name, value in pairs) or "there are no symbols"

    @staticmethod
    def _site(sites: tuple[Site, ...], index: int) -> Site:
        return sites[index] if index < len(sites) else Site(f"number {index}")


class PreparedCall:
    """One call, bound once: no checks, no allocation. Not for two threads at the same time."""

    def __init__(
        self,
        model: NativeModel,
        slot: _Slot,
        binding: Binding,
        inputs: Sequence[int | None],
        outputs: Sequence[int | None],
        cancel: CancelToken | None = None,
        objects: Sequence[Any] = (),
    ) -> None:
        self._model = model
        self._objects = objects
        self._slot = slot
        self._binding = binding
        self._cancel = cancel  # lives as long as its address is used
        slot.load(binding, model.poison)
        slot.inputs[:] = inputs
        slot.outputs[:] = outputs
        slot.context.cancel = None if cancel is None else cancel.address
        self._call = model.runtime.call
        self._address = slot.address
        self._recorder: Recorder | None = None

    def __call__(self) -> None:
        """Run the model on the arrays given before. Raises what NativeModel.run does."""
        self._model._require_open()
        if self._model.poison:
            self._slot.load(self._binding, poison=True)
        if self._slot.host is not None:
            self._slot.host.end()
            self._slot.host.begin(self._objects)
        status = self._call(self._address)
        if status:
            raise self._model._error(status, self._slot)

    def record(self) -> Recording:
        """Run the model, and tell what ran when. Raises what a call does."""
        if self._recorder is None:
            self._recorder = Recorder(self._slot.context, self._slot.host, self._slot.host_errors)
        with self._recorder as recorder:
            self()
        return recorder.recording()

    def state(self) -> RunState:
        """What the last call left, until the next one."""
        return self._slot.state()


class _Slot:
    """What one call at a time needs: a context, argument tables, an arena. Kept and used again.

    It refers to nothing that refers back to it, so that memory is free as soon as the model is.
    """

    def __init__(self, model: NativeModel, number: int) -> None:
        interface = model.interface
        self._arena_limit = model.arena_limit
        self._stagger = number % 4 * _STAGGER
        self._arena: Block | None = None
        self.binding: Binding | None = None
        self.host_errors: list[BaseException] = []
        self.host: Host | None = None
        # The type stubs of ctypes allow assigning a list to a slice, but no other sequence.
        self.inputs: Any = (c_void_p * interface.inputs)()
        self.outputs: Any = (c_void_p * len(interface.output_ranks))()
        self.symbols: Any = (c_int64 * max(1, len(interface.symbols) + interface.run_symbols))()
        self.context = Context(pool=model.runtime.pool.address, threads=model.threads, fault=NO_FAULT)
        if model.host is not None:
            self.host = model.host()
            self._callback = host_callback(self.host, self.host_errors)
            self.context.host = cast(self._callback, c_void_p).value
        self._block = CallBlock(
            driver=model.library.address("dlc_run"),
            context=addressof(self.context),
            symbols=addressof(self.symbols),
            inputs=addressof(self.inputs),
            outputs=addressof(self.outputs),
            constants=addressof(model.constant_table),
        )
        self.address = addressof(self._block)
        self._storages = (Storage * max(1, interface.storages))()
        self.context.storages = addressof(self._storages)
        self.context.storage_count = interface.storages
        self.context.storage_limit = model.storage_limit
        weakref.finalize(self, _release, model.runtime, self.context, self._storages).atexit = False

    def state(self) -> RunState:
        """What the last run left here."""
        used = self._storages[: self.context.storage_count]
        storages = tuple([(storage.address or 0, storage.bytes) for storage in used])
        return RunState(tuple(self.symbols), storages, self.host)

    def load(self, binding: Binding, poison: bool) -> None:
        """Take over the symbols of `binding`, with an arena that is large enough."""
        if self._arena is None or self._arena.size < binding.arena_bytes:
            self.binding = None
            spare = 0
            if self._arena is not None:
                # Sizes that grow from call to call, as a cache does, shall not cost an arena each.
                spare = self._arena.size * _GROWTH[0] // _GROWTH[1]
                # The old arena goes first, so that both need not fit.
                self._arena.close()
                self._arena = None
            try:
                self._arena = self._block_of(max(binding.arena_bytes, min(spare, self._arena_limit or spare)))
            except ResourceError:
                self._arena = self._block_of(binding.arena_bytes)
            self._block.arena = self._arena.address
        if poison:
            self._arena.poison()
        self.symbols[: len(binding.symbols)] = binding.symbols
        self.binding = binding

    def _block_of(self, size: int) -> Block:
        """An arena of `size` bytes."""
        return Block(size, limit=self._arena_limit, stagger=self._stagger, what="the model's activations")


def _release(runtime: Runtime, context: Context, storages: object) -> None:
    """Free the memory of a context; its table of `storages` is an argument so that it lives until then."""
    runtime.release_memory(context)


#: The models alive, whose contexts a forked child must count anew.
_models: weakref.WeakSet[NativeModel] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for model in list(_models):
        model._reset_waiting()


os.register_at_fork(after_in_child=_after_fork_in_child)
