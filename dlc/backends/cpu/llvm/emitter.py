"""The core of the function builder: where lines go, which scope a value belongs to, what is computed once.

Body text is a tree of lists. A loop first appends a *preheader* list to the lines of the scope around it
and goes on after it; as long as the loop is open, operations whose operands come from outside are written
to that list.
"""
from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Union

from dlc.backends.cpu import types as t
from dlc.errors import InternalError

if TYPE_CHECKING:
    from dlc.backends.cpu.llvm.bounds import Bounds
    from dlc.backends.cpu.module import Module

#: Text in order: single lines and lists that are still growing.
Lines = list[Union[str, "Lines"]]

_NOT_A_LABEL = re.compile(r"[^A-Za-z0-9_]")

#: Intrinsics of one instruction set, by the longest matching prefix: LLVM ends the process where one is
#: missing.
REQUIRED_FEATURES: dict[str, tuple[str, ...]] = {
    "llvm.x86.sse2.pause": (),
    "llvm.x86.sse.": ("sse",),
    "llvm.x86.ssse3.": ("ssse3",),
    "llvm.x86.avx.": ("avx",),
    "llvm.x86.avx2.": ("avx2",),
    "llvm.x86.fma.": ("fma",),
    "llvm.x86.avx512.": ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
    "llvm.x86.avx512.vpdpbusd.": ("avx512f", "avx512bw", "avx512vl", "avx512vnni"),
    "llvm.x86.avx512.vpdpwssd.": ("avx512f", "avx512bw", "avx512vl", "avx512vnni"),
    "llvm.x86.avx512.permvar.qi.": ("avx512bw", "avx512vl", "avx512vbmi"),
    "llvm.x86.avx512.vpermi2var.qi.": ("avx512bw", "avx512vl", "avx512vbmi"),
    "llvm.x86.avx512bf16.": ("avx512f", "avx512bw", "avx512vl", "avx512bf16"),
}


class Scope:
    """A region of straight-line dominance: the function, a loop's body or a branch.

    Values found in it are usable until it closes. `lines` is where its text goes, `preheader` (loops only)
    the list just before it in the scope around it, `shared` the operations already computed here.
    """

    __slots__ = ("depth", "is_loop", "lines", "preheader", "shared")

    def __init__(self, depth: int, lines: Lines, *, is_loop: bool, preheader: Lines | None) -> None:
        self.depth = depth
        self.lines = lines
        self.is_loop = is_loop
        self.preheader = preheader
        self.shared: dict[tuple[str, ...], t.Value] = {}


