"""Evaluating one operator of the graph IR, with a check that inference foretells the results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from dlc.ir.dims import Dim, Symbol, evaluate as evaluate_dim
from dlc.ir.dtypes import DType, from_numpy
from dlc.ir.operator import Operator
from dlc.ir.types import TensorType

Array: TypeAlias = "np.ndarray[Any, Any]"


def type_of(array: Array) -> TensorType:
    """The static type of an array."""
    return TensorType(from_numpy(array.dtype), array.shape)


def run(op: Operator, *inputs: Array | None) -> tuple[Array, ...]:
    """Outputs of `op`, whose types must be those that inference gives, for known and for symbolic extents."""
    outputs = op.evaluate(inputs, _number)
    check_types(op.infer([None if array is None else type_of(array) for array in inputs]), outputs, {})
    env: dict[str, int] = {}
    symbolic = [None if array is None else _symbolic(array, index, env) for index, array in enumerate(inputs)]
    check_types(op.infer(symbolic), outputs, env)
    return outputs


def run_one(op: Operator, *inputs: Array | None) -> Array:
    """The only output of `op`, checked as by `run`."""
    (output,) = run(op, *inputs)
    return output


def check_types(types: tuple[Any, ...], outputs: tuple[Array, ...], env: dict[str, int]) -> None:
    """Element types and shapes of `outputs` are `types` where symbols have the numbers in `env`."""
    assert len(types) == len(outputs)
    for type_, output in zip(types, outputs):
        assert isinstance(output, np.ndarray)
        assert from_numpy(output.dtype) is type_.dtype
        assert output.shape == tuple(evaluate_dim(extent, env) for extent in type_.shape)


def _symbolic(array: Array, index: int, env: dict[str, int]) -> TensorType:
    shape: list[Dim] = []
    for axis, extent in enumerate(array.shape):
        symbol = Symbol(f"d{index}_{axis}")
        env[symbol.name] = extent
        shape.append(symbol)
    return TensorType(from_numpy(array.dtype), tuple(shape))


def _number(dim: Dim) -> int:
    assert isinstance(dim, int)
    return dim


def elementwise(function: Callable[..., Any], *arrays: Array, dtype: DType) -> Array:
    """A Python function applied to broadcast elements one by one: the slow, plain oracle."""
    broadcast = np.broadcast_arrays(*arrays)
    results = [
        function(*(a.item() for a in elements)) for elements in zip(*(a.reshape(-1) for a in broadcast))
    ]
    return np.array(results, dtype=dtype.numpy).reshape(broadcast[0].shape)
