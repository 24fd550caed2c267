"""dlc.compile of a torch.nn.Module: a compiled model that is called as the module is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlc.api.arrays import to_torch
from dlc.api.assemble import Artifact
from dlc.api.compile import compile_hooked
from dlc.api.gpu.build import GpuArtifact
from dlc.api.gpu.model import GpuModel
from dlc.api.load import from_package_bytes
from dlc.api.model import CompiledModel
from dlc.errors import Error, InternalError, ShapeError, printable
from dlc.frontend.torch.modules import Structure, export_module
from dlc.options import Options


class _ModuleCalls(CompiledModel):
    """What makes a compiled model one that is called as a torch module is."""

    _structure: Structure

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What ``module(*args, **kwargs)`` returns.

        Raises InputError for arguments of another structure than the example's, or numbers other than those
        that the module was compiled for, and ShapeError for extents that are not dynamic.
        """
        values = self._structure.flatten(args, kwargs)
        try:
            outputs = list(self._run(values))
        except ShapeError as error:
            error.hint = error.hint or "extents that change are named in dlc.compile(..., dynamic_shapes=)"
            raise
        if not values:  # nothing says what the results shall be
            outputs = [to_torch(output) for output in outputs]
        return self._structure.unflatten(outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.to_bytes(self_test=False), self._structure)


class CompiledModule(_ModuleCalls):
    """A compiled torch module: takes the module's arguments and returns its results, in their structure.

    Torch tensors in give torch tensors out, and NumPy arrays give NumPy arrays. Results share no memory with
    the arguments, and carry no gradients. `run`, `prepare` and `save` work on the flat model, whose inputs
    and outputs have names; a saved model is opened as such.
    """

    def __init__(self, artifact: Artifact, *, structure: Structure, threads: int | None = None) -> None:
        super().__init__(artifact, threads=threads)
        self._structure = structure


class GpuModule(_ModuleCalls, GpuModel):
    """A torch module compiled for a GPU, called as a CompiledModule is; tensors on the GPU stay there."""

    def __init__(self, artifact: GpuArtifact, *, structure: Structure) -> None:
        super().__init__(artifact)
        self._structure = structure


def _open(
    artifact: Artifact | GpuArtifact, structure: Structure, threads: int | None = None
) -> CompiledModule | GpuModule:
    if isinstance(artifact, GpuArtifact):
        return GpuModule(artifact, structure=structure)
    return CompiledModule(artifact, threads=threads, structure=structure)


def _restore(package: bytes, structure: Structure) -> CompiledModule | GpuModule:
    return _open(from_package_bytes(package), structure)


def compile_module(
    module: Any, example_inputs: Any, dynamic_shapes: Any, options: Options, progress: Callable[[str], None]
) -> CompiledModel:
    """`module` exported by torch.onnx and compiled.

    Raises UnsupportedError for what cannot be exported, naming the operator, and what compiling raises.
    """
    progress("export")
    try:
        exported, structure = export_module(module, example_inputs, dynamic_shapes)
    except (Error, MemoryError):
        raise
    except Exception as error:
        message = f"the module cannot be exported: {type(error).__name__}: {printable(str(error))}"
        raise InternalError(message) from error

    def make(artifact: Artifact | GpuArtifact, *, threads: int | None) -> CompiledModule | GpuModule:
        return _open(artifact, structure, threads)

    with tempfile.TemporaryDirectory() as folder, exported.source(Path(folder)) as source:
        return compile_hooked(source, options, progress, make=make)