class Emitter:
    """Lines, labels, scopes and shared values of one function under construction."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.target = module.target
        self._entry: Lines = []  # stack blocks, before everything else
        self._body: Lines = []
        self._scopes = [Scope(0, self._body, is_loop=False, preheader=None)]
        self._block = "entry"
        self._counter = 0
        self._straight_line_only = False
        #: What checks every access to memory, in code that is to be debugged.
        self.bounds: Bounds | None = None

    # -- writing -----------------------------------------------------------------------------------

    def instruction(self, type: t.IRType, text: str, *operands: t.Value) -> t.Value:
        """Write `text` (everything right of the "=") at the current position; the value it defines.

        The door for :mod:`semantics` and the operation groups; `operands` are checked to be in scope.
        Templates use the operations instead.
        """
        self._check_in_scope(operands)
        return self._define(type, text, self._scopes[-1])

    def effect(self, text: str, *operands: t.Value) -> None:
        """Write an instruction without a result."""
        self._check_in_scope(operands)
        self._scopes[-1].lines.append("  " + text)

    def pure(self, type: t.IRType, text: str, *operands: t.Value) -> t.Value:
        """An operation free of effects and faults for all operands: shared if already computed, hoisted if
        invariant.

        It goes before the outermost loop whose outside holds all `operands`; in straight line it stays in
        place.
        """
        self._check_in_scope(operands)
        depth = max((v.scope.depth for v in operands if v.scope is not None), default=0)
        key = (type.text, text)
        for scope in reversed(self._scopes[depth:]):
            if key in scope.shared:
                return scope.shared[key]
        for inner in self._scopes[depth + 1 :]:
            if inner.preheader is not None:
                home = self._scopes[inner.depth - 1]
                value = self._define(type, text, home, inner.preheader)
                break
        else:
            home = self._scopes[-1]
            value = self._define(type, text, home)
        home.shared[key] = value
        return value

    def _define(self, type: t.IRType, text: str, scope: Scope, lines: Lines | None = None) -> t.Value:
        ref = f"%v{self._number()}"
        (scope.lines if lines is None else lines).append(f"  {ref} = {text}")
        return t.Value(type, ref, scope, None)

    def _number(self) -> int:
        self._counter += 1
        return self._counter

    # -- operands ----------------------------------------------------------------------------------

    def const(self, type: t.IRType, number: int | float) -> t.Value:
        """The constant `number` of `type`, in every lane."""
        return t.constant(type, number)

    def value(self, operand: t.Operand, type: t.IRType = t.i64) -> t.Value:
        """`operand` as a value of `type`: a number becomes a constant, a value must have the type already."""
        if not isinstance(operand, t.Value):
            return t.constant(type, operand)
        if operand.type != type:
            raise InternalError(f"operand {operand} is not of type {type}")
        return operand

    def _unify(self, *operands: t.Operand, default: t.IRType | None = None) -> list[t.Value]:
        """Numbers become constants of the type that the values have in common."""
        typed = [x.type for x in operands if isinstance(x, t.Value)]
        if not typed and default is None:
            raise InternalError("an operation needs at least one operand with a type")
        type = typed[0] if typed else default
        assert type is not None
        return [self.value(x, type) for x in operands]

    def _check_in_scope(self, operands: Sequence[t.Value]) -> None:
        for v in operands:
            if v.scope is not None and not (
                v.scope.depth < len(self._scopes) and self._scopes[v.scope.depth] is v.scope
            ):
                raise InternalError(f"{v} is used outside the loop or branch that defines it")

    # -- calls -------------------------------------------------------------------------------------

    def intrinsic(
        self, name: str, returns: t.IRType, *args: t.Value, params: str | None = None, pure: bool = False
    ) -> t.Value:
        """Call the LLVM intrinsic `name`, declared on demand; refused where the target lacks it.

        `params` replaces the text of the arguments where they need attributes. `pure` shares and hoists the
        call.
        """
        self._declare_intrinsic(name, returns, args)
        text = f"call {returns} @{name}({params or ', '.join(map(str, args))})"
        return self.pure(returns, text, *args) if pure else self.instruction(returns, text, *args)

    def intrinsic_effect(self, name: str, *args: t.Value, params: str | None = None) -> None:
        """Call an intrinsic without a result."""
        self._declare_intrinsic(name, t.void, args)
        self.effect(f"call void @{name}({params or ', '.join(map(str, args))})", *args)

    def call(self, name: str, args: Sequence[t.Operand] = (), returns: t.IRType = t.void) -> t.Value:
        """Call a function of this module or of the outside (then `returns` and the arguments declare it).

        A call without a result gives a value of type void that must not be used.
        """
        callee = self.module.defined(name)
        if callee is not None:
            if len(args) != len(callee.params):
                raise InternalError(f"{name} takes {len(callee.params)} arguments, not {len(args)}")
            values = [self.value(a, p.type) for a, p in zip(args, callee.params)]
            returns = callee.returns
            if callee.bounds is not None:
                if self.bounds is None:
                    raise InternalError(f"{name} checks bounds, which its caller does not know")
                values += self.bounds.arguments(values)
        else:
            values = [a if isinstance(a, t.Value) else self.value(a) for a in args]
            self.module.declare(name, [v.type for v in values], returns)
        text = f"call {returns} @{name}({', '.join(map(str, values))})"
        if returns == t.void:
            self.effect(text, *values)
            return t.Value(t.void, "", None, None)
        return self.instruction(returns, text, *values)

    def call_pointer(
        self, function: t.Value, args: Sequence[t.Operand], returns: t.IRType = t.void
    ) -> t.Value:
        """Call through the pointer `function`."""
        values = [a if isinstance(a, t.Value) else self.value(a) for a in args]
        text = f"call {returns} {function.ref}({', '.join(map(str, values))})"
        if returns == t.void:
            self.effect(text, function, *values)
            return t.Value(t.void, "", None, None)
        return self.instruction(returns, text, function, *values)

    def _declare_intrinsic(self, name: str, returns: t.IRType, args: Sequence[t.Value]) -> None:
        if not name.startswith("llvm."):
            raise InternalError(f"{name} is no intrinsic")
        prefix = max((p for p in REQUIRED_FEATURES if name.startswith(p)), key=len, default=None)
        if prefix is None and name.startswith(("llvm.x86.", "llvm.aarch64.", "llvm.arm.", "llvm.wasm.")):
            raise InternalError(f"the requirements of {name} are not known")
        missing = [f for f in REQUIRED_FEATURES.get(prefix or "", ()) if not self.target.has(f)]
        if missing:
            raise InternalError(f"{name} needs {', '.join(missing)}, which target {self.target.name} lacks")
        self.module.declare(name, [a.type for a in args], returns)

    # -- blocks and scopes -------------------------------------------------------------------------

    def _label(self, hint: str) -> str:
        return f"{_NOT_A_LABEL.sub('_', hint)}.{self._number()}"

    def _start(self, label: str) -> None:
        """Begin the block `label` at the current position."""
        self._scopes[-1].lines.append(f"{label}:")
        self._block = label

    def _jump(self, label: str) -> None:
        self.effect(f"br label %{label}")

    @contextlib.contextmanager
    def _scope(self, *, loop: bool = False, discard: bool = False) -> Iterator[Scope]:
        """Open a scope at the current position; a discarded one leaves no text (code that never runs)."""
        if self._straight_line_only:
            raise InternalError("no loops or branches while writing before a loop")
        around = self._scopes[-1]
        preheader: Lines | None = None
        if loop:
            preheader = []
            around.lines.append(preheader)
        lines: Lines = []
        if not discard:
            around.lines.append(lines)
        scope = Scope(len(self._scopes), lines, is_loop=loop, preheader=preheader)
        block = self._block
        self._scopes.append(scope)
        try:
            yield scope
        finally:
            popped = self._scopes.pop()
            assert popped is scope
            if discard:
                self._block = block

    @contextlib.contextmanager
    def before(self, loop_scope: Scope) -> Iterator[None]:
        """Write straight-line code into the preheader of an open loop (`l.scope`): explicit hoisting."""
        if loop_scope not in self._scopes or loop_scope.preheader is None:
            raise InternalError("the loop is not open, or has a single trip and needs no hoisting")
        inner = self._scopes
        outer = inner[loop_scope.depth - 1]
        lines, flag = outer.lines, self._straight_line_only
        self._scopes = inner[: loop_scope.depth]
        outer.lines = loop_scope.preheader
        self._straight_line_only = True
        try:
            yield
        finally:
            outer.lines = lines
            self._scopes = inner
            self._straight_line_only = flag


def flatten(lines: Lines) -> Iterator[str]:
    """The text lines of a tree of lists, in order."""
    for line in lines:
        if isinstance(line, str):
            yield line
        else:
            yield from flatten(line)
