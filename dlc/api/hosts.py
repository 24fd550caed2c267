"""Host steps: nodes without a kernel, evaluated in NumPy on the program's buffers."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from dlc.api.assemble import Artifact
from dlc.errors import Error, InternalError, printable
from dlc.ir.dims import Dim, evaluate
from dlc.lowering.program import Buffer


class HostRunner:
    """Runs the host steps of one model; called by native code."""

    def __init__(self, artifact: Artifact) -> None:
        assert artifact.program is not None
        self._steps = artifact.hosts
        self._symbols = [s.name for s in (*artifact.program.symbols, *artifact.program.run_symbols)]

    def __call__(self, step: int, buffers: int, symbols: int) -> None:
        """Evaluate step `step` on the arrays whose addresses stand at `buffers`."""
        host = self._steps[step]
        numbers = (ctypes.c_int64 * max(1, len(self._symbols))).from_address(symbols)
        env = dict(zip(self._symbols, numbers, strict=False))
        present = [buffer for buffer in (*host.inputs, *host.outputs) if buffer is not None]
        table = (ctypes.c_void_p * len(present)).from_address(buffers)
        arrays = [_view(buffer, pointer or 0, env) for buffer, pointer in zip(present, table, strict=True)]
        operands = iter(arrays)
        inputs = [None if buffer is None else next(operands) for buffer in host.inputs]

        def dim(extent: Dim) -> int:
            return evaluate(extent, env)

        node = ", ".join(host.node.origin) or None
        try:
            with np.errstate(all="ignore"):
                results = host.node.op.evaluate(inputs, dim)
            for target, result in zip(operands, results, strict=True):
                target[...] = result
        except (Error, MemoryError):
            raise
        except Exception as error:
            raise InternalError(
                f"a host step failed: {type(error).__name__}: {printable(str(error))}", node=node
            ) from error


def _view(buffer: Buffer, pointer: int, env: dict[str, int]) -> np.ndarray[Any, Any]:
    """The memory of a buffer as an array."""
    shape = tuple(evaluate(extent, env) for extent in buffer.type.shape)
    dtype = buffer.type.dtype.numpy
    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return np.empty(shape, dtype)
    memory = (ctypes.c_uint8 * (count * dtype.itemsize)).from_address(pointer)
    view: np.ndarray[Any, Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
    return view
