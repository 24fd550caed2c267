"""Kernels by their generated functions: interpreted, against the kernel evaluator; compiled without a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlc.backends.triton.binary import compile_function
from dlc.backends.triton.emulate import emulate_kernel
from dlc.backends.triton.select import GpuKernel, emit_kernel
from dlc.ir.dims import evaluate
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.kernel import Access, Kernel
from dlc.lowering.parse import parse
from dlc.lowering.verify import verify_kernel
from dlc.target import resolve_gpu

Array = np.ndarray[Any, Any]


def kernel_of(text: str) -> Kernel:
    """The kernel of a text, which keeps the rules."""
    kernel = parse(text)
    verify_kernel(kernel)
    return kernel


def aligned(array: Array) -> Array:
    """A copy whose memory begins at a multiple of 16 bytes."""
    memory = np.zeros(array.nbytes + 16, np.uint8)
    start = -memory.ctypes.data % 16
    view = memory[start : start + array.nbytes].view(array.dtype)
    view[:] = array.reshape(-1)
    return view.reshape(array.shape)


def both(
    kernel: Kernel,
    reads: Mapping[str, Array],
    symbols: Mapping[str, int] | None = None,
    code: GpuKernel | None = None,
) -> list[tuple[Array, Array]]:
    """What each written parameter holds after the functions, and after the evaluator; at first, garbage."""
    numbers = dict(symbols or {})
    mine: dict[str, Array] = {}
    for param in kernel.params:
        if param.access is Access.WRITE:
            shape = tuple(evaluate(extent, numbers) for extent in param.type.shape)
            empty = np.full(int(np.prod(shape)) * param.type.dtype.itemsize, 0x5A, np.uint8)
            mine[param.name] = aligned(empty.view(param.type.dtype.numpy).reshape(shape))
        else:
            mine[param.name] = aligned(reads[param.name].astype(param.type.dtype.numpy, copy=False))
    right = {name: array.copy() for name, array in mine.items()}
    evaluate_kernel(kernel, right, numbers)
    emulate_kernel(
        code or emit_kernel(kernel), {name: array.reshape(-1) for name, array in mine.items()}, numbers
    )
    return [(mine[param.name], right[param.name]) for param in kernel.writes]


def assert_same(
    kernel: Kernel, reads: Mapping[str, Array], symbols: Mapping[str, int] | None = None, **keywords: Any
) -> None:
    """The functions write the same bits as the evaluator."""
    for got, want in both(kernel, reads, symbols, **keywords):
        if got.tobytes() != want.tobytes():
            np.testing.assert_array_equal(got, want)
            raise AssertionError("zeros or NaN differ")


def templates(kernel: Kernel) -> list[str]:
    """The templates of the launches, in order."""
    return [call.template for call in emit_kernel(kernel).calls]


def assert_compiles(kernel: Kernel, capabilities: Sequence[int] = (80, 90)) -> None:
    """All functions compile, and keep their registers."""
    for capability in capabilities:
        target = resolve_gpu(f"cuda:sm_{capability}")
        functions = {call.function.digest: call.function for call in emit_kernel(kernel, target).calls}
        for function in functions.values():
            assert compile_function(function, target).code
