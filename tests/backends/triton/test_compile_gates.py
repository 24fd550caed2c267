"""What the templates write compiles for each architecture: no spills, shared memory that the target has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton")

from dlc.backends.triton.backend import HostKernel
from dlc.backends.triton.binary import compile_function
from dlc.backends.triton.function import TritonFunction
from dlc.backends.triton.resources import measure
from dlc.ir.ops.indexing import Gather, ScatterND
from dlc.ir.ops.movement import Transpose
from dlc.ir.ops.normalization import LayerNorm, Softmax
from dlc.ir.ops.pointwise import Unary
from dlc.ir.ops.reduction import ArgReduce, Reduce
from dlc.target import resolve_gpu
from tests.helpers.gpu_nodes import GpuNode

Array: TypeAlias = "np.ndarray[Any, Any]"

TARGETS = ["cuda:sm_80", "cuda:sm_90", "hip:gfx942"]


def zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


#: Operators, what they are compiled for, and the template that it comes from.
CASES: dict[str, tuple[str, Callable[[], GpuNode]]] = {
    "gelu-f16": ("pointwise", lambda: GpuNode(Unary("erf"), zeros(64, 1000, dtype=np.float16))),
    "transpose-bf16": (
        "pointwise",
        lambda: GpuNode(Transpose((0, 2, 1)), zeros(2, 33, 65, dtype=ml_dtypes.bfloat16), symbolic=[33, 65]),
    ),
    "gather-i64": (
        "pointwise",
        lambda: GpuNode(Gather(0), zeros(50, 64), zeros(7, dtype=np.int64), symbolic=[7]),
    ),
    "nothing": ("pointwise", lambda: GpuNode(Transpose((1, 0)), zeros(0, 5))),
    "softmax-resident": ("rows", lambda: GpuNode(Softmax(1), zeros(300, 1000, dtype=np.float16))),
    "softmax-longest": ("rows", lambda: GpuNode(Softmax(1), zeros(30, 8192))),
    "layer-norm-looped": (
        "rows",
        lambda: GpuNode(LayerNorm(1, 1e-5), zeros(30, 70), zeros(70), zeros(70), symbolic=True),
    ),
    "sum-across": ("rows", lambda: GpuNode(Reduce("sum", (0,), False), zeros(70, 300), symbolic=True)),
    "argmax-bf16": (
        "rows",
        lambda: GpuNode(ArgReduce("max", 1, False, True), zeros(30, 100, dtype=ml_dtypes.bfloat16)),
    ),
    "sum-of-nothing": ("rows", lambda: GpuNode(Reduce("sum", (1,), False), zeros(5, 0))),
    "scatter-add": (
        "ordered",
        lambda: GpuNode(
            ScatterND("add"), zeros(30, 64), zeros(9, 1, dtype=np.int64), zeros(9, 64), symbolic=[9]
        ),
    ),
    "scatter-bool": (
        "ordered",
        lambda: GpuNode(
            ScatterND("max"), zeros(30, dtype=np.bool_), zeros(9, 1, dtype=np.int64), zeros(9, dtype=np.bool_)
        ),
    ),
}


def function(name: str) -> TritonFunction:
    """The function of a case that its template has written."""
    template, make = CASES[name]
    for kernel in make().code.kernels:
        assert not isinstance(kernel, HostKernel)
        for call in kernel.calls:
            if call.template == template:
                return call.function
    raise AssertionError(f"{name} has no call of the template {template}")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CASES)
def test_functions_fit_the_target(name: str, target: str) -> None:
    gpu, written = resolve_gpu(target), function(name)
    binary = compile_function(written, gpu)
    resources = measure(binary)
    assert binary.entry == written.name and binary.parameters == tuple(written.signature.values())
    assert resources.spill_bytes == 0 and not resources.notes
    assert resources.shared_bytes <= gpu.shared_bytes
    assert resources.registers * binary.num_warps * gpu.warp_size <= gpu.registers
    assert binary.scratch_bytes == 0


def test_rows_in_registers_are_read_once() -> None:
    """A resident softmax loads each element once; a looped one once for each of its three passes."""
    resident = function("softmax-resident")
    assert resident.text.count("tl.load(") == 1 and "for start in" not in resident.text
    looped = function("layer-norm-looped")
    assert looped.text.count("for start in") == 3
