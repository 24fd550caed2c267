"""Opening what the user names: an ONNX model, which is compiled, or a package, which is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlc
from dlc.cli.stages import is_gpu
from dlc.options import ShapeSpec

if TYPE_CHECKING:
    from dlc.verify.inputs import InputSpec


def is_package(path: Path) -> bool:
    """Whether `path` is a package by its name; everything else is taken for an ONNX model."""
    return path.suffix == ".dlc"


def open_model(
    path: Path, dims: Mapping[str, ShapeSpec], threads: int | None, options: Mapping[str, Any]
) -> dlc.CompiledModel:
    """The compiled model; `dims` and `options` matter for an ONNX model only."""
    if is_package(path):
        return dlc.load(path, threads=threads)
    require_device(options.get("target", "native"))
    return dlc.compile(path, shapes=dims, threads=threads, **options)


def require_device(target: str) -> None:
    """UnsupportedError if `target` is a GPU and this machine has none: said before a long compilation."""
    if is_gpu(target):
        from dlc.runtime.cuda import load_driver

        load_driver()


def model_inputs(
    path: Path,
    model: dlc.CompiledModel,
    dims: Mapping[str, ShapeSpec],
    inputs: Path | None,
    seed: int,
) -> dict[str, Any]:
    """The values of the .npz file `inputs`, or random ones; `dims` gives the extents of symbols.

    An optional that the file leaves out has no value.
    """
    from dlc.verify.inputs import load_inputs, random_inputs
    from dlc.verify.verification import typical_extents

    if inputs is not None:
        absent = {spec.name: None for spec in model.inputs if spec.type.startswith("optional<")}
        dtypes = {spec.name: spec.dtype for spec in model.inputs}
        return {**absent, **load_inputs(inputs, dtypes)}
    specs = _specs(path, model)
    return random_inputs(specs, seed, typical_extents(dims, {spec.name for spec in specs}))


def _specs(path: Path, model: dlc.CompiledModel) -> list[InputSpec]:

    from dlc.api.objects import type_of
    from dlc.verify.inputs import InputSpec, model_inputs as onnx_inputs, of_type
    from dlc.verify.verification import load_model

    if not is_package(path):
        return onnx_inputs(load_model(path))
    return [
        of_type(spec.name, type_of(spec.type, {}))
        if spec.type
        else InputSpec(spec.name, spec.dtype, tuple(spec.shape))
        for spec in model.inputs
    ]
