"""Running generated functions under Triton's interpreter: those of a kernel, and whole programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlc.backends.triton.backend import GpuProgram, HostKernel
from dlc.backends.triton.function_builder import FAULT, Call
from dlc.backends.triton.interpreter import interpret
from dlc.backends.triton.select import GpuKernel, Steps
from dlc.errors import IndexFault
from dlc.ir.dims import evaluate
from dlc.ir.operator import Array
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.program_evaluate import evaluate_program
from dlc.lowering.tensors import Memory

#: What the bytes of memory hold before they are written.
_GARBAGE = 0xA5


def emulate_program(
    code: GpuProgram, inputs: Sequence[Any], symbols: Mapping[str, int] | None = None
) -> list[Any]:
    """The outputs of a program, as `evaluate_program` gives them, its kernels run by their functions."""

    def run(index: int, tensors: Mapping[str, Memory], numbers: Mapping[str, int]) -> None:
        kernel = code.kernels[index]
        if isinstance(kernel, HostKernel):
            evaluate_kernel(code.program.kernels[index], tensors, numbers)
        else:
            emulate_kernel(kernel, {name: t.physical.reshape(-1) for name, t in tensors.items()}, numbers)

    return evaluate_program(code.program, inputs, symbols, run_kernel=run)


def emulate_kernel(
    kernel: GpuKernel, arrays: Mapping[str, Array], symbols: Mapping[str, int]
) -> None:
    """Run `kernel` on one-dimensional views of the memory of its parameters.

    Raises IndexFault for an index from data that is out of range.
    """
    memory: dict[str, Array] = dict(arrays)
    for space in kernel.workspaces:
        size = evaluate(space.type.elements, symbols) * space.type.dtype.itemsize
        # Like what another kernel has left there.
        memory[space.name] = np.full(size, _GARBAGE, np.uint8).view(space.type.dtype.numpy)
    memory[FAULT] = np.zeros(4, np.int32)
    for action in kernel.actions:
        if isinstance(action, Call):
            _call(action, memory, symbols)
        else:
            _steps(action, memory, symbols)
    if memory[FAULT][0]:
        raise IndexFault("an index in the data is out of range")


def _steps(steps: Steps, memory: dict[str, Array], symbols: Mapping[str, int]) -> None:
    numbers = range(evaluate(steps.extent, symbols))
    for number in reversed(numbers) if steps.reverse else numbers:
        for call in steps.calls:
            _call(call, memory, {**symbols, steps.axis: number})
        for one, other in steps.swapped:
            memory[one], memory[other] = memory[other], memory[one]


def _call(call: Call, memory: Mapping[str, Array], symbols: Mapping[str, int]) -> None:
    grid = tuple(evaluate(extent, symbols) for extent in call.function.grid)
    scalars: list[Any] = [evaluate(dim, symbols) for dim in call.scalars]
    arrays = [memory[name] for name in call.pointers]
    # Words of complex numbers.
    views = [
        array if array.dtype == dtype.numpy else array.view(dtype.numpy)
        for array, (_, dtype) in zip(arrays, call.function.pointers, strict=True)
    ]
    interpret(call.function, grid, views, scalars)
