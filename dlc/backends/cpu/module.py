"""A module of LLVM text: functions, constant tables, declarations."""
from __future__ import annotations

import re
from collections.abc import Collection, Sequence, Set

import numpy as np

from dlc.backends.cpu import types as t
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.policy import Policy
from dlc.errors import InternalError
from dlc.ir.dims import Symbol
from dlc.target import CpuTarget

#: Constants as text cost 0.2 s a megabyte in LLVM's parser; weights are passed by pointer instead.
MAX_CONSTANT_BYTES = 64 * 1024

# Names reach LLVM text and linker scripts unquoted, so nothing else is accepted.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
_UNROLL_DISABLE = '!0 = distinct !{!0, !1}\n!1 = !{!"llvm.loop.unroll.disable"}\n!2 = !{}\n'


class Module:
    """Everything that becomes one object file for `target`, by `policy`.

    `entry_symbols` are those whose numbers are known before the first step of a run. In a `debug` one kernels
    check the bounds of all their accesses, which `accesses` describes by number.
    """

    def __init__(
        self,
        target: CpuTarget,
        policy: Policy | None = None,
        entry_symbols: Set[Symbol] = frozenset(),
        *,
        debug: bool = False,
    ) -> None:
        self.target = target
        self.policy = policy or Policy()
        self.entry_symbols = entry_symbols
        self.debug = debug
        #: Bytes of each table, by its spelling.
        self.table_bytes: dict[str, int] = {}
        self._accesses: dict[str, int] = {}
        self._functions: dict[str, FunctionBuilder] = {}
        self._globals: dict[str, str] = {}
        self._declarations: dict[str, str] = {}

    def function(
        self,
        name: str,
        params: Sequence[tuple[str, t.IRType]],
        returns: t.IRType = t.void,
        *,
        noalias: Collection[str] = (),
        internal: bool = False,
    ) -> FunctionBuilder:
        """Open the function `name`; its body is written through the builder returned, parameters are
        `b.params[i]`.

        `noalias` names pointer parameters through which alone their memory is reached during the call. An
        `internal` function is visible in this module only.
        """
        self._new_name(name)
        builder = FunctionBuilder(self, name, params, returns, noalias=noalias, internal=internal)
        self._functions[name] = builder
        return builder

    def global_constant(self, name: str, array: np.ndarray) -> t.Value:
        """A read-only table holding the bytes of `array` in C order, aligned to 64 bytes; the pointer to
        it.
        """
        self._new_name(name)
        data = np.ascontiguousarray(array).tobytes()
        if len(data) > MAX_CONSTANT_BYTES:
            raise InternalError(f"table {name} of {len(data)} bytes: pass it by pointer")
        text = "".join(f"\\{byte:02X}" for byte in data)
        self._globals[name] = (
            f'@{name} = private unnamed_addr constant [{len(data)} x i8] c"{text}", align 64'
        )
        self.table_bytes[f"@{name}"] = len(data)
        return t.Value(t.ptr, f"@{name}", None, None)

    def access(self, what: str) -> int:
        """The number of an access, or of several that are described alike."""
        return self._accesses.setdefault(what, len(self._accesses))

    @property
    def accesses(self) -> tuple[str, ...]:
        """The accesses that are checked, by number."""
        return tuple(self._accesses)

    def declare(self, name: str, params: Sequence[t.IRType], returns: t.IRType = t.void) -> None:
        """Make an outside function or an intrinsic known; repeating the same declaration is fine."""
        _check_name(name)
        if name in self._functions:
            raise InternalError(f"{name} is both declared and defined")
        text = f"declare {returns} @{name}({', '.join(p.text for p in params)})"
        if self._declarations.setdefault(name, text) != text:
            raise InternalError(f"two declarations of {name}: {text} and {self._declarations[name]}")

    def defined(self, name: str) -> FunctionBuilder | None:
        """The function of that name in this module, if there is one."""
        return self._functions.get(name)

    @property
    def undefined_symbols(self) -> list[str]:
        """Outside functions that the module calls, sorted; the loader has to supply them."""
        return sorted(name for name in self._declarations if not name.startswith("llvm."))

    def text(self) -> str:
        """The module in LLVM's syntax."""
        parts = [f'target triple = "{self.target.triple}"', *self._globals.values()]
        parts += [function.text() for function in self._functions.values()]
        parts += sorted(self._declarations.values())
        return "\n".join(parts) + "\n" + _UNROLL_DISABLE

    def _new_name(self, name: str) -> None:
        _check_name(name)
        if name in self._functions or name in self._globals or name in self._declarations:
            raise InternalError(f"{name} is defined twice in one module")


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise InternalError(f"{name!r} is no symbol name")
