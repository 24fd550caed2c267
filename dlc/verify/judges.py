"""The engines that decide whether an answer of dlc is right."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dlc.errors import UnsupportedError
from dlc.verify.compare import Value
from dlc.verify.engines import Engine, Float64, OnnxRuntime, Reference, Values
from dlc.verify.node_by_node import EngineFactory, NodeByNode

if TYPE_CHECKING:
    import onnx

#: The engines by name, in the order in which they are asked.
JUDGES: Mapping[str, EngineFactory] = {
    "onnxruntime": functools.partial(OnnxRuntime, threads=1),
    "reference": Reference,
}


class Judge:
    """One engine; where it cannot run the model as a whole, it runs the nodes that it can, others the rest.

    Functions of the model are inlined for it. `has_run` tells whether it has run the whole model on some
    inputs: then it refuses others for good. `as_whole` tells whether it ran the last inputs so: what checks
    its operands is not left out then. Of other runs, `substituted` are the operators of the nodes that
    another engine ran.
    """

    def __init__(self, name: str, model: onnx.ModelProto) -> None:
        self.name = name
        self._others = [JUDGES[name], *(factory for other, factory in JUDGES.items() if other != name)]
        self._model = _inlined(model)
        self._whole: Engine | None = None
        self.has_run = self.as_whole = False
        self.substituted: frozenset[str] = frozenset()
        try:
            self._whole = JUDGES[name](self._model)
        except UnsupportedError:
            return

    def run(self, values: Values) -> dict[str, Value]:
        """The outputs by name; UnsupportedError when the model cannot be run on `values`."""
        if self._whole is not None:
            try:
                outputs = self._whole.run(values)
            except UnsupportedError:
                if self.has_run:
                    raise
            else:
                self.has_run = self.as_whole = True
                self.substituted = frozenset()
                return outputs
        self.as_whole = False
        stepper = NodeByNode(self._model, self._others)
        outputs = stepper.run(values)
        self.substituted = stepper.substituted
        return outputs


def exactly(model: onnx.ModelProto, values: Values) -> dict[str, Value] | None:
    """The outputs in float64: by the reference, or its nodes by whatever runs them; None if nothing does."""
    for engine in (Reference, functools.partial(NodeByNode, engines=(Reference, JUDGES["onnxruntime"]))):
        try:
            return Float64(_inlined(model), engine).run(values)
        except UnsupportedError:
            continue
    return None


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own."""
    from onnx import inliner

    return inliner.inline_local_functions(model) if model.functions else model
