"""A compiled model: checks arrays, allocates outputs, calls native code."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.api import selftest
from dlc.api.arrays import Family, address, as_array, common_family, in_family, to_torch
from dlc.api.assemble import Artifact
from dlc.api.collect import Collector
from dlc.api.hosts import HostRunner
from dlc.api.objects import ObjectBinder, StringBinder, type_of
from dlc.api.outputs import Outputs
from dlc.api.report import Report
from dlc.api.specs import InputBinder, TensorSpec, numpy_dtype
from dlc.errors import InputError, PackageError, ResourceError, UnsupportedError, printable
from dlc.ir.dims import Symbol
from dlc.runtime.arena import require_memory
from dlc.runtime.call import Binding, CancelToken, NativeModel, PreparedCall as NativePreparedCall
from dlc.runtime.manifest import Manifest, TensorInfo
from dlc.runtime.package import package_bytes, write_package
from dlc.target.cpu import native

if TYPE_CHECKING:
    from dlc.api.gpu.build import GpuArtifact
    from dlc.api.profile import Profile

#: Most combinations of input shapes whose plans are kept.
_PLANS = 256


@dataclass(frozen=True)
class _Plan:
    """What follows from the inputs' shapes: the native binding, and shape and dtype of each output.

    Outputs that are objects have no shape, and no array until the run has made them.
    """

    binding: Binding
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]] | None, ...]

    def allocate(self) -> list[Any]:
        """Fresh arrays for the outputs."""
        return [None if output is None else np.empty(*output) for output in self.outputs]


class CompiledModel:
    """A model ready to run: `y = model(x)`. Several Python threads may call it at once."""

    def __init__(self, artifact: Artifact, *, threads: int | None = None, poison: bool = False) -> None:
        self._describe(artifact)
        manifest = artifact.manifest
        known = _symbols(manifest)
        self._plans: dict[tuple[tuple[int, ...], ...], _Plan] = {}
        self._foreign = _foreign_code(manifest)
        limits = manifest.options.get("limits")
        bound = limits.get("arena_bytes") if isinstance(limits, Mapping) else None
        hosts = artifact.hosts
        made = () if hosts is None or max(hosts.outputs, default=-1) < 0 else hosts.outputs
        grown = artifact.interface.grown
        self._collector = Collector(self.outputs, grown, known, made) if grown or made else None
        self._native = NativeModel(
            [artifact.code],
            artifact.interface,
            artifact.constants,
            threads=threads,
            arena_limit=bound if isinstance(bound, int) else None,
            host=None if hosts is None else lambda: HostRunner(hosts),
            poison=poison or manifest.options.get("debug_codegen") is True,
        )

    def _describe(self, artifact: Artifact | GpuArtifact) -> None:
        """Take over what the artifact says of the model's interface."""
        self._artifact = artifact
        manifest = artifact.manifest
        self.name = manifest.model.name
        self.inputs = tuple(map(_spec, manifest.inputs))
        self.outputs = tuple(map(_spec, manifest.outputs))
        known = _symbols(manifest)
        self._symbols = tuple(s.name for s in manifest.symbols if s.input is not None)
        sources = {
            (s.input, s.axis): i
            for i, s in enumerate(manifest.symbols)
            if s.input is not None and s.axis is not None
        }
        elements = [(s.input, s.element, i) for i, s in enumerate(manifest.symbols) if s.element is not None]
        self._binders = tuple(
            _binder(spec, known, sources, [(at, i) for name, at, i in elements if name == spec.name])
            for spec in self.inputs
        )
        #: The positions of the inputs that are no tensors of numbers.
        self._objects = tuple(index for index, spec in enumerate(self.inputs) if spec.is_object)
        self._names = tuple(spec.name for spec in self.inputs)
        self._output_names = tuple(spec.name for spec in self.outputs)
        self._derived = any(binder.derived for binder in self._binders)
        self._dtypes = tuple(None if spec.is_object else spec.dtype for spec in self.inputs)
        self._from_shapes = not elements and not self._objects

    # --- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Outputs:
        """Run the model on arrays, by position, by name or as one dictionary; returns all outputs.

        Raises InputError or ShapeError when they do not fit, IndexFault for an index in the data that is out
        of range.
        """
        if len(args) == 1 and not kwargs and type(args[0]) is not np.ndarray and isinstance(args[0], Mapping):
            return self._run(self._ordered((), args[0]))
        return self._run(self._ordered(args, kwargs))

    def run(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, Any], cancel: CancelToken | None = None
    ) -> list[Any]:
        """onnxruntime's call: the outputs named (None: all) for inputs by name.

        Another thread may stop it with ``cancel.cancel()``: it then raises CancelledError.
        """
        outputs = self._run(self._ordered((), feeds), cancel)
        return list(outputs) if output_names is None else [outputs[name] for name in output_names]

    def _ordered(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
        """The arguments in the order of the inputs."""
        if not kwargs and len(args) == len(self._names):
            return args
        if not args and len(kwargs) == len(self._names):
            try:
                return [kwargs[name] for name in self._names]
            except KeyError:
                pass  # said below
        given = dict(zip(self._names, args, strict=False))
        if len(args) > len(self._names):
            raise InputError(f"the model takes {len(self._names)} inputs, not {len(args)}", code="input/name")
        for name, value in kwargs.items():
            if name not in self._names:
                known = ", ".join(printable(n) for n in self._names)
                raise InputError(f"no input {printable(str(name))!r}; there are: {known}", code="input/name")
            if name in given:
                raise InputError(f"input {printable(name)!r} is given twice", code="input/name")
            given[name] = value
        missing = [printable(name) for name in self._names if name not in given]
        if missing:
            raise InputError(
                f"missing input{'s' * (len(missing) > 1)}: {', '.join(missing)}", code="input/name"
            )
        return [given[name] for name in self._names]

    def _bind(self, values: Sequence[Any]) -> tuple[list[Any], tuple[int, ...], Family | None]:
        """The inputs checked, the numbers of the symbols, and the library that the outputs shall be of."""
        arrays: list[Any] = []
        numbers = [0] * len(self._symbols)
        families = []
        for value, binder in zip(values, self._binders, strict=True):
            array, family = binder.take(value)
            families.append(family)
            for axis, index in binder.reads:
                numbers[index] = array.shape[axis]
            for element, index in binder.elements:
                numbers[index] = int(array.flat[element])
            arrays.append(array)
        if self._derived:
            env = dict(zip(self._symbols, numbers, strict=True))
            for array, binder in zip(arrays, self._binders, strict=True):
                if binder.derived:
                    binder.check_derived(array.shape, env)
        return arrays, tuple(numbers), common_family(families)

    def _run(self, values: Sequence[Any], cancel: CancelToken | None = None) -> Outputs:
        """Run on the inputs in their order.

        Arrays that can be passed as they are, of shapes seen before, take the short way.
        """
        shapes = []
        for value, dtype in zip(values, self._dtypes):
            if type(value) is not np.ndarray or value.dtype is not dtype or not value.flags.carray:
                return self._run_any(values, cancel)
            shapes.append(value.shape)
        plan = self._plans.get(tuple(shapes))
        if plan is None:
            return self._run_any(values, cancel)
        return Outputs(self._output_names, self._call(plan, values, cancel))

    def _run_any(self, values: Sequence[Any], cancel: CancelToken | None) -> Outputs:
        """Run on whatever can be made an array."""
        arrays, numbers, family = self._bind(values)
        results = self._call(self._plan(arrays, numbers), arrays, cancel)
        if family is not None:
            results = [in_family(family, result) for result in results]
        return Outputs(self._output_names, results)

    def _plan(self, arrays: Sequence[Any], numbers: tuple[int, ...]) -> _Plan:
        """The plan for these numbers of the symbols; kept where the shapes of `arrays` decide them."""
        if self._foreign is not None:
            raise UnsupportedError(
                self._foreign, hint="save the model and run it there", code="unsupported/target"
            )
        binding = self._native.bind(numbers)
        shapes = zip(binding.output_shapes, self.outputs, strict=True)
        outputs = tuple(None if spec.is_object else (shape, spec.dtype) for shape, spec in shapes)
        plan = _Plan(binding, outputs)
        known = [output for output in outputs if output is not None]
        require_memory(sum(math.prod(shape) * dtype.itemsize for shape, dtype in known), "the outputs")
        if self._from_shapes:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[tuple(array.shape for array in arrays)] = plan
        return plan

    def _call(self, plan: _Plan, arrays: Sequence[Any], cancel: CancelToken | None) -> list[Any]:
        try:
            results = plan.allocate()
        except MemoryError as error:
            raise ResourceError("there is not enough memory for the outputs") from error
        made = self._native.run(
            plan.binding,
            self._addresses(arrays),
            [None if r is None else address(r) for r in results],
            cancel,
            self._collector,
            [arrays[index] for index in self._objects],
        )
        for index, array in (made or {}).items():
            results[index] = array
        return results

    def _addresses(self, inputs: Sequence[Any]) -> list[int | None]:
        """Where the inputs lie in memory; None for objects."""
        if not self._objects:
            return [address(array) for array in inputs]
        return [None if i in self._objects else address(array) for i, array in enumerate(inputs)]

    def prepare(
        self,
        feeds: Mapping[str, Any],
        out: Mapping[str, Any] | None = None,
        cancel: CancelToken | None = None,
    ) -> PreparedModelCall:
        """Bind arrays once: `call = model.prepare({"x": x}); call()` runs on what the arrays hold then.

        `out` gives arrays for outputs, by name; the others are allocated. The arrays, or tensors, are used
        where they lie: they must be contiguous, and those of `out` must not overlap any other. Strings,
        sequences and optionals are what they are now. `cancel` is that of :meth:`run`, for every repetition.
        """
        pairs = [
            (value, None) if spec.is_object else as_array(spec.name, value, spec.dtype)
            for spec, value in zip(self.inputs, self._ordered((), feeds), strict=True)
        ]
        values = [value for value, _ in pairs]
        arrays, numbers, _ = self._bind(values)
        for array, value, spec in zip(arrays, values, self.inputs, strict=True):
            if array is not value and not spec.is_object:
                name = printable(spec.name)
                raise InputError(
                    f"input {name!r} must be a contiguous, aligned array in native byte order",
                    code="input/array",
                )
        out = out or {}
        unknown = sorted(set(out) - set(self._output_names))
        if unknown:
            raise InputError(f"no output {printable(unknown[0])!r}", code="input/name")
        unfit = [self._output_names[index] for index in (self._collector.outputs if self._collector else ())]
        if taken := sorted(set(out) & set(unfit)):
            raise InputError(
                f"out[{printable(taken[0])!r}]: only the run makes this output, or tells how large it is",
                hint="take it from what the call returns",
                code="input/array",
            )
        plan = self._plan(arrays, numbers)
        results = [
            fresh if spec.name not in out else _writable(spec, out[spec.name], fresh.shape)
            for spec, fresh in zip(self.outputs, plan.allocate(), strict=True)
        ]
        known = [array for index, array in enumerate(arrays) if index not in self._objects]
        for name, result in zip(self._output_names, results):
            if result is None:
                continue
            if any(np.may_share_memory(result, other) for other in known):
                raise InputError(
                    f"out[{printable(name)!r}] overlaps another array of the call", code="input/array"
                )
            known.append(result)
        call = self._native.prepare(
            plan.binding,
            self._addresses(arrays),
            [None if r is None else address(r) for r in results],
            cancel,
            [arrays[index] for index in self._objects],
        )
        is_torch = common_family(family for _, family in pairs) is to_torch
        shown = [
            out[name] if name in out else in_family(to_torch, result) if is_torch else result
            for name, result in zip(self._output_names, results)
        ]
        outputs = Outputs(self._output_names, shown)
        return PreparedModelCall(call, arrays + results, outputs, self._collector, is_torch)

    def profile(self, feeds: Mapping[str, Any], runs: int = 50, *, roof: bool = True) -> Profile:
        """Where the time of a call on `feeds` goes, launch by launch: medians over so many `runs`.

        With `roof`, also which share that is of what this machine can do, which the first profile of a
        process measures, in less than half a second. Raises what a call does; UnsupportedError for a model
        that is compiled for a GPU.
        """
        from dlc.api.profiling import profile_model

        artifact = self._artifact
        if not isinstance(artifact, Artifact):
            raise UnsupportedError(
                f"profiles are offered for CPUs, not for the target {artifact.target}",
                hint="compile the model for the CPU",
                code="unsupported/target",
            )
        prepared = self.prepare(feeds)  # which holds the arrays that its call works on
        symbols = _symbols(self.manifest)
        return profile_model(artifact, self._native, prepared._call, symbols, runs, roof)

    # --- the model itself

    @property
    def manifest(self) -> Manifest:
        """What the package says of the model, without the digests of its members."""
        return self._artifact.manifest

    @property
    def target(self) -> str:
        """The name of the target whose code this is."""
        return self._artifact.target

    def report(self) -> Report:
        """What the compiler did: phases, kernels, fusions with reasons, native share, memory."""
        return self._artifact.report

    def save(self, path: str | os.PathLike[str], *, self_test: bool = True) -> None:
        """Write the model as a package. Raises ResourceError when the file cannot be written.

        With `self_test` the model is run on small inputs, and the package tells how to make them and what
        came out, so that `dlc verify` can repeat that anywhere. A model that is closed, made for another
        machine or whose results are random gets none.
        """
        manifest = self._manifest_to_save(self_test)
        write_package(manifest, self._artifact.members, path)

    def to_bytes(self, *, self_test: bool = True) -> bytes:
        """The model as a package in memory; see :meth:`save`."""
        return package_bytes(self._manifest_to_save(self_test), self._artifact.members)

    def _manifest_to_save(self, self_test: bool) -> Manifest:
        manifest = self.manifest
        if self_test and selftest.KEY not in manifest.extra and self._obstacle() is None:
            found = selftest.record(self)
            if found is not None:
                manifest = replace(manifest, extra={**manifest.extra, selftest.KEY: found})
                self._artifact = replace(self._artifact, manifest=manifest)
        return manifest

    def _obstacle(self) -> str | None:
        """Why this machine cannot run the model, if it cannot."""
        return self._foreign

    def __reduce__(self) -> tuple[Any, ...]:
        from dlc.api.load import load

        return load, (self.to_bytes(self_test=False),)

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

    def __init__(
        self,
        call: NativePreparedCall,
        arrays: list[np.ndarray[Any, Any]],
        outputs: Outputs,
        collector: Collector | None,
        is_torch: bool,
    ) -> None:
        self._call = call
        self._arrays = arrays  # live as long as their addresses are used
        self._collector = collector
        self._is_torch = is_torch
        self.outputs = outputs

    def __call__(self) -> Outputs:
        """Run once; returns the same outputs object each time, or one with new arrays where the run decides
        shapes.
        """
        self._call()
        if self._collector is not None:
            made = self._collector(self._call.state())
            if self._is_torch:
                made = {index: in_family(to_torch, array) for index, array in made.items()}
            values = [made.get(index, value) for index, value in enumerate(self.outputs)]
            self.outputs = Outputs(self.outputs.names, values)
        return self.outputs


def _symbols(manifest: Manifest) -> dict[str, Symbol]:
    """The symbols of the interface by name."""
    return {s.name: Symbol(s.name, s.minimum, s.maximum) for s in manifest.symbols}


def _spec(info: TensorInfo) -> TensorSpec:
    return TensorSpec(info.name, numpy_dtype(info.dtype), info.shape, info.type)


def _binder(
    spec: TensorSpec,
    symbols: Mapping[str, Symbol],
    sources: Mapping[tuple[str, int], int],
    elements: Sequence[tuple[int, int]],
) -> InputBinder:
    """What checks an input."""
    if spec.type:
        return ObjectBinder(spec, type_of(spec.type, symbols))
    return (StringBinder if spec.is_object else InputBinder)(spec, symbols, sources, elements)


def _foreign_code(manifest: Manifest) -> str | None:
    """Why this machine cannot run the code of `manifest`, if it cannot."""
    machine = native()
    try:
        manifest.target_for(machine.triple, machine.features)
    except PackageError as error:
        return error.message
    return None


def _writable(spec: TensorSpec, value: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """`value` as an array over the same memory, if that can take an output."""
    name = printable(spec.name)
    has_memory = isinstance(value, np.ndarray) or hasattr(value, "__dlpack__")
    array = as_array(spec.name, value, spec.dtype, "output")[0] if has_memory else None
    if array is None or array.dtype != spec.dtype or array.shape != shape:
        raise InputError(
            f"out[{name!r}] must be a {spec.dtype} array of shape {list(shape)}", code="input/array"
        )
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise InputError(f"out[{name!r}] must be contiguous and writable", code="input/array")
    return array
