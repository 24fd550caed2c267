"""Fusion is rewriting: whatever two kernels compute one after the other, the fused one computes too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from dlc.ir.builder import GraphBuilder
from dlc.ir.dtypes import DType
from dlc.ir.graph import Graph, Value
from dlc.ir.operator import Operator
from dlc.ir.ops.contraction import MatMul
from dlc.ir.ops.convolution import Conv, Pool
from dlc.ir.ops.indexing import Gather, GatherElements
from dlc.ir.ops.movement import Concat, Expand, Pad, Reshape, Slice, Tile, Transpose, Trilu
from dlc.ir.ops.normalization import LayerNorm, Softmax
from dlc.ir.ops.pointwise import Activation, Binary, Cast, Unary, Where
from dlc.ir.ops.reduction import ArgReduce, Cumulative, Reduce
from dlc.ir.types import TensorType
from dlc.lowering.canonical import canonicalize
from dlc.lowering.draft import LoweredKernel, Names
from dlc.lowering.fuse import Declined, append, inline, reads_in_stages, realize, recomputes
from dlc.lowering.kernel import Map, Store
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.split import split_nests
from dlc.lowering.verify import verify_kernel
from dlc.verify.tolerances import Work
from tests.lowering.kernels import assert_same, run_parts

Array: TypeAlias = "np.ndarray[Any, Any]"
#: Makes a node on a value, with what else it needs.
Maker: TypeAlias = "Callable[[GraphBuilder, Value], Value]"


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def plain(op: Operator) -> Maker:
    return lambda builder, value: builder.add(op, value)


def beside(op: Operator, array: Array, first: bool = False) -> Maker:
    """A node with a second operand, a constant; `first`: which comes first."""

    def make(builder: GraphBuilder, value: Value) -> Value:
        other = builder.constant(array)
        return builder.add(op, other, value) if first else builder.add(op, value, other)

    return make


def twice(op: Operator) -> Maker:
    return lambda builder, value: builder.add(op, value, value)


INDICES = np.array([1, 0, -1, 1])

#: Nodes on a tensor of shape [4, 6] that are maps.
MAPS: dict[str, Maker] = {
    "exp": plain(Unary("exp")),
    "relu": plain(Unary("relu")),
    "leaky": plain(Activation("leaky_relu", 0.1)),
    "half": plain(Cast(DType.F16)),
    "row": beside(Binary("add"), random(6, seed=1)),
    "column": beside(Binary("mul"), random(4, 1, seed=2)),
    "square": twice(Binary("mul")),
    "transpose": plain(Transpose((1, 0))),
    "reshape": plain(Reshape((3, 8))),
    "flat": plain(Reshape((24,))),
    "split": plain(Reshape((2, 2, 6))),
    "slice": plain(Slice((1, 5), (3, 3), (1, -2))),
    "pad": plain(Pad((1, 0), (0, 2), "constant")),
    "reflect": plain(Pad((2, 3), (1, 1), "reflect")),
    "tile": plain(Tile((2, 1))),
    "expand": plain(Expand((3, 4, 6))),
    "lower": plain(Trilu(False, 1)),
    "gather": beside(Gather(0), INDICES),
    "columns": beside(Gather(1), INDICES),
    "elements": beside(GatherElements(1), np.array([[0, 1], [1, -1]])),
}

#: More nodes, which read a map's result.
READERS: dict[str, Maker] = {
    **MAPS,
    "sum": lambda b, v: b.add(Reduce("sum", (v.tensor.rank - 1,), False), v),
    "logsumexp": lambda b, v: b.add(Reduce("log_sum_exp", (0,), True), v),
    "argmax": lambda b, v: b.add(ArgReduce("max", 0, False), v),
    "cumsum": lambda b, v: b.add(Cumulative("sum", 0), v),
    "softmax": lambda b, v: b.add(Softmax(v.tensor.rank - 1), v),
    "norm": lambda b, v: b.add(
        LayerNorm(v.tensor.rank - 1, 1e-5), v, b.constant(ones(v), dtype=v.tensor.dtype)
    ),
    "concat": lambda b, v: b.add(Concat(0), v, v),
    "product": lambda b, v: b.add(
        MatMul(), v, b.constant(random(int(ones(v).size), 3, seed=5), dtype=v.tensor.dtype)
    ),
    "where": lambda b, v: b.add(
        Where(), b.constant(np.array(True)), v, b.constant(np.array(2.0), dtype=v.tensor.dtype)
    ),
}


def ones(value: Value) -> Array:
    """Ones for the last axis of a value."""
    return np.ones(value.tensor.static_shape[-1])


class Pair:
    """Two nodes, the second on the result of the first, and their kernels."""

    def __init__(self, first: Maker, second: Maker, array: Array) -> None:
        self.graph = Graph()
        builder = GraphBuilder(self.graph, origin=("node",))
        self.source = self.graph.add_input("x", TensorType(DType.F32, array.shape))
        self.middle = first(builder, self.source)
        self.result = second(builder, self.middle)
        self.arrays: dict[Value, Array] = {self.source: array}
        self.names = Names()
        self.producer, self.consumer = (lower_node(node, self.names) for node in self.graph.nodes)
        self.param = self.names.param(self.middle)

    def run(self, *parts: LoweredKernel) -> Array:
        arrays = dict(self.arrays)
        run_parts(parts, arrays, {})
        return arrays[self.result]

    def check(self, fused: LoweredKernel) -> None:
        """The fused kernel is sound and computes what the two do, split or canonical too."""
        verify_kernel(fused.kernel)
        expected = [self.run(self.producer, self.consumer)]
        work = Work.REDUCTION if expected[0].dtype.kind == "f" else Work.EXACT
        assert_same([self.run(fused)], expected, work)
        assert_same([self.run(*split_nests(fused))], expected, work)
        canonical, params = canonicalize(fused)
        values = {new.name: fused.values[old] for new, old in zip(canonical.params, params, strict=True)}
        assert_same([self.run(LoweredKernel(canonical, values))], expected, work)


def pair(first: str, second: str) -> Pair:
    return Pair(MAPS[first], READERS[second], random(4, 6))


def fits(first: str, second: str) -> bool:
    """Whether the second node takes the first one's result."""
    try:
        pair(first, second)
    except Exception:
        return False
    return True


