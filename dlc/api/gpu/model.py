"""A model compiled for a GPU: arrays of the host or of the GPU in, the same out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dlc.api.arrays import Family, common_family, in_family, is_tensor
from dlc.api.gpu import plan as p
from dlc.api.gpu.build import GpuArtifact
from dlc.api.gpu.executor import Binding, Executor
from dlc.api.gpu.machine import Array, Machine
from dlc.api.model import CompiledModel
from dlc.api.outputs import Outputs
from dlc.errors import InputError, UnsupportedError, printable
from dlc.ir.dtypes import from_text
from dlc.runtime.call import CancelToken

#: Kernels take pointers at multiples of this.
_ALIGNMENT = 16


class GpuModel(CompiledModel):
    """A model ready to run on a GPU. Several Python threads may call it; their runs follow each other.

    Arrays of NumPy are copied to the GPU and results back. Where an input is a torch tensor on the GPU, it is
    used where it lies, and results are such tensors. The GPU is opened by the first call.
    """

    def __init__(
        self,
        artifact: GpuArtifact,
        *,
        threads: int | None = None,
        machine: Callable[[GpuArtifact], Machine] | None = None,
    ) -> None:
        self._gpu = artifact
        self._open = machine or _cuda
        self._executor: Executor | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._describe(artifact)

    @property
    def executor(self) -> Executor:
        """What runs the plan; UnsupportedError where there is no GPU."""
        if self._closed:
            raise InputError("the model is closed", code="input/closed")
        if self._executor is None:
            self._executor = Executor(self._gpu.plan, self._open(self._gpu), self._gpu.constants)
        return self._executor

    def _run(self, values: Sequence[Any], cancel: CancelToken | None = None) -> Outputs:
        with self._lock:
            executor = self.executor
            arrays, numbers, family = self._bind_any(values)
            binding = executor.bind(numbers)
            on_gpu = next((array for array in arrays if not isinstance(array, np.ndarray)), None)
            addresses = [self._place(executor, i, array) for i, array in enumerate(arrays)]
            if on_gpu is not None:
                return Outputs(self._output_names, self._run_there(executor, binding, addresses, on_gpu))
            results = self._run_here(executor, binding, addresses)
        if family is not None:
            results = [in_family(family, result) for result in results]
        return Outputs(self._output_names, results)

    # --- inputs

    def _bind_any(self, values: Sequence[Any]) -> tuple[list[Any], tuple[int, ...], Family | None]:
        """The inputs checked, arrays of the host or tensors of the GPU, and the numbers of the symbols."""
        if not any(is_tensor(value) and value.is_cuda for value in values):
            return self._bind(values)
        arrays: list[Any] = []
        numbers = [0] * len(self._symbols)
        for value, binder in zip(values, self._binders, strict=True):
            if is_tensor(value) and value.is_cuda:
                array = value.detach().contiguous()
                # A stand-in without memory has the shape and type that are checked.
                binder.check(_stand_in(tuple(array.shape), str(array.dtype), binder.spec.name))
            else:
                array, _ = binder.take(value)
            for axis, index in binder.reads:
                numbers[index] = int(array.shape[axis])
            for element, index in binder.elements:
                numbers[index] = int(array.reshape(-1)[element])
            arrays.append(array)
        env = dict(zip(self._symbols, numbers, strict=True))
        for array, binder in zip(arrays, self._binders, strict=True):
            binder.check_derived(tuple(array.shape), env)
        return arrays, tuple(numbers), common_family([])

    def _place(self, executor: Executor, index: int, array: Any) -> int:
        """The address of an input on the GPU, where it is copied to unless it lies there."""
        if not isinstance(array, np.ndarray):
            address: int = array.data_ptr()
            if address % _ALIGNMENT == 0:
                return address
            size = array.numel() * array.element_size()
            own = executor.memory(p.INPUT, index, size, "an input")
            _torch_stream_done()
            executor.machine.copy(own.address, address, size)
            return own.address
        own = executor.memory(p.INPUT, index, array.nbytes, "an input")
        executor.machine.upload(own.address, array)
        return own.address

    # --- runs

    def _run_here(self, executor: Executor, binding: Binding, inputs: Sequence[int]) -> list[Any]:
        """Run, with results as arrays of the host."""
        places: list[int | None] = []
        results: list[Any] = []
        for index, (shape, spec) in enumerate(zip(binding.shapes, self.outputs, strict=True)):
            grown = executor.plan.outputs[index].place.kind == p.GROWN
            if shape is None or grown:
                places.append(None)
                results.append(None)
                continue
            results.append(np.empty(shape, spec.dtype))
            places.append(executor.memory(p.OUTPUT, index, results[-1].nbytes, "an output").address)
        made = executor.run(binding, inputs, places)
        for index, (place, result) in enumerate(zip(places, results)):
            if place is not None:
                executor.machine.download(result, place)
            else:
                found = made[index]
                results[index] = np.empty(found.shape, from_text(found.dtype).numpy)
                executor.machine.download(results[index], found.address)
        return results

    def _run_there(
        self, executor: Executor, binding: Binding, inputs: Sequence[int], like: Any
    ) -> list[Any]:
        """Run, with results as torch tensors on the GPU of the tensor `like`."""
        import torch

        _torch_stream_done()
        places: list[int | None] = []
        results: list[Any] = []
        for index, (shape, spec) in enumerate(zip(binding.shapes, self.outputs, strict=True)):
            if shape is None or executor.plan.outputs[index].place.kind == p.GROWN:
                places.append(None)
                results.append(None)
                continue
            results.append(torch.empty(shape, dtype=_torch_dtype(spec.dtype.name), device=like.device))
            places.append(results[-1].data_ptr())
        made = executor.run(binding, inputs, places)
        for index, place in enumerate(places):
            if place is None:
                found = made[index]
                dtype = _torch_dtype(from_text(found.dtype).numpy.name)
                results[index] = torch.empty(found.shape, dtype=dtype, device=like.device)
                size = results[index].numel() * results[index].element_size()
                executor.machine.copy(results[index].data_ptr(), found.address, size)
        # Work of torch in its own stream may follow at once.
        executor.machine.synchronize()
        return results

    def prepare(
        self,
        feeds: Mapping[str, Any],
        out: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> Any:
        """A call with its inputs bound: ``call()`` runs on what they hold then.

        Raises UnsupportedError for `out`: results are new arrays each time.
        """
        if out:
            raise UnsupportedError(
                "a model on a GPU does not write to given arrays",
                hint="leave out= away",
                code="unsupported",
            )
        values = list(self._ordered((), feeds))
        return lambda: self._run(values, cancel)

    def close(self) -> None:
        """Give back the GPU's memory; the model cannot be called afterwards."""
        with self._lock:
            self._closed = True
            if self._executor is not None:
                self._executor.close()
                self._executor = None


def _cuda(artifact: GpuArtifact) -> Machine:
    from dlc.api.gpu.cuda import CudaMachine

    return CudaMachine(artifact.binaries)


def _stand_in(shape: tuple[int, ...], dtype: str, name: str) -> Array:
    """An array of that shape and of torch's `dtype`, whose elements are all one."""
    text = dtype.removeprefix("torch.")
    try:
        found = np.dtype(text)
    except TypeError:
        import ml_dtypes

        found = np.dtype(getattr(ml_dtypes, text, object))
    if found.kind == "O":
        raise InputError(f"input {printable(name)!r} has torch's type {text}", code="input/dtype")
    return _Shape.of(shape, found)


class _Shape:
    """Makes arrays whose shape alone matters."""

    @staticmethod
    def of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A read-only array without memory of its own."""
        array: Array = np.broadcast_to(np.zeros((), dtype), shape)
        return array


def _torch_dtype(name: str) -> Any:
    torch = sys.modules["torch"]
    return getattr(torch, {"bool": "bool"}.get(name, name))


def _torch_stream_done() -> None:
    """Wait for torch's work on the GPU, which may still be making the inputs."""
    sys.modules["torch"].cuda.current_stream().synchronize()
