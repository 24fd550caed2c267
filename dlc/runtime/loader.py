"""Loads compiled objects into the process with LLVM's ORC linker, without writable and executable memory.

JITLink is used rather than RuntimeDyld: an object whose relocations do not fit is an error there, while
RuntimeDyld ends the process. Objects must be position-independent and hold no thread-local variables, which
ORC links without an error but initialises wrongly.
"""

from __future__ import annotations

import itertools
import platform
import struct
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from dlc.errors import PackageError, printable

_EM_MACHINE = {"x86_64": 62, "aarch64": 183}

_lock = threading.Lock()
_numbers = itertools.count()
_linker: Any = None


def _process_linker() -> Any:
    """The one ORC instance of the process. Code may run until the process ends, so it is never closed
    (llvmlite disposes of nothing while the interpreter shuts down)."""
    global _linker
    with _lock:
        if _linker is None:
            import llvmlite.binding as llvm

            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
                reloc="pic", codemodel="small", jit=True
            )
            _linker = llvm.create_lljit_compiler(machine, use_jit_link=True, suppress_errors=True)
        return _linker


def check_object(code: bytes) -> None:
    """PackageError unless `code` starts like a relocatable ELF object for this machine."""
    if len(code) < 64 or code[:6] != b"\x7fELF\x02\x01":
        raise PackageError(
            "compiled code is not a 64-bit little-endian ELF object", hint="compile the model again"
        )
    kind, machine = struct.unpack_from("<HH", code, 16)
    if kind != 1:
        raise PackageError("compiled code is not a relocatable object", hint="compile the model again")
    if machine != _EM_MACHINE.get(platform.machine()):
        raise PackageError(
            f"compiled code is for another architecture (ELF machine {machine}) than {platform.machine()}",
            hint="compile the model for this machine",
        )


def _link_error(error: RuntimeError) -> PackageError:
    message = f"compiled code cannot be linked: {printable(str(error))}"
    return PackageError(message, hint="compile the model again")


class JitLibrary:
    """Objects linked together and mapped into the process.

    `objects` are relocatable ELF files; `symbols` gives the addresses of functions that they import beyond
    those of the C library. An object is linked when one of its symbols is first asked for: those of `exports`
    at once, others by :meth:`address`. Linking raises PackageError if an object is damaged, for another
    machine, or needs a symbol that nobody defines.

    Addresses stay valid until :meth:`close` or the end of this object's life. Each load and unload leaves
    about 9 KB behind in LLVM, so load a model once, not once a call.
    """

    def __init__(
        self, objects: Iterable[bytes], symbols: Mapping[str, int], *, exports: Iterable[str] = ()
    ) -> None:
        import llvmlite.binding as llvm

        builder = llvm.JITLibraryBuilder()
        for code in objects:
            check_object(code)
            builder.add_object_img(code)
        builder.add_current_process()
        for name, address in symbols.items():
            builder.import_symbol(name, address)
        names = tuple(exports)
        for name in names:
            builder.export_symbol(name)
        self._name = f"dlc{next(_numbers)}"
        self._trackers: list[Any] = []
        self._addresses: dict[str, int] = {}
        try:
            tracker = builder.link(_process_linker(), self._name)
        except RuntimeError as error:
            raise _link_error(error) from error
        self._trackers.append(tracker)
        self._addresses.update({name: int(tracker[name]) for name in names})

    @property
    def closed(self) -> bool:
        """True after :meth:`close`."""
        return not self._trackers

    def address(self, name: str) -> int:
        """Address of the global symbol `name`; PackageError if the objects do not define it."""
        if self.closed:
            raise ValueError("the library is closed")
        known = self._addresses.get(name)
        if known is None:
            try:
                tracker = _process_linker().lookup(self._name, name)
            except RuntimeError as error:
                raise _link_error(error) from error
            self._trackers.append(tracker)
            known = self._addresses[name] = int(tracker[name])
        return known

    def close(self) -> None:
        """Unmap the code. No thread may be running it, and no address may be used afterwards."""
        for tracker in reversed(self._trackers):
            tracker.close()
        self._trackers.clear()
        self._addresses.clear()

    def keep(self) -> None:
        """Never unmap the code, even without a reference to this object: threads may run it to the end."""
        for tracker in self._trackers:
            tracker.detach()
