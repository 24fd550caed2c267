"""A model with inputs, and the smaller ones that can be cut out of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.errors import UnsupportedError
from dlc.verify.compare import Array
from dlc.verify.engines import Reference, Values
from dlc.verify.protos import all_nodes, read_names

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Candidate:
    """A model and the inputs on which it shows the fault. A candidate is never changed, only replaced."""

    model: onnx.ModelProto
    inputs: Mapping[str, Array]

    @property
    def nodes(self) -> Sequence[onnx.NodeProto]:
        """The nodes of the main graph, in order."""
        nodes: Sequence[onnx.NodeProto] = self.model.graph.node
        return nodes

    @property
    def size(self) -> tuple[int, int, int]:
        """Nodes of all graphs, elements of inputs and weights, outputs: what a reduction makes smaller."""
        weights = sum(int(np.prod(tensor.dims)) for tensor in self.model.graph.initializer)
        elements = weights + sum(array.size for array in self.inputs.values())
        return sum(1 for _ in all_nodes(self.model.graph)), elements, len(self.model.graph.output)

    def copy(self) -> onnx.ModelProto:
        """A model to change."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        return model

    def values(self) -> dict[str, Array]:
        """The tensors that the main graph computes on the inputs, by name; empty where no engine can say."""
        found: Mapping[str, Any]
        try:
            found = Reference(self.model).intermediates(self.inputs)
        except UnsupportedError:
            found = _values_by_onnxruntime(self.model, self.inputs)
        return {name: np.asarray(value) for name, value in found.items() if isinstance(value, np.ndarray)}

    def trimmed(self) -> Candidate:
        """Without inputs and weights that nothing reads."""
        read = {name for node in self.nodes for name in read_names(node)}
        read |= {info.name for info in self.model.graph.output}
        model = self.copy()
        for held in (model.graph.input, model.graph.initializer):
            used = [entry for entry in held if entry.name in read]
            del held[:]
            held.extend(used)
        return Candidate(model, {name: array for name, array in self.inputs.items() if name in read})

    def cut(
        self, keep: Collection[int], values: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> Candidate | None:
        """The model of the nodes numbered in `keep`; what they read of others becomes an input.

        `values` says what that is. Its outputs are `outputs`, or what no kept node reads and the model's own.
        None when something needed has no known value, or nothing is left.
        """
        from onnx import helper

        nodes = [node for number, node in enumerate(self.nodes) if number in keep]
        made = {name for node in nodes for name in node.output if name}
        read = {name for node in nodes for name in read_names(node)}
        if outputs is None:
            own = [info.name for info in self.model.graph.output if info.name in made]
            sinks = [name for node in nodes for name in node.output if name and name not in read]
            outputs = list(dict.fromkeys([*own, *sinks]))
        needed = read - made
        held = {t.name for t in self.model.graph.initializer}
        inputs = {name: self.inputs.get(name, values.get(name)) for name in sorted(needed - held)}
        known = {name: array for name, array in inputs.items() if array is not None}
        results = {name: values[name] for name in outputs if name in values}
        if not nodes or not results or len(known) < len(inputs) or len(results) < len(outputs):
            return None
        declared = {info.name: info for info in self.model.graph.input}
        model = self.copy()
        graph = model.graph
        for kept in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
            del kept[:]
        graph.node.extend(nodes)
        graph.initializer.extend(t for t in self.model.graph.initializer if t.name in needed)
        for name, array in known.items():
            info = declared.get(name)
            graph.input.append(info if info is not None else _info(name, array))
        for name, array in results.items():
            info = helper.make_tensor_value_info(name, _number(array), [None] * array.ndim)
            graph.output.append(info)
        return Candidate(model, known)


def _values_by_onnxruntime(model: onnx.ModelProto, inputs: Values) -> Mapping[str, Any]:
    """All values of the main graph, made outputs of a copy."""
    import onnx

    from dlc.verify.engines import OnnxRuntime

    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    own = {info.name for info in wide.graph.output}
    names = [name for node in wide.graph.node for name in node.output if name and name not in own]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        return {**inputs, **OnnxRuntime(wide, threads=1).run(inputs)}
    except UnsupportedError:
        return {}


def _info(name: str, array: Array) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, _number(array), array.shape)


def _number(array: Array) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(array.dtype))
