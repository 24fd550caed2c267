"""What code generation hands on about each kernel: its function, its arguments, its chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from dlc.backends.cpu import types as t
from dlc.backends.cpu.access import storage_type
from dlc.backends.cpu.builder import FunctionBuilder
from dlc.backends.cpu.expressions import ExpressionEmitter
from dlc.backends.cpu.llvm.bounds import NONE
from dlc.backends.cpu.module import Module
from dlc.ir.dims import Dim, Symbol, free_symbols
from dlc.ir.operator import Array
from dlc.lowering.kernel import Kernel, Param

#: A constant as a kernel wants it: array in the value's shape -> contiguous array of any shape.
Packing: TypeAlias = Callable[[Array], Array]

#: Bytes of an argument slot.
SLOT = 8
#: The word of dlc_context that takes the faults that kernels report.
FAULT = 6
#: A fault whose chunk has this bit tells, in the bits below, the number of an access outside of its memory
#: (DLC_FAULT_ACCESS in runtime/native/dlc.h).
FAULT_ACCESS = 1 << 39


@dataclasses.dataclass(frozen=True)
class Phase:
    """A function that runs to its end, on the same arguments, before the kernel's own; its chunks."""

    function: str
    chunks: Dim


@dataclasses.dataclass(frozen=True)
class CompiledKernel:
    """A kernel's function in the module.

    Its argument block holds the parameters' pointers in order, then the numbers of `symbols`, then the
    address of the fault word and the number of the step when `reports_faults`, then, in a module to debug,
    the bytes of the scratch memory and of each parameter, then the address of the workspace. `chunks` is the
    number of chunks of a launch (0: nothing to do) and `scratch` the bytes of scratch memory that one
    participant needs. `packing` names constant parameters that the function expects rearranged, with what
    does it: the kernel reads the packed array instead. A kernel of two phases has the first one in `before`,
    and `workspace` bytes of memory that all chunks of both share. `declined` says why the templates that were
    asked before did not take the kernel.
    """

    function: str
    kernel: Kernel
    template: str
    symbols: tuple[Symbol, ...]
    chunks: Dim
    scratch: Dim
    reports_faults: bool
    packing: Mapping[str, Packing] = dataclasses.field(default_factory=dict)
    workspace: Dim = 0
    before: Phase | None = None
    declined: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions in the order in which they are launched."""
        return (self.function,) if self.before is None else (self.before.function, self.function)


class KernelFrame:
    """The entry of a kernel's function: arguments loaded, symbols bound, an expression emitter ready."""

    def __init__(self, module: Module, name: str, kernel: Kernel, more_dims: Sequence[Dim] = ()) -> None:
        self.kernel = kernel
        self.symbols = kernel_symbols(kernel, more_dims)
        self.b: FunctionBuilder = module.function(
            name, [("args", t.ptr), ("chunk", t.i64), ("scratch", t.ptr)]
        )
        self.name = name
        args, self.chunk, self.scratch = self.b.params
        self.reports_faults = False
        self.pointers: dict[str, t.Value] = {}
        for slot, param in enumerate(kernel.params):
            self.pointers[param.name] = self._argument(args, slot, t.ptr)
        self._args = args
        self._worst: t.Value | None = None
        if module.debug:
            self._check_bounds()
        numbers = {
            symbol.name: self._argument(args, len(kernel.params) + i, t.i64)
            for i, symbol in enumerate(self.symbols)
        }
        params = {param.name: param for param in kernel.params}
        self.emitter = ExpressionEmitter(self.b, params, self.pointers, self._report_fault)
        self.emitter.fix_symbols(numbers)

    def _check_bounds(self) -> None:
        """Let the function check its accesses: the driver says how large the memory of each parameter is."""
        b, count = self.b, len(self.kernel.params)
        self.reports_faults = True
        first = count + len(self.symbols) + 2
        sizes = [self._argument(self._args, first + i, t.i64) for i in range(1 + count)]
        self._worst = b.stack(SLOT)
        b.store(NONE, self._worst)
        bounds = b.check_bounds(self._worst)
        bounds.enter(self._args, "its arguments", (first + 2 + count) * SLOT)
        bounds.enter(self.scratch, "scratch memory", sizes[0])
        for param, size in zip(self.kernel.params, sizes[1:], strict=True):
            bounds.enter(self.pointers[param.name], f"'{param.name}'", size)

    def _argument(self, args: t.Value, slot: int, type_: t.IRType) -> t.Value:
        return self.b.load_invariant(self.b.byte_offset(args, slot * SLOT), type_)

    def workspace(self, size: Dim) -> t.Value:
        """The memory of `size` bytes that all chunks of the kernel's phases share."""
        params = len(self.kernel.params)
        slot = params + len(self.symbols) + 2 + (1 + params if self.b.module.debug else 0)
        pointer = self._argument(self._args, slot, t.ptr)
        if self.b.bounds is not None:
            self.b.bounds.enter(pointer, "the workspace", self.emitter.dim(size))
        return pointer

    def _report_fault(self, bad: t.Value) -> None:
        self.reports_faults = True
        with self.b.if_(bad):
            self._call_report(self.chunk)

    def _call_report(self, chunk: t.Value) -> None:
        slot = len(self.kernel.params) + len(self.symbols)
        word, step = self._argument(self._args, slot, t.ptr), self._argument(self._args, slot + 1, t.i64)
        self.b.call("dlc_report_fault", [word, step, chunk])

    def finish(
        self,
        template: str,
        chunks: Dim,
        scratch: Dim = 0,
        packing: Mapping[str, Packing] | None = None,
        workspace: Dim = 0,
        before: Phase | None = None,
    ) -> CompiledKernel:
        """Close the function, and say what it is."""
        self.close()
        return CompiledKernel(
            self.name,
            self.kernel,
            template,
            self.symbols,
            chunks,
            scratch,
            self.reports_faults,
            packing or {},
            workspace,
            before,
        )

    def close(self) -> None:
        """End the function."""
        if self._worst is not None:
            b = self.b
            worst = b.instruction(t.i64, f"load i64, {self._worst}, align 8", self._worst)
            with b.if_(b.icmp("ne", worst, NONE)):
                self._call_report(b.value(b.or_(worst, FAULT_ACCESS)))


def kernel_symbols(kernel: Kernel, more_dims: Sequence[Dim] = ()) -> tuple[Symbol, ...]:
    """The symbols, besides the axes, that the kernel's extents, shapes and indices speak of, by name."""
    from dlc.lowering.inspect import kernel_dims

    axes = {axis.name for axis in kernel.axes}
    symbols = {s.name: s for dim in (*kernel_dims(kernel), *more_dims) for s in free_symbols(dim)}
    return tuple(symbol for name, symbol in sorted(symbols.items()) if name not in axes)


def element_bytes(param: Param) -> int:
    """Bytes of one element of a parameter in memory."""
    return max(storage_type(param.type.dtype).bytes, 1)
