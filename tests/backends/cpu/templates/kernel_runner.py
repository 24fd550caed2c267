"""Compile one kernel and run it on arrays, chunk by chunk, without the rest of the pipeline."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlc.backends.cpu import types as t
from dlc.backends.cpu.compiled import CompiledKernel
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.select import emit_kernel
from dlc.ir.dims import evaluate
from dlc.lowering.kernel import Kernel
from dlc.runtime.abi import NO_FAULT, decode_access
from dlc.target import CpuTarget
from tests.backends.cpu.harness import Library
from tests.helpers.native import DEBUG

Arrays = Mapping[str, NDArray[Any]]


class CompiledCase:
    """A kernel's function, callable on arrays by parameter name."""

    def __init__(self, kernel: Kernel, target: CpuTarget) -> None:
        self.module = Module(target, debug=DEBUG)
        if DEBUG:
            self._define_report()
        self.compiled: CompiledKernel = emit_kernel(self.module, "kernel", kernel)
        self.library = Library(self.module)

    def _define_report(self) -> None:
        """What a kernel calls for an access outside of its memory: keeps the last one."""
        report = self.module.function(
            "dlc_report_fault", [("word", t.ptr), ("step", t.i64), ("chunk", t.i64)]
        )
        report.store(report.params[2], report.params[0])

    def chunks(self, symbols: Mapping[str, int]) -> int:
        """The number of chunks of a launch."""
        return evaluate(self.compiled.chunks, symbols)

    def run(
        self,
        arrays: Arrays,
        symbols: Mapping[str, int] | None = None,
        order: Iterable[int] | None = None,
        scratch_byte: int = 0xFF,
        threads: int = 1,
    ) -> None:
        """Run all chunks (in `order`), each with scratch memory full of `scratch_byte` (by default NaNs).

        Constants are given as in the kernel's types and packed here. Several `threads` share the chunks out.
        """
        numbers = dict(symbols or {})
        kernel = self.compiled
        keep = []
        for param in kernel.kernel.params:
            array = arrays[param.name]
            packing = kernel.packing.get(param.name)
            keep.append(array if packing is None else np.ascontiguousarray(packing(array)))
        slots = [array.ctypes.data for array in keep]
        slots += [numbers[symbol.name] for symbol in kernel.symbols]
        size = evaluate(kernel.scratch, numbers)
        fault = np.full(1, NO_FAULT, np.int64)
        slots += [fault.ctypes.data, 0]
        if self.module.debug:
            slots += [size, *map(_span, keep)]
        workspace = np.full(evaluate(kernel.workspace, numbers) + 64, 0xFF, np.uint8)
        args = np.array([*slots, -(-workspace.ctypes.data // 64) * 64], np.int64)

        def run(chunk: int, function: Any = self.library.kernel) -> None:
            memory = np.full(size + 64, scratch_byte, np.uint8)
            address = -(-memory.ctypes.data // 64) * 64
            function(args.ctypes.data, ctypes.c_int64(chunk), address)

        if kernel.before is not None:
            for chunk in range(evaluate(kernel.before.chunks, numbers)):
                run(chunk, getattr(self.library, kernel.before.function))
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, range(self.chunks(numbers)) if order is None else order))
        access = decode_access(int(fault[0])) if fault[0] != NO_FAULT else None
        assert access is None, self.module.accesses[access]


def _span(array: NDArray[Any]) -> int:
    """Bytes from the first element of an array, whose strides are positive, to the end of the last one."""
    steps = sum((extent - 1) * stride for extent, stride in zip(array.shape, array.strides))
    return steps + array.itemsize if array.size else 0
