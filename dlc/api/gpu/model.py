"""A model compiled for a GPU: arrays of the host or of the GPU in, the same out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dlc.api.arrays import in_family
from dlc.api.gpu import plan as p
from dlc.api.gpu.build import GpuArtifact
from dlc.api.gpu.executor import Binding, Executor
from dlc.api.gpu.machine import Machine
from dlc.api.gpu.tensors import current_stream, gpu_family, numpy_dtype, on_gpu, torch_dtype
from dlc.api.model import CompiledModel
from dlc.api.outputs import Outputs
from dlc.errors import Error, InputError, UnsupportedError
from dlc.ir.dtypes import from_text
from dlc.runtime.call import CancelToken
from dlc.runtime.manifest import Manifest

#: Kernels take pointers at multiples of this.
_ALIGNMENT = 16


class GpuModel(CompiledModel):
    """A model ready to run on a GPU. Several Python threads may call it; their runs follow each other.

    Arrays of NumPy are copied to the GPU and results back. An input that lies on the GPU, a torch tensor or
    what else has DLPack, is used there, in torch's current stream, and results are of its kind. The GPU is
    opened by the first call.
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
        #: What keeps this machine from running the code: only a call tells.
        self._foreign = None
        self._describe(artifact)

    @property
    def executor(self) -> Executor:
        """What runs the plan; UnsupportedError where there is no GPU."""
        if self._closed:
            raise InputError("the model is closed")
        if self._executor is None:
            self._executor = Executor(self._gpu.plan, self._open(self._gpu), self._gpu.constants)
        return self._executor

    def _run(self, values: Sequence[Any], cancel: CancelToken | None = None) -> Outputs:
        given = [on_gpu(value) for value in values]
        there = next((tensor for tensor in given if tensor is not None), None)
        with self._lock:
            executor = self.executor
            if there is None:
                executor.machine.use_stream(None)
                arrays, numbers, family = self._bind(values)
                binding = executor.bind(numbers)
                results = self._run_here(executor, binding, self._places(executor, arrays))
            else:
                # What torch has asked for comes before, and what it asks for next comes after.
                executor.machine.use_stream(current_stream())
                arrays, numbers = self._bind_there(values, given)
                family = gpu_family(values)
                binding = executor.bind(numbers)
                results = self._run_there(executor, binding, self._places(executor, arrays), there)
        if family is not None:
            results = [in_family(family, result) if there is None else family(result) for result in results]
        return Outputs(self._output_names, results)

    def _manifest_to_save(self, self_test: bool) -> Manifest:
        """The manifest, with a self-test if there is a GPU to record it on."""
        return super()._manifest_to_save(self_test and self._runs())

    def _runs(self) -> bool:
        """Whether a call finds the GPU that it needs."""
        try:
            self.executor  # noqa: B018  # opens it
        except Error:
            return False
        return True

    # --- inputs

    def _bind_there(
        self, values: Sequence[Any], given: Sequence[Any]
    ) -> tuple[list[Any], tuple[int, ...]]:
        """The inputs checked, tensors of the GPU or arrays of the host, and the numbers of the symbols."""
        arrays: list[Any] = []
        numbers = [0] * len(self._symbols)
        for value, tensor, binder in zip(values, given, self._binders, strict=True):
            if tensor is None:
                array, _ = binder.take(value)
            else:
                array = tensor.contiguous()
                binder.require(numpy_dtype(array, binder.spec.name), tuple(array.shape))
            for axis, index in binder.reads:
                numbers[index] = int(array.shape[axis])
            for element, index in binder.elements:
                numbers[index] = int(array.reshape(-1)[element])
            arrays.append(array)
        env = dict(zip(self._symbols, numbers, strict=True))
        for array, binder in zip(arrays, self._binders, strict=True):
            binder.check_derived(tuple(array.shape), env)
        return arrays, tuple(numbers)

    def _places(self, executor: Executor, arrays: Sequence[Any]) -> list[int]:
        """The addresses of the inputs on the GPU, where they are copied to unless they lie there."""
        return [self._place(executor, index, array) for index, array in enumerate(arrays)]

    def _place(self, executor: Executor, index: int, array: Any) -> int:
        if isinstance(array, np.ndarray):
            own = executor.memory(p.INPUT, index, array.nbytes, "an input")
            executor.machine.upload(own.address, array)
            return own.address
        address: int = array.data_ptr()
        if address % _ALIGNMENT:
            size = array.numel() * array.element_size()
            own = executor.memory(p.INPUT, index, size, "an input")
            executor.machine.copy(own.address, address, size)
            return own.address
        return address

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

        places: list[int | None] = []
        results: list[Any] = []
        for index, (shape, spec) in enumerate(zip(binding.shapes, self.outputs, strict=True)):
            if shape is None or executor.plan.outputs[index].place.kind == p.GROWN:
                places.append(None)
                results.append(None)
                continue
            results.append(torch.empty(shape, dtype=torch_dtype(spec.dtype.name), device=like.device))
            places.append(results[-1].data_ptr())
        made = executor.run(binding, inputs, places)
        for index, place in enumerate(places):
            if place is None:
                found = made[index]
                dtype = torch_dtype(from_text(found.dtype).numpy.name)
                results[index] = torch.empty(found.shape, dtype=dtype, device=like.device)
                size = results[index].numel() * results[index].element_size()
                executor.machine.copy(results[index].data_ptr(), found.address, size)
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

    def _obstacle(self) -> str | None:
        if self._open is not _cuda:
            return "the machine stands for a GPU"
        from dlc.runtime.cuda import open_device

        try:
            open_device()
        except UnsupportedError as error:
            return error.message
        return None

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
