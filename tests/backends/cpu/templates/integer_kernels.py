"""Kernels with one product of 8-bit integers, run and compared bit for bit with the evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.kernel import Access, Kernel
from dlc.lowering.parse import parse
from dlc.lowering.verify import verify_kernel
from dlc.target import CpuTarget
from tests.backends.cpu.templates.kernel_runner import CompiledCase
from tests.runtime.guarded import guarded

Array = NDArray[Any]


class IntegerCase:
    """A kernel given as text, compiled by the template named."""

    def __init__(self, text: str, target: CpuTarget, template: str) -> None:
        self.kernel: Kernel = parse(text)
        verify_kernel(self.kernel)
        self.case = CompiledCase(self.kernel, target)
        compiled = self.case.compiled
        assert compiled.template == template, compiled.declined

    def check(self, values: Mapping[str, Array], symbols: Mapping[str, int] | None = None) -> None:
        """Run on `values` by parameter; every result has the evaluator's bits."""
        numbers = dict(symbols or {})
        expected, actual = dict(values), {name: _placed(value) for name, value in values.items()}
        for param in self.kernel.params:
            if param.access is Access.WRITE:
                shape = tuple(_extent(dim, numbers) for dim in param.type.shape)
                expected[param.name] = np.zeros(shape, param.type.dtype.numpy)
                actual[param.name] = _placed(np.full(shape, 7, param.type.dtype.numpy))
        evaluate_kernel(self.kernel, expected, numbers)
        self.case.run(actual, numbers)
        for name, value in expected.items():
            np.testing.assert_array_equal(actual[name], value, err_msg=name)


def _extent(dim: Any, numbers: Mapping[str, int]) -> int:
    from dlc.ir.dims import evaluate

    return evaluate(dim, numbers)


def _placed(value: Array) -> Array:
    """A copy that ends at a protected page: a read beyond it ends the process."""
    copy = guarded(value.shape, value.dtype)
    copy[...] = value
    return copy


def numbers(seed: int, dtype: str, *shape: int) -> Array:
    """Random numbers of "u8" or "i8" over the whole range."""
    low, high = (0, 256) if dtype == "u8" else (-128, 128)
    values: Array = np.random.default_rng(seed).integers(low, high, shape).astype(numpy_type(dtype))
    return values


def numpy_type(dtype: str) -> Any:
    """NumPy's type of "u8" or "i8"."""
    return {"u8": np.uint8, "i8": np.int8}[dtype]
