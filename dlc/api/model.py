"""A compiled model: checks arrays, allocates outputs, calls native code."""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlc.api.assemble import Artifact
from dlc.api.hosts import HostRunner
from dlc.api.outputs import Outputs
from dlc.api.report import Report
from dlc.api.specs import InputBinder, TensorSpec, as_array, numpy_dtype, to_torch
from dlc.errors import InputError, UnsupportedError, printable
from dlc.ir.dims import Symbol
from dlc.runtime.call import CancelToken, NativeModel, PreparedCall as NativePreparedCall
from dlc.runtime.package import write_package


class CompiledModel:
    """A model ready to run: `y = model(x)`. Several Python threads may call it at once."""

    def __init__(self, artifact: Artifact, *, threads: int | None = None, poison: bool = False) -> None:
        self._artifact = artifact
        manifest = artifact.manifest
        self.name = manifest.model.name
        self.inputs = tuple(TensorSpec(t.name, numpy_dtype(t.dtype), t.shape) for t in manifest.inputs)
        self.outputs = tuple(TensorSpec(t.name, numpy_dtype(t.dtype), t.shape) for t in manifest.outputs)
        known = {s.name: Symbol(s.name, s.minimum, s.maximum) for s in manifest.symbols}
        self._symbols = tuple(s.name for s in manifest.symbols if s.input is not None)
        sources = {(s.input, s.axis): i for i, s in enumerate(manifest.symbols)
                   if s.input is not None and s.axis is not None}
        elements = [(s.input, s.element, i) for i, s in enumerate(manifest.symbols) if s.element is not None]
        self._binders = tuple(
            InputBinder(spec, known, sources, [(at, i) for name, at, i in elements if name == spec.name])
            for spec in self.inputs)
        self._names = tuple(spec.name for spec in self.inputs)
        self._output_names = tuple(spec.name for spec in self.outputs)
        self._derived = any(binder.derived for binder in self._binders)
        host = HostRunner(artifact) if artifact.hosts else None
        self._native = NativeModel([artifact.code], artifact.interface, artifact.constants, threads=threads,
                                   arena_limit=None, host=host, poison=poison)

    # --- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Outputs:
        """Run the model on arrays, by position, by name or as one dictionary; returns all outputs.

        Raises InputError or ShapeError when they do not fit, IndexFault for an index in the data out of range.
        """
        if len(args) == 1 and isinstance(args[0], Mapping) and not kwargs:
            kwargs, args = dict(args[0]), ()
        return self._run(self._ordered(args, kwargs))

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Any],
            cancel: CancelToken | None = None) -> list[Any]:
        """onnxruntime's call: the outputs named (None: all) for inputs by name."""
        outputs = self._run(self._ordered((), feeds), cancel)
        return list(outputs) if output_names is None else [outputs[name] for name in output_names]

    def _ordered(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The arguments in the order of the inputs."""
        if not kwargs and len(args) == len(self._names):
            return list(args)
        given = dict(zip(self._names, args, strict=False))
        if len(args) > len(self._names):
            raise InputError(f"the model takes {len(self._names)} inputs, not {len(args)}", code="input/name")
        for name, value in kwargs.items():
            if name not in self._names:
                known = ", ".join(printable(n) for n in self._names)
                raise InputError(f"no input {printable(name)!r}; there are: {known}", code="input/name")
            if name in given:
                raise InputError(f"input {printable(name)!r} is given twice", code="input/name")
            given[name] = value
        missing = [printable(name) for name in self._names if name not in given]
        if missing:
            raise InputError(f"missing input{'s' * (len(missing) > 1)}: {', '.join(missing)}", code="input/name")
        return [given[name] for name in self._names]

    def _bind(self, values: Sequence[Any]) -> tuple[list[np.ndarray[Any, Any]], tuple[int, ...], bool]:
        """The arrays checked, the numbers of the symbols, and whether torch tensors were given."""
        arrays: list[np.ndarray[Any, Any]] = []
        numbers = [0] * len(self._symbols)
        torch = False
        for value, binder in zip(values, self._binders, strict=True):
            if type(value) is not np.ndarray:
                value, is_torch = as_array(binder.spec.name, value)
                torch |= is_torch
            array = binder.check(value)
            shape = array.shape
            for axis, index in binder.reads:
                numbers[index] = shape[axis]
            for element, index in binder.elements:
                numbers[index] = int(array.flat[element])
            arrays.append(array)
        if self._derived:
            env = dict(zip(self._symbols, numbers, strict=True))
            for array, binder in zip(arrays, self._binders, strict=True):
                binder.check_derived(array.shape, env)
        return arrays, tuple(numbers), torch

    def _run(self, values: Sequence[Any], cancel: CancelToken | None = None) -> Outputs:
        arrays, numbers, torch = self._bind(values)
        binding = self._native.bind(numbers)
        results = [np.empty(shape, spec.dtype) for shape, spec in zip(binding.output_shapes, self.outputs, strict=True)]
        self._native.run(binding, [a.ctypes.data for a in arrays], [r.ctypes.data for r in results], cancel)
        return Outputs(self._output_names, [to_torch(r) for r in results] if torch else results)

    def prepare(self, feeds: Mapping[str, Any], out: Mapping[str, Any] | None = None) -> PreparedModelCall:
        """Bind arrays once: `call = model.prepare({"x": x}); call()` runs on what the arrays hold then.

        `out` gives arrays for outputs, by name; the others are allocated. Input arrays must be contiguous.
        """
        values = self._ordered((), feeds)
        arrays, numbers, _ = self._bind(values)
        for array, value, spec in zip(arrays, values, self.inputs, strict=True):
            if isinstance(value, np.ndarray) and array is not value:
                raise InputError(f"input {printable(spec.name)!r} must be a contiguous array in native byte order",
                                 code="input/array")
        binding = self._native.bind(numbers)
        results = []
        for shape, spec in zip(binding.output_shapes, self.outputs, strict=True):
            given = (out or {}).get(spec.name)
            results.append(np.empty(shape, spec.dtype) if given is None else _writable(spec, given, shape))
        unknown = set(out or {}) - set(self._output_names)
        if unknown:
            raise InputError(f"no output {printable(sorted(unknown)[0])!r}", code="input/name")
        call = self._native.prepare(binding, [a.ctypes.data for a in arrays], [r.ctypes.data for r in results])
        return PreparedModelCall(call, arrays, Outputs(self._output_names, results))

    # --- the model itself

    def report(self) -> Report:
        """What the compiler did: phases, kernels, fusions with reasons, native share, memory."""
        return self._artifact.report

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a package. Raises ResourceError when the file cannot be written."""
        self._require_no_hosts()
        write_package(self._artifact.manifest, self._artifact.members, path)

    def to_bytes(self) -> bytes:
        """The model as a package in memory."""
        self._require_no_hosts()
        return self._artifact.to_bytes()

    def _require_no_hosts(self) -> None:
        if self._artifact.hosts:
            nodes = ", ".join(printable(", ".join(h.node.origin)) for h in self._artifact.hosts.values())
            raise UnsupportedError(f"a model with host steps cannot be saved ({nodes})",
                                   hint="dlc check lists the operators without native kernels")

    def __reduce__(self) -> tuple[Any, ...]:
        from dlc.api.load import load
        return load, (self.to_bytes(),)

    def close(self) -> None:
        """Unload the code; the model cannot be called afterwards."""
        self._native.close()

    def __enter__(self) -> CompiledModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self.inputs))
        outputs = ", ".join(map(str, self.outputs))
        return f"<CompiledModel {printable(self.name)!r}: ({inputs}) -> ({outputs})>"


class PreparedModelCall:
    """A call with everything bound: no checks, no allocation. Its `outputs` are overwritten by each call."""

    def __init__(self, call: NativePreparedCall, arrays: list[np.ndarray[Any, Any]], outputs: Outputs) -> None:
        self._call = call
        self._arrays = arrays
        self.outputs = outputs

    def __call__(self) -> Outputs:
        """Run once; returns the same outputs object each time."""
        self._call()
        return self.outputs


def _writable(spec: TensorSpec, array: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """`array` if it can take an output."""
    name = printable(spec.name)
    if not isinstance(array, np.ndarray) or array.dtype != spec.dtype or array.shape != shape:
        raise InputError(f"out[{name!r}] must be a {spec.dtype} array of shape {list(shape)}", code="input/array")
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise InputError(f"out[{name!r}] must be contiguous and writable", code="input/array")
    return array