PAIRS = [(first, second) for first in MAPS for second in READERS if fits(first, second)]


def test_most_pairs_of_nodes_fit() -> None:
    assert len(PAIRS) > 400


@pytest.mark.parametrize("first", MAPS)
def test_inlining_changes_no_value(first: str) -> None:
    done = 0
    for second in [second for left, second in PAIRS if left == first]:
        nodes = pair(first, second)
        fused = inline(nodes.producer, nodes.consumer, nodes.param)
        if isinstance(fused, Declined):
            assert fused.reason in (
                "an index from data meets index arithmetic",
                "an index from data meets a mask",
            ), (first, second)
            continue
        assert nodes.param not in {param.name for param in fused.kernel.params}
        nodes.check(fused)
        done += 1
    assert done >= 10


#: Nodes on a tensor of shape [2, 3, 8, 8] whose kernels end in one store.
ENDS: dict[str, Maker] = {
    "conv": beside(Conv((1, 1), (1, 1), ((1, 1), (1, 1))), random(4, 3, 3, 3, seed=3)),
    "pool": plain(Pool("average", (2, 2), (2, 2), (1, 1), ((0, 0), (0, 0)))),
    "sum": plain(Reduce("sum", (1,), True)),
    "softmax": plain(Softmax(3)),
    "product": beside(MatMul(), random(8, 5, seed=4)),
    "cumsum": plain(Cumulative("sum", 2)),
}

#: Readers that follow, given the rank of 4.
EPILOGUES: dict[str, Maker] = {
    "relu": plain(Unary("relu")),
    "bias": lambda b, v: b.add(Binary("add"), v, b.constant(random(v.tensor.static_shape[1], 1, 1, seed=6))),
    "residual": lambda b, v: b.add(Binary("add"), v, b.constant(random(*v.tensor.static_shape, seed=7))),
    "half": plain(Cast(DType.F16)),
    "transpose": plain(Transpose((0, 2, 3, 1))),
    "flatten": lambda b, v: b.add(Reshape((2, int(np.prod(v.tensor.static_shape[1:])))), v),
    "heads": lambda b, v: b.add(Reshape((2, 1, *v.tensor.static_shape[1:])), v),
    "slice": lambda b, v: b.add(Slice((0, 0, 0, 0), (1, *v.tensor.static_shape[1:]), (1, 1, 1, 1)), v),
    "pad": plain(Pad((0, 0, 1, 1), (0, 0, 1, 1), "constant")),
    "expand": lambda b, v: b.add(Expand((3, *v.tensor.static_shape)), v),
    "twice": twice(Binary("mul")),
}


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", EPILOGUES)
def test_epilogues_change_no_value(first: str, second: str) -> None:
    nodes = Pair(ENDS[first], EPILOGUES[second], random(2, 3, 8, 8))
    fused = append(nodes.producer, nodes.consumer, nodes.param)
    if isinstance(fused, Declined):
        assert second in ("slice", "pad", "expand", "twice", "flatten") or first == "cumsum"
        return
    assert second not in ("slice", "pad", "expand")
    nodes.check(fused)


