"""Random valid graphs: a seed and a number give a model, inputs, and inputs of other sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc.fuzz.case import Array, Case
from dlc.fuzz.evaluate import ir_version
from dlc.fuzz.functions import put_in_function
from dlc.fuzz.maker import RUN_TIME, Declined, Maker, Tensor
from dlc.fuzz.sampling import Chance
from dlc.fuzz.table import entries_of

if TYPE_CHECKING:
    import onnx

#: Opsets of the graphs: those that onnxruntime runs.
OLDEST, NEWEST = 7, 26

#: Operators of which engines differ on special values: most multiply by weights, and each leaves out other
#: products of 0 and infinity; in MaxPool, NaN wins here and loses elsewhere (docs/semantics.md).
_NOT_SALTED = frozenset(
    "AffineGrid Attention AveragePool Col2Im Conv ConvTranspose DeformConv Det Einsum GRU Gemm GridSample "
    "LRN LSTM MatMul MaxPool RNN Resize RoiAlign RotaryEmbedding Upsample".split()
)

#: How many uses of operators a graph has at most.
MOST_USES = 12


def generate(seed: int, index: int) -> Case:
    """Case number `index` of a seed."""
    chance = Chance(seed, index)
    while True:
        newest = chance.maybe(0.4)
        maker = Maker(chance, chance.between(17, NEWEST) if newest else chance.between(OLDEST, NEWEST))
        for _ in range(chance.between(1, MOST_USES)):
            add_random_node(maker)
        if any(node.op_type != "Constant" for node in maker.nodes):
            return case_of(maker)


def add_random_node(maker: Maker) -> None:
    """One use of a random operator, if any of several draws fits."""
    entries = entries_of(maker.opset)
    weights = [entry.weight for entry in entries]
    for entry in maker.chance.random.choices(entries, weights, k=10):
        mark = _Mark(maker)
        try:
            entry.use(maker, entry.operator)
            return
        except Declined:
            mark.restore()


class _Mark:
    """What a graph was before a use, to take back what a declined one left behind."""

    def __init__(self, maker: Maker) -> None:
        self._lists: list[list[Any]] = [maker.nodes, maker.inputs, maker.constants, maker.computed]
        self._lengths = [len(items) for items in self._lists]
        self._sets: list[tuple[set[str], set[str]]] = []
        around: Maker | None = maker
        while around is not None:
            self._sets.append((around.used, set(around.used)))
            around = around.outer

    def restore(self) -> None:
        """Take everything back."""
        for items, length in zip(self._lists, self._lengths):
            del items[length:]
        for current, before in self._sets:
            current.intersection_update(before)


def case_of(maker: Maker) -> Case:
    """The graph that `maker` holds, with inputs for it."""
    from onnx import helper, numpy_helper

    chance = maker.chance
    names = {name for node in maker.nodes if node.op_type != "Constant" for name in node.output}
    computed = [tensor for tensor in maker.computed if tensor.name in names]
    outputs = [tensor for tensor in computed if tensor.name not in maker.used or chance.maybe(0.1)]
    inputs = [tensor for tensor in maker.inputs if tensor.name in maker.used or chance.maybe(0.05)]
    constants = [tensor for tensor in maker.constants if tensor.name in maker.used]
    if chance.maybe(0.03) and inputs + constants:
        outputs.append(chance.one_of(inputs + constants))  # untouched
    defaults = constants if chance.maybe(0.04) else []  # of inputs that a call may leave out
    dims = _Dims(chance) if chance.maybe(0.5) else None
    open_ = dims is not None or chance.maybe(0.5)
    graph = helper.make_graph(
        maker.nodes,
        "fuzz",
        [_info(tensor, dims.of(tensor) if dims else tensor.shape) for tensor in inputs]
        + [_info(tensor, tensor.shape) for tensor in defaults],
        [_info(tensor, [None] * tensor.rank if open_ else tensor.shape) for tensor in outputs],
        [numpy_helper.from_array(tensor.array, tensor.name) for tensor in constants],
    )
    opsets = [helper.make_opsetid("", maker.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version(maker.opset))
    if chance.maybe(0.1):
        put_in_function(chance, model)
    values = {tensor.name: tensor.array for tensor in inputs}
    others = [_others(chance, model, values) for _ in range(2)] if dims and inputs else []
    if chance.maybe(0.3) and not any(node.op_type in _NOT_SALTED for node in maker.nodes):
        others.append({name: chance.salted(array) for name, array in values.items()})
    return Case(model, values, tuple(others), _options(chance))


def _options(chance: Chance) -> dict[str, Any]:
    """Options of the compilation."""
    options: dict[str, Any] = {
        "optimize": chance.one_of([0, 1, 2, 2, 2, 3]),
        "threads": chance.one_of([1, 1, 2]),
    }
    if chance.maybe(0.2):
        options["target"] = "x86-64-v3"  # narrower vectors and fewer registers than most machines have
    return options


def _info(tensor: Tensor, shape: Any) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(
        tensor.name, helper.np_dtype_to_tensor_dtype(tensor.dtype), list(shape)
    )


class _Dims:
    """Names for extents: some stay numbers, some share a name, some get one of their own, some none."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._names: dict[int, str] = {}
        self._count = 0

    def of(self, tensor: Tensor) -> list[int | str | None]:
        """What stands for the extents of an input."""
        return list(tensor.shape) if tensor.name.startswith(RUN_TIME) else list(map(self._name, tensor.shape))

    def _name(self, extent: int) -> int | str | None:
        """What stands for an axis of `extent`."""
        kind = self._chance.random.random()
        if kind < 0.35:
            return extent
        if kind < 0.45:
            return None
        if kind < 0.75:
            return self._names.setdefault(extent, f"n{extent}")
        self._count += 1
        return f"d{self._count}"


def _others(chance: Chance, model: onnx.ModelProto, values: Mapping[str, Array]) -> dict[str, Array]:
    """Inputs with other extents for one or all of the symbolic dims, and other elements of floats."""
    shapes = {info.name: list(info.type.tensor_type.shape.dim) for info in model.graph.input}
    named = sorted({dim.dim_param for dims in shapes.values() for dim in dims if dim.dim_param})
    chosen = named if chance.maybe(0.3) else chance.some_of(named)[:1]
    extents = {name: chance.extent() for name in chosen}
    result = {}
    for name, array in values.items():
        if name.startswith(RUN_TIME):
            result[name] = array
            continue
        shape = [extents.get(dim.dim_param, e) for dim, e in zip(shapes[name], array.shape)]
        if array.dtype.kind in "iub" and array.size:  # possibly indices: what is there, repeated
            result[name] = np.resize(array, shape).astype(array.dtype)
        else:
            result[name] = chance.array(array.dtype, shape)
    return result
