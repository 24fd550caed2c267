"""The golden kernels as GPU functions under Triton's interpreter, against the kernel evaluator."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

pytest.importorskip("triton")

from dlc.backends.triton.elements import NotInTriton
from dlc.backends.triton.emulate import emulate_kernel
from dlc.backends.triton.select import GpuKernel, emit_kernel
from dlc.errors import IndexFault
from dlc.ir.dims import evaluate
from dlc.ir.types import TensorType
from dlc.lowering.canonical import canonical_kernel
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.kernel import Access, Kernel, Param, Routine
from dlc.lowering.parse import parse
from dlc.lowering.tensors import Memory
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance
from tests.lowering.kernels import poisoned

Array: TypeAlias = "np.ndarray[Any, Any]"
Sizes: TypeAlias = "dict[str, int]"

FOLDER = Path(__file__).parents[2] / "lowering" / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.txt") if path.stem != "winograd_schedule")

#: The numbers of the symbols: small, odd, one, none.
SIZES: dict[str, list[Sizes]] = {
    "cache_append": [
        {"batch": 2, "new": 3, "past": 17},
        {"batch": 1, "new": 1, "past": 127},
        {"batch": 1, "new": 0, "past": 5},
    ],
    "concat": [{"n": 2, "width": 4}, {"n": 3, "width": 1}, {"n": 1, "width": 37}, {"n": 0, "width": 4}],
    "conv_bias_residual_relu": [
        {"n": 1, "h": 5, "w": 6},
        {"n": 1, "h": 1, "w": 1},
        {"n": 2, "h": 3, "w": 7},
        {"n": 0, "h": 3, "w": 3},
    ],
    "depthwise_conv": [{"n": 1, "h": 7, "w": 6}, {"n": 2, "h": 1, "w": 1}],
    "grouped_query_attention": [
        {"batch": 1, "queries": 3, "past": 3, "new": 5},
        {"batch": 2, "queries": 1, "past": 0, "new": 17},
        {"batch": 1, "queries": 5, "past": 33, "new": 1},
    ],
    "inverted_residual": [{"n": 1, "h": 3, "w": 5}, {"n": 2, "h": 1, "w": 1}],
    "layer_norm": [
        {"rows": 3, "width": 7},
        {"rows": 1, "width": 1},
        {"rows": 0, "width": 4},
        {"rows": 2, "width": 1025},
        {"rows": 130, "width": 3},
    ],
    "lstm": [
        {"time": 4, "batch": 3},
        {"time": 1, "batch": 1},
        {"time": 0, "batch": 2},
        {"time": 2, "batch": 17},
    ],
    "quantized_conv": [{"n": 1}, {"n": 2}],
    "scatter_add": [
        {"n": 5, "count": 4},
        {"n": 1, "count": 1},
        {"n": 3, "count": 0},
        {"n": 7, "count": 300},
    ],
    "top_k": [{"k": 5, "rows": 3}, {"k": 0, "rows": 2}, {"k": 50, "rows": 1}],
}
#: Sums of different orders; all others are exact.
WORK = {
    "cache_append": Work.EXACT,
    "concat": Work.POINTWISE,
    "layer_norm": Work.NORMALIZATION,
    "lstm": Work.RECURRENT,
    "quantized_conv": Work.EXACT,
    "scatter_add": Work.EXACT,
    "top_k": Work.EXACT,
}


def golden(name: str) -> Kernel:
    text = (FOLDER / f"{name}.txt").read_text()
    if name == "quantized_conv":  # as large as it stands there, it would take long
        text = text.replace("14", "5")
    return canonical_kernel(parse(text))


def memory(param: Param, array: Array, symbols: Mapping[str, int]) -> Memory:
    """An array as the layout of a parameter has it: halos hold what the type says, the rest is poison."""
    shape = tuple(evaluate(extent, symbols) for extent in param.type.shape)
    physical = [evaluate(extent, symbols) for extent in param.type.physical_shape]
    made = Memory(poisoned(TensorType(param.type.dtype, tuple(physical)), {}), param.type, shape)
    halos = [param.type.layout.halo(axis) if param.type.layout else None for axis in range(array.ndim)]
    before = [halo.before if halo else 0 for halo in halos]
    after = [halo.after if halo else 0 for halo in halos]
    around = np.pad(array, list(zip(before, after)))
    index = [at - low for at, low in zip(np.indices(around.shape), before)]
    made.store([at.reshape(-1) for at in index], around.reshape(-1))
    return made


def random(kernel: Kernel, name: str, symbols: Mapping[str, int]) -> dict[str, Array]:
    """Contents of all parameters: numbers of every type, indices in range, poison where only written."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Array] = {}
    for param in kernel.params:
        shape = [evaluate(extent, symbols) for extent in param.type.shape]
        dtype = param.type.dtype.numpy
        if param.access is Access.WRITE:
            arrays[param.name] = poisoned(param.type, symbols)
        elif name == "scatter_add" and dtype.kind == "i":
            arrays[param.name] = generator.integers(-symbols["n"], symbols["n"], shape).astype(dtype)
        elif dtype.kind == "b":
            arrays[param.name] = generator.random(shape) < 0.7
        elif dtype.kind in "iu":
            low, high = (-128, 128) if dtype.kind == "i" else (0, 256)
            arrays[param.name] = generator.integers(low, high, shape).astype(dtype)
        else:
            arrays[param.name] = generator.standard_normal(shape).astype(dtype)
    return arrays


