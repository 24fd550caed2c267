"""Steps of a reduction: each proposes smaller or simpler variants of a candidate, the boldest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.verify.compare import Array
from dlc.verify.protos import all_graphs, read_names
from dlc.verify.reduction.candidate import Candidate

if TYPE_CHECKING:
    import onnx

#: Extents that are tried in the place of a larger one.
_EXTENTS = (1, 2, 3, 4, 8, 16)


def tidy(candidate: Candidate) -> Iterator[Candidate]:
    """Without functions, then with the extents of the inputs as numbers and weights instead of Constants."""
    from onnx import inliner

    if candidate.model.functions:
        yield Candidate(inliner.inline_local_functions(candidate.model), candidate.inputs)
    model = candidate.copy()
    for info in model.graph.input:
        for dim, extent in zip(info.type.tensor_type.shape.dim, candidate.inputs[info.name].shape):
            dim.dim_value = extent
    if model != candidate.model:
        yield Candidate(model, candidate.inputs)
    model = candidate.copy()
    constants = [node for node in model.graph.node if node.op_type == "Constant" and _is_tensor(node)]
    for node in constants:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        model.graph.node.remove(node)
    if constants:
        yield Candidate(model, candidate.inputs)


def _is_tensor(node: onnx.NodeProto) -> bool:
    return len(node.attribute) == 1 and node.attribute[0].name == "value"


def fewer_outputs(candidate: Candidate) -> Iterator[Candidate]:
    """One output alone."""
    names = [info.name for info in candidate.model.graph.output]
    if len(names) > 1:
        values = candidate.values()
        for name in names:
            found = candidate.cut(_ancestors(candidate, name), values, [name])
            if found is not None:
                yield found


def _ancestors(candidate: Candidate, name: str) -> set[int]:
    """The nodes that an output depends on."""
    wanted, kept = {name}, set()
    for number in reversed(range(len(candidate.nodes))):
        node = candidate.nodes[number]
        if wanted & set(node.output):
            kept.add(number)
            wanted |= read_names(node)
    return kept


def bypass(candidate: Candidate) -> Iterator[Candidate]:
    """Without one node, whose readers get one of its operands; in subgraphs, too."""
    values = candidate.values()
    for depth, graph in enumerate(all_graphs(candidate.model.graph)):
        for number, node in enumerate(graph.node):
            for operand in dict.fromkeys(name for name in node.input if name):
                out = values.get(node.output[0])
                into = values.get(operand, candidate.inputs.get(operand))
                known = out is not None and into is not None
                if known and out is not None and into is not None and _kind(out) != _kind(into):
                    continue
                if not known and depth == 0:
                    continue
                yield _without(candidate, depth, number, operand)


def _kind(array: Array) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return array.shape, array.dtype


def _without(candidate: Candidate, depth: int, number: int, operand: str) -> Candidate:
    """Without node `number` of the graph `depth`, and `operand` in the place of its first output."""
    model = candidate.copy()
    graph = list(all_graphs(model.graph))[depth]
    name = graph.node[number].output[0]
    if any(info.name == name for info in graph.output):  # an output must be made by a node
        graph.node[number].op_type, graph.node[number].domain = "Identity", ""
        del graph.node[number].input[:], graph.node[number].output[1:], graph.node[number].attribute[:]
        graph.node[number].input.append(operand)
        return Candidate(model, candidate.inputs)
    del graph.node[number]
    for inner in all_graphs(model.graph):
        for node in inner.node:
            for place, read in enumerate(node.input):
                if read == name:
                    node.input[place] = operand
    return Candidate(model, candidate.inputs)


def fewer_attributes(candidate: Candidate) -> Iterator[Candidate]:
    """Without one attribute, where its default may do; without a last operand, which may be optional."""
    for number, node in enumerate(candidate.nodes):
        for place in range(len(node.attribute)):
            model = candidate.copy()
            del model.graph.node[number].attribute[place]
            yield Candidate(model, candidate.inputs)
        if len(node.input) > 1:
            model = candidate.copy()
            del model.graph.node[number].input[-1]
            yield Candidate(model, candidate.inputs)


def smaller_extents(candidate: Candidate) -> Iterator[Candidate]:
    """With one extent smaller wherever it occurs: in inputs, in weights, and in what may be shapes."""
    arrays = {**_weights(candidate), **candidate.inputs}
    extents = {extent for array in arrays.values() for extent in array.shape if extent > 1}
    for extent in sorted(extents, reverse=True):
        for smaller in _EXTENTS:
            if smaller < extent:
                yield _with(candidate, {n: _shrunk(a, extent, smaller) for n, a in arrays.items()})


def _shrunk(array: Array, extent: int, smaller: int) -> Array:
    """`array` with each axis of `extent` cut to `smaller`; elements of shapes equal to `extent` too."""
    cut = array[tuple(slice(0, smaller if e == extent else e) for e in array.shape)]
    if cut.dtype == np.int64 and cut.size <= 8:
        cut = np.where(cut == extent, smaller, cut)
    return np.ascontiguousarray(cut).reshape(cut.shape)


def simpler_numbers(candidate: Candidate) -> Iterator[Candidate]:
    """With one input or weight of zeros or else ones or else integers."""
    for name, array in {**_weights(candidate), **candidate.inputs}.items():
        if array.dtype.kind != "f":
            continue
        for simple in (np.zeros_like(array), np.ones_like(array), np.round(array)):
            if np.array_equal(simple, array):
                break
            yield _with(candidate, {name: simple})


def _weights(candidate: Candidate) -> dict[str, Array]:
    from onnx import TensorProto, numpy_helper

    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in candidate.model.graph.initializer
        if tensor.data_location != TensorProto.EXTERNAL
    }


def _with(candidate: Candidate, arrays: dict[str, Array]) -> Candidate:
    """With other arrays for some inputs and weights; declared shapes follow."""
    from onnx import numpy_helper

    model = candidate.copy()
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    for info in model.graph.input:
        if info.name in arrays:
            for dim, extent in zip(info.type.tensor_type.shape.dim, arrays[info.name].shape):
                if dim.HasField("dim_value"):
                    dim.dim_value = extent
    for info in model.graph.output:
        for dim in info.type.tensor_type.shape.dim:
            dim.Clear()
    del model.graph.value_info[:]
    return Candidate(model, {name: arrays.get(name, array) for name, array in candidate.inputs.items()})
