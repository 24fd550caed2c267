"""Compile one kernel and run it on arrays, chunk by chunk, without the rest of the pipeline."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlc.backends.cpu.compiled import CompiledKernel
from dlc.backends.cpu.module import Module
from dlc.backends.cpu.templates.select import emit_kernel
from dlc.ir.dims import evaluate
from dlc.lowering.kernel import Kernel
from dlc.target import CpuTarget
from tests.backends.cpu.harness import Library

Arrays = Mapping[str, NDArray[Any]]


class CompiledCase:
    """A kernel's function, callable on arrays by parameter name."""

    def __init__(self, kernel: Kernel, target: CpuTarget) -> None:
        self.module = Module(target)
        self.compiled: CompiledKernel = emit_kernel(self.module, "kernel", kernel)
        self.library = Library(self.module)

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
        args = np.array([*slots, 0, 0], np.int64)
        size = evaluate(kernel.scratch, numbers)

        def run(chunk: int) -> None:
            memory = np.full(size + 64, scratch_byte, np.uint8)
            address = -(-memory.ctypes.data // 64) * 64
            self.library.kernel(args.ctypes.data, ctypes.c_int64(chunk), address)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, range(self.chunks(numbers)) if order is None else order))