def emulate(kernel: GpuKernel, arrays: Mapping[str, Array], symbols: Mapping[str, int]) -> dict[str, Array]:
    """The arrays as the functions leave them, each in the layout of its parameter."""
    tensors = {param.name: memory(param, arrays[param.name], symbols) for param in kernel.kernel.params}
    emulate_kernel(kernel, {name: t.physical.reshape(-1) for name, t in tensors.items()}, symbols)
    return {name: t.whole() for name, t in tensors.items()}


def test_every_golden_kernel_is_here() -> None:
    assert sorted(SIZES) == NAMES


@pytest.mark.parametrize(
    ("name", "symbols"), [(name, sizes) for name in SIZES for sizes in SIZES[name]], ids=str
)
def test_golden_kernels(name: str, symbols: Sizes) -> None:
    """Padding lanes of blocked layouts do not count: no template reads any."""
    kernel = golden(name)
    arrays = random(kernel, name, symbols)
    expected = {key: array.copy() for key, array in arrays.items()}
    evaluate_kernel(kernel, expected, symbols)
    actual = emulate(emit_kernel(kernel), arrays, symbols)
    for param in kernel.params:
        got, want = actual[param.name], expected[param.name]
        if param.access is Access.READ:
            assert got.tobytes() == want.tobytes(), f"{param.name} is written"
            continue
        difference = compare_arrays(
            param.name, got, want, tolerance(want.dtype, WORK.get(name, Work.CONTRACTION))
        )
        assert difference.agrees, difference


def test_what_no_template_takes() -> None:
    kernel = golden("top_k")
    (routine,) = kernel.body
    assert isinstance(routine, Routine)
    unknown = dataclasses.replace(kernel, body=(dataclasses.replace(routine, name="shuffle"),))
    with pytest.raises(NotInTriton, match="there is no template of the routine shuffle"):
        emit_kernel(unknown)


@pytest.mark.parametrize("index", [5, -6, 1 << 40])
def test_bad_indices_are_faults(index: int) -> None:
    kernel, symbols = golden("scatter_add"), {"n": 5, "count": 2}
    arrays = random(kernel, "scatter_add", symbols)
    (indices,) = (array for array in arrays.values() if array.dtype == np.int64)
    indices[1] = index
    with pytest.raises(IndexFault, match="out of range"):
        emulate(emit_kernel(kernel), arrays, symbols)