def test_an_axis_of_one_element_stays_the_producers() -> None:
    """The store keeps the convolution's axes, by which templates know it, although the load reads at 0."""
    conv = beside(Conv((1, 1), (1, 1), ((0, 0), (0, 0))), random(1, 3, 1, 1, seed=3))
    nodes = Pair(conv, EPILOGUES["residual"], random(2, 3, 1, 5))
    fused = append(nodes.producer, nodes.consumer, nodes.param)
    assert not isinstance(fused, Declined)
    nodes.check(fused)
    store = fused.kernel.body[-1]
    assert isinstance(store, Store)
    assert [str(entry) for entry in store.index] == list(store.axes)


def test_an_epilogue_needs_every_element() -> None:
    nodes = Pair(ENDS["sum"], EPILOGUES["slice"], random(2, 3, 8, 8))
    declined = append(nodes.producer, nodes.consumer, nodes.param)
    assert isinstance(declined, Declined) and declined.reason == "the reader leaves out elements"


def test_a_row_that_several_stages_read_is_computed_once() -> None:
    nodes = Pair(plain(Unary("exp")), READERS["softmax"], random(4, 6))
    assert reads_in_stages(nodes.consumer.kernel, nodes.param) == 2
    whole = realize(nodes.consumer, nodes.param, "row")
    verify_kernel(whole.kernel)
    first = whole.kernel.body[0]
    assert isinstance(first, Map) and first.out.name == "row"
    assert reads_in_stages(whole.kernel, nodes.param) == 1
    fused = inline(nodes.producer, whole, nodes.param)
    assert not isinstance(fused, Declined)
    nodes.check(fused)


@pytest.mark.parametrize(
    ("second", "repeated"),
    [
        *(("exp", False), ("transpose", False), ("reshape", False), ("split", False), ("sum", False)),
        *(("square", False), ("pad", False), ("slice", False), ("concat", False)),
        *(("expand", True), ("tile", True), ("product", True), ("reflect", True), ("gather", True)),
    ],
)
def test_what_a_reader_would_compute_again(second: str, repeated: bool) -> None:
    nodes = pair("exp", second)
    assert recomputes(nodes.consumer.kernel, nodes.param) == repeated


@given(st.lists(st.sampled_from(sorted(MAPS)), min_size=2, max_size=5), st.sampled_from(sorted(READERS)))
@settings(max_examples=60, deadline=None)
def test_chains_of_maps_become_one_kernel(maps: list[str], last: str) -> None:
    graph = Graph()
    builder = GraphBuilder(graph, origin=("node",))
    value = graph.add_input("x", TensorType(DType.F32, (4, 6)))
    arrays: dict[Value, Array] = {value: random(4, 6)}
    values = [value]
    for name in [*maps, last]:
        try:
            values.append((MAPS if len(values) <= len(maps) else READERS)[name](builder, values[-1]))
        except Exception:
            return
    names = Names()
    parts = [lower_node(node, names) for node in graph.nodes]
    fused = parts[-1]
    for part, value in reversed(list(zip(parts[:-1], values[1:-1], strict=True))):
        result = inline(part, fused, names.param(value))
        if isinstance(result, Declined):
            return
        fused = result
    verify_kernel(fused.kernel)
    separate, together = dict(arrays), dict(arrays)
    run_parts(parts, separate, {})
    run_parts([fused], together, {})
    work = Work.MODEL if separate[values[-1]].dtype.kind == "f" else Work.EXACT
    with np.errstate(all="ignore"):
        assert_same([together[values[-1]]], [separate[values[-1]]], work)
