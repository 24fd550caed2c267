"""dlc as an ONNX backend: `onnx.backend.base.Backend`, as the public backend tests and the scoreboard use it.

`import dlc; dlc.backend.prepare(model).run([x])`. Options of `dlc.compile` are taken as keyword arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, ValueInfoProto, defs, helper
from onnx.backend.base import Backend, BackendRep

from dlc.errors import Error, InputError, UnsupportedError, printable

if TYPE_CHECKING:
    from dlc.api.model import CompiledModel


class DlcBackendRep(BackendRep):
    """A compiled model; `run` takes its inputs in order, or by name, and returns all outputs."""

    def __init__(self, model: CompiledModel) -> None:
        self.model = model

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs for a sequence of arrays, a mapping by input name, or the array of a single input."""
        if isinstance(inputs, Mapping):
            return tuple(self.model(dict(inputs)))
        if isinstance(inputs, Sequence):
            return tuple(self.model(*inputs))
        return tuple(self.model(inputs))


class DlcBackend(Backend):
    """The backend: all methods are class methods."""

    @classmethod
    def is_compatible(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether dlc compiles `model` for `device`."""
        from dlc.api import check

        try:
            return cls.supports_device(device) and not check(model).findings
        except Error:
            return False

    @classmethod
    def prepare(cls, model: ModelProto, device: str = "CPU", **kwargs: Any) -> DlcBackendRep:
        """Compile a model; `kwargs` are options of `dlc.compile`. Raises what `dlc.compile` raises."""
        from dlc.api import compile

        cls._require(device)
        return DlcBackendRep(compile(model, **kwargs))

    @classmethod
    def run_model(cls, model: ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Compile a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node on arrays for the inputs that it names; `opset_version` is that of its domain.

        `inputs` is a sequence in the node's order, without entries for absent inputs, or a mapping.
        """
        names = list(dict.fromkeys(name for name in node.input if name))
        opset = kwargs.pop("opset_version", None)
        if isinstance(inputs, np.ndarray):
            inputs = [inputs]
        arrays = dict(inputs) if isinstance(inputs, Mapping) else dict(zip(names, inputs, strict=False))
        missing = [name for name in names if name not in arrays]
        if missing:
            raise InputError(f"no array is given for '{printable(missing[0])}'", code="input/name")
        feeds = {name: np.asarray(arrays[name]) for name in names}
        return cls.run_model(_model_of_node(node, feeds, opset), feeds, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models can be compiled for `device`: the CPU."""
        return device.partition(":")[0].upper() == "CPU"

    @classmethod
    def _require(cls, device: str) -> None:
        if not cls.supports_device(device):
            raise UnsupportedError(
                f"the backend does not compile for '{printable(device)}'",
                hint="use device='CPU'",
                code="unsupported/target",
            )


def _model_of_node(
    node: NodeProto, feeds: Mapping[str, np.ndarray[Any, Any]], opset: int | None
) -> ModelProto:
    """A model of one node whose inputs have the types and shapes of `feeds`."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, outputs)
    versions = {"": defs.onnx_opset_version(), "ai.onnx.ml": defs.onnx_ml_opset_version()}
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = opset if opset is not None else versions.get(domain, 1)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, version)])


is_compatible = DlcBackend.is_compatible
prepare = DlcBackend.prepare
run = DlcBackend.run_model
run_model = DlcBackend.run_model
run_node = DlcBackend.run_node
supports_device = DlcBackend.supports_device
