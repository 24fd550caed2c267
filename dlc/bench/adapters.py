"""The engines as the worker process drives them: load a model, then call it with named arrays.

An adapter is a function (model file, threads, options) -> Loaded, named as the Python module that it
drives. It runs in a process of its own, so it may set process-wide state and import what it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dlc.bench.arrays import Array
from dlc.errors import InputError, UnsupportedError, printable

Inputs: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True)
class Loaded:
    """A model ready to run. `prepare` takes the inputs once and returns the call that is timed.

    The call goes the way that a user's does: named arrays in, fresh arrays out, in the order of `outputs`.
    """

    version: str
    outputs: tuple[str, ...]
    prepare: Callable[[Inputs], Callable[[], Any]]


Adapter: TypeAlias = Callable[[Path, int, Mapping[str, Any]], Loaded]


def load_dlc(model: Path, threads: int, options: Mapping[str, Any]) -> Loaded:
    """dlc: compiles an ONNX file without the compile cache, or loads a package."""
    import dlc

    if model.suffix == ".dlc":
        compiled = dlc.load(model, threads=threads)
    else:
        compiled = dlc.compile(model, threads=threads, **{"cache": False, **options})
    names = tuple(spec.name for spec in compiled.outputs)

    def prepare(inputs: Inputs) -> Callable[[], Any]:
        values = dict(inputs)
        return lambda: compiled(values)

    return Loaded(dlc.__version__, names, prepare)


def load_onnxruntime(model: Path, threads: int, options: Mapping[str, Any]) -> Loaded:
    """onnxruntime's CPU provider with its default optimizations."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def prepare(inputs: Inputs) -> Callable[[], Any]:
        values = dict(inputs)
        return lambda: session.run(names, values)

    return Loaded(onnxruntime.__version__, tuple(names), prepare)


def load_openvino(model: Path, threads: int, options: Mapping[str, Any]) -> Loaded:
    """OpenVINO's CPU plug-in for latency, computing float32 models in float32."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(model)), "CPU", settings)
    request = compiled.create_infer_request()

    def prepare(inputs: Inputs) -> Callable[[], Any]:
        values = dict(inputs)

        def call() -> list[Any]:
            results = request.infer(values)
            return [results[output] for output in compiled.outputs]

        return call

    return Loaded(openvino.__version__, tuple(output.get_any_name() for output in compiled.outputs), prepare)


def load_torch(model: Path, threads: int, options: Mapping[str, Any]) -> Loaded:
    """torch.compile on the exported program `MODEL.pt2` next to the ONNX file (from torch.export.save)."""
    import onnx
    import torch

    program = model.with_suffix(".pt2")
    if not program.is_file():
        raise UnsupportedError(
            f"there is no {program.name} next to the model",
            hint="write it with torch.export.save; its inputs are called in the order of the ONNX model's",
        )
    torch.set_num_threads(threads)
    graph = onnx.load(model, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    order = [info.name for info in graph.input if info.name not in weights]
    module = torch.compile(torch.export.load(program).module())

    def prepare(inputs: Inputs) -> Callable[[], Any]:
        values = [torch.from_numpy(inputs[name]) for name in order]

        def call() -> list[Any]:
            with torch.inference_mode():
                results = module(*values)
            several = isinstance(results, tuple | list)
            return [result.numpy() for result in (results if several else [results])]

        return call

    return Loaded(torch.__version__, tuple(info.name for info in graph.output), prepare)


ADAPTERS: Mapping[str, Adapter] = {
    "dlc": load_dlc,
    "onnxruntime": load_onnxruntime,
    "openvino": load_openvino,
    "torch": load_torch,
}


def adapter(name: str) -> Adapter:
    """The adapter called `name`; raises InputError for an unknown one."""
    found = ADAPTERS.get(name)
    if found is None:
        hint = "one of " + ", ".join(ADAPTERS)
        raise InputError(f"unknown engine '{printable(name)}'", hint=hint, code="input/option")
    return found
