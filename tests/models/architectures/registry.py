"""The list of architectures, and how each becomes an ONNX file."""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import onnx
import torch
from torch import nn

from tests.helpers.drafts import weights
from tests.helpers.fetch import cache_folder, write_atomically
from tests.helpers.model_zoo import Model
from tests.helpers.recipes import Input, Recipe, make_inputs

Dims: TypeAlias = "tuple[int | str, ...]"

NORMAL: Recipe = {"kind": "normal"}


@dataclass(frozen=True)
class Operand:
    """An input of an architecture: name, dims (numbers or symbols), recipe of its values, dtype."""

    name: str
    dims: Dims
    recipe: Recipe = field(default_factory=lambda: NORMAL)
    dtype: str = "float32"

    def shape(self, binding: Mapping[str, int]) -> tuple[int, ...]:
        """Its shape where symbols have the numbers of `binding`."""
        return tuple(binding[dim] if isinstance(dim, str) else dim for dim in self.dims)


@dataclass(frozen=True)
class Architecture:
    """A model that the tests build: `build` gives a torch module to export, or the ONNX model itself."""

    name: str
    build: Callable[[], nn.Module | onnx.ModelProto]
    operands: tuple[Operand, ...]
    outputs: tuple[str, ...]
    bindings: tuple[Mapping[str, int], ...]
    exporter: str
    opset: int
    touchy: bool

    @property
    def model(self) -> Model:
        """The model as tests use it."""
        return Model(
            self.name,
            functools.partial(self._file),
            tuple(Input(operand.name, operand.dtype, operand.recipe) for operand in self.operands),
            tuple({o.name: o.shape(binding) for o in self.operands} for binding in self.bindings),
            touchy=self.touchy,
        )

    def _file(self) -> Path:
        """The ONNX file, made at the first use."""
        path = cache_folder() / "architectures" / _digest() / f"{self.name}.onnx"
        if not path.exists():
            write_atomically(path, self._onnx().SerializeToString())
        return path

    def _onnx(self) -> onnx.ModelProto:
        built = self.build()
        if isinstance(built, onnx.ModelProto):
            onnx.checker.check_model(built)
            return built
        fill(built)
        return without_traces(self._exported(built.eval()))

    def _exported(self, module: nn.Module) -> onnx.ModelProto:
        shapes = {operand.name: operand.shape(self.bindings[0]) for operand in self.operands}
        inputs = [Input(o.name, o.dtype, o.recipe) for o in self.operands]
        arguments = tuple(torch.from_numpy(array) for array in make_inputs(inputs, shapes).values())
        dynamic = {
            o.name: {axis: dim for axis, dim in enumerate(o.dims) if isinstance(dim, str)}
            for o in self.operands
        }
        names = {"input_names": [o.name for o in self.operands], "output_names": list(self.outputs)}
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            if self.exporter == "legacy":
                file = BytesIO()
                torch.onnx.export(
                    module,
                    arguments,
                    file,
                    dynamo=False,
                    opset_version=self.opset,
                    dynamic_axes=dynamic,
                    **names,
                )
                return onnx.load_from_string(file.getvalue())
            program = torch.onnx.export(
                module,
                arguments,
                dynamo=True,
                opset_version=self.opset,
                verbose=False,
                dynamic_shapes=tuple(dynamic[o.name] for o in self.operands),
                **names,
            )
            assert program is not None
            proto: onnx.ModelProto = program.model_proto
            return proto


#: All architectures by name, in the order of their definition.
ARCHITECTURES: dict[str, Architecture] = {}


def architecture(
    operands: Sequence[Operand],
    bindings: Sequence[Mapping[str, int]],
    *,
    outputs: Sequence[str] = ("y",),
    exporter: str = "legacy",
    opset: int = 17,
    touchy: bool = False,
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Register the decorated builder under its name; the module is traced with inputs of the first binding.

    `exporter` is "legacy" or "dynamo", or "none" for builders of ONNX models.
    """

    def register(build: Callable[[], Any]) -> Callable[[], Any]:
        ARCHITECTURES[build.__name__] = Architecture(
            build.__name__, build, tuple(operands), tuple(outputs), tuple(bindings), exporter, opset, touchy
        )
        return build

    return register


def fill(module: nn.Module) -> None:
    """Give each parameter and running statistic values that keep activations near unit variance."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    for name, tensor in tensors:
        if not tensor.is_floating_point() or name.rpartition(".")[2].startswith("fixed_"):
            continue
        values = weights(name, tuple(tensor.shape))
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(values))


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without stack traces and other notes of the exporter, which tell of the machine."""
    for part in (
        *model.graph.node,
        model.graph,
        model,
        *model.graph.value_info,
        *(node for function in model.functions for node in function.node),
    ):
        part.doc_string = ""
        del part.metadata_props[:]
    return model


@functools.cache
def _digest() -> str:
    """What the exported files depend on: the source of the architectures and the exporter's version."""
    digest = hashlib.sha256(f"{torch.__version__} {onnx.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
