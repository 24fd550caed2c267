"""The function builder: kernels read like algorithms, the text it writes needs no optimisation.

    b = module.function("scale", [("x", ptr), ("n", i64)])
    x, n = b.params
    with b.loop(0, n, step=16) as loop:
        p = b.offset(x, loop.iv, f32)
        mask = b.tail_mask(b.sub(n, loop.iv))
        v = b.masked_load(p, mask, vector(16, f32))
        b.masked_store(b.fmul(v, 2.0), p, mask)

LLVM's middle end is not run on kernels (it unrolls and spills tuned loops), so the builder itself folds
constants, computes equal integer expressions once and hoists invariant ones out of loops.
"""
from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from dlc.backends.cpu import types as t
from dlc.backends.cpu.llvm.dots import DotOps
from dlc.backends.cpu.llvm.emitter import Lines, flatten
from dlc.errors import InternalError

if TYPE_CHECKING:
    from dlc.backends.cpu.llvm.bounds import Bounds
    from dlc.backends.cpu.module import Module


class FunctionBuilder(DotOps):
    """One LLVM function under construction; made by :meth:`Module.function`."""

    def __init__(
        self,
        module: Module,
        name: str,
        params: Sequence[tuple[str, t.IRType]],
        returns: t.IRType,
        *,
        noalias: Collection[str],
        internal: bool,
    ) -> None:
        super().__init__(module)
        self.name = name
        self.returns = returns
        self.params = tuple(t.Value(type, f"%arg.{param}", None, None) for param, type in params)
        self._attributes = [" noalias" if param in noalias else "" for param, _ in params]
        self._internal = internal
        self._returned: t.Value | None = None
        #: Parameters behind those that were asked for, see `Bounds.arguments`.
        self._ends: tuple[t.Value, ...] = ()
        if internal and module.debug:
            self._take_bounds()

    def check_bounds(self, worst: t.Value) -> Bounds:
        """Check every access from here on; `worst` points to the number that is kept of failing ones."""
        from dlc.backends.cpu.llvm.bounds import Bounds

        self.bounds = Bounds(self, worst)
        return self.bounds

    def _take_bounds(self) -> None:
        """Let the caller say where the memory behind each pointer begins and ends."""
        pointers = [param for param in self.params if param.type is t.ptr]
        names = ["worst", *(f"{p.ref[5:]}.{end}" for p in pointers for end in ("low", "high"))]
        self._ends = tuple(t.Value(t.ptr, f"%bound.{name}", None, None) for name in names)
        worst, *ends = self._ends
        bounds = self.check_bounds(worst)
        for pointer, low, high in zip(pointers, ends[::2], ends[1::2]):
            bounds.enter_between(pointer, pointer.ref[5:], low, high)

    def return_(self, operand: t.Operand) -> None:
        """Set the value that the function returns at its end."""
        if len(self._scopes) != 1:
            raise InternalError("a function returns at its end, outside of loops and branches")
        self._returned = self.value(operand, self.returns)
        self._check_in_scope([self._returned])

    def text(self) -> str:
        """The function's definition in LLVM's syntax."""
        if len(self._scopes) != 1:
            raise InternalError(f"{self.name} still has open loops or branches")
        if (self._returned is None) != (self.returns == t.void):
            raise InternalError(f"{self.name} returns {self.returns}: return_ sets the value")
        attributes = [*self._attributes, *("" for _ in self._ends)]
        params = ", ".join(
            f"{p.type}{attribute} {p.ref}" for p, attribute in zip((*self.params, *self._ends), attributes)
        )
        linkage = "internal " if self._internal else ""
        body: Lines = ["entry:", self._entry, self._body]
        last = "  ret void" if self._returned is None else f"  ret {self._returned}"
        text = "\n".join(flatten(body))
        return f"define {linkage}{self.returns} @{self.name}({params}) nounwind {{\n{text}\n{last}\n}}"
