"""IOBinding: inputs and outputs bound to memory once and used by many runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.api.arrays import as_array
from dlc.api.session.values import Array, OrtValue, at_address, element_dtype, require_cpu
from dlc.errors import InputError, printable

if TYPE_CHECKING:
    from dlc.api.model import CompiledModel, PreparedModelCall
    from dlc.runtime.call import CancelToken


class IOBinding:
    """What a session's runs read and write, made by ``session.io_binding()``.

    Inputs are read where they lie at each run. An output bound to memory is written there; the others are
    allocated anew for each run. While everything is bound to memory, a run checks and allocates nothing.
    """

    def __init__(self, session: Any) -> None:
        self._model: CompiledModel = session.compiled_model
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array | None] = {}
        self._results: dict[str, Array] = {}
        self._prepared: PreparedModelCall | None = None

    # --- inputs

    def bind_cpu_input(self, name: str, arr_on_cpu: Any) -> None:
        """Read input `name` from an array."""
        spec = next((spec for spec in self._model.inputs if spec.name == name), None)
        if spec is None:
            raise InputError(f"the model has no input {printable(repr(name))}", code="input/name")
        self._prepared = None
        self._inputs[name] = as_array(name, arr_on_cpu, spec.dtype)[0]

    def bind_input(
        self,
        name: str,
        device_type: str,
        device_id: int,
        element_type: Any,
        shape: Sequence[int],
        buffer_ptr: int,
    ) -> None:
        """Read input `name` from the memory at an address, which the caller keeps."""
        require_cpu(device_type)
        self.bind_cpu_input(name, at_address(buffer_ptr, shape, element_dtype(element_type)))

    def bind_ortvalue_input(self, name: str, ortvalue: OrtValue) -> None:
        """Read input `name` from a value."""
        self.bind_cpu_input(name, ortvalue.numpy())

    def clear_binding_inputs(self) -> None:
        """Forget all inputs."""
        self._prepared = None
        self._inputs.clear()

    # --- outputs

    def bind_output(
        self,
        name: str,
        device_type: str = "cpu",
        device_id: int = 0,
        element_type: Any = None,
        shape: Sequence[int] | None = None,
        buffer_ptr: int | None = None,
    ) -> None:
        """Return output `name`, written to the memory at an address if one is given."""
        require_cpu(device_type)
        if buffer_ptr is None:
            self._bind_output(name, None)
        elif shape is None or element_type is None:
            raise InputError("memory for an output needs its shape and element type", code="input/option")
        else:
            self._bind_output(name, at_address(buffer_ptr, shape, element_dtype(element_type)))

    def bind_ortvalue_output(self, name: str, ortvalue: OrtValue) -> None:
        """Write output `name` to a value."""
        self._bind_output(name, ortvalue.numpy())

    def _bind_output(self, name: str, array: Array | None) -> None:
        if all(spec.name != name for spec in self._model.outputs):
            raise InputError(f"the model has no output {printable(repr(name))}", code="input/name")
        self._prepared = None
        self._outputs[name] = array

    def clear_binding_outputs(self) -> None:
        """Forget all outputs and the results of the last run."""
        self._prepared = None
        self._outputs.clear()
        self._results.clear()

    def get_outputs(self) -> list[OrtValue]:
        """The outputs of the last run, in the order in which they were bound."""
        return [OrtValue(self._results[name]) for name in self._outputs if name in self._results]

    def copy_outputs_to_cpu(self) -> list[Array]:
        """Copies of the outputs of the last run, in the order in which they were bound."""
        return [np.array(value.numpy()) for value in self.get_outputs()]

    # --- running

    def synchronize_inputs(self) -> None:
        """Does nothing: inputs lie in this machine's memory."""

    def synchronize_outputs(self) -> None:
        """Does nothing: a run returns when its outputs are written."""

    def run(self, cancel: CancelToken | None = None) -> None:
        """Run the model once on what is bound; the session's run_with_iobinding calls this."""
        if not self._outputs:
            raise InputError("no output is bound", hint="call bind_output", code="input/name")
        given = {name: array for name, array in self._outputs.items() if array is not None}
        if not given or cancel is not None:
            self._run_freely(given, cancel)
            return
        if self._prepared is None:
            call = self._model.prepare(self._inputs, out=given)
            if len(given) == len(self._model.outputs):
                self._prepared = call
        else:
            call = self._prepared
        results = call()
        self._results = {name: results[name] for name in self._outputs}

    def _run_freely(self, given: dict[str, Array], cancel: CancelToken | None) -> None:
        """A run with outputs of its own, copied where the binding wants them."""
        names = list(self._outputs)
        self._results = dict(zip(names, self._model.run(names, self._inputs, cancel), strict=True))
        for name, array in given.items():
            if array.shape != self._results[name].shape or array.dtype != self._results[name].dtype:
                result = self._results[name]
                raise InputError(
                    f"output {printable(repr(name))} is {result.dtype}{list(result.shape)}, "
                    f"not {array.dtype}{list(array.shape)}",
                    code="input/array",
                )
            array[...] = self._results[name]
            self._results[name] = array
