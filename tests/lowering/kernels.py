"""Kernels of single operators, evaluated and compared with the operator's own evaluation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, Guard, Symbol, evaluate as evaluate_dim
from dlc.ir.dtypes import from_numpy
from dlc.ir.graph import Graph, Node, Value
from dlc.ir.operator import Operator, OperatorClass
from dlc.ir.types import TensorType
from dlc.lowering.canonical import canonical_kernel
from dlc.lowering.draft import LoweredKernel, Names
from dlc.lowering.evaluate import evaluate_kernel
from dlc.lowering.parse import parse
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.split import split_nests
from dlc.lowering.text import to_text
from dlc.lowering.verify import verify_kernel
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance

Array: TypeAlias = "np.ndarray[Any, Any]"

_WORK = {
    OperatorClass.POINTWISE: Work.POINTWISE,
    OperatorClass.MOVEMENT: Work.EXACT,
    OperatorClass.REDUCTION: Work.REDUCTION,
    OperatorClass.CONTRACTION: Work.CONTRACTION,
    OperatorClass.NORMALIZATION: Work.NORMALIZATION,
    OperatorClass.RECURRENT: Work.RECURRENT,
    OperatorClass.ROUTINE: Work.POINTWISE,
}


class OneNode:
    """A graph of one node on given arrays; with `symbolic`, extents beyond 1 (or those listed) are symbols
    named after them.
    """

    def __init__(
        self,
        op: Operator,
        arrays: Sequence[Array | None],
        symbolic: bool | Collection[int] = False,
        constants: Collection[int] = (),
    ) -> None:
        self.graph = Graph()
        self.env: dict[str, int] = {}
        self.arrays: dict[Value, Array] = {}
        builder = GraphBuilder(self.graph, origin=("the_node",))
        operands: list[Value | None] = []
        for index, array in enumerate(arrays):
            operands.append(
                None if array is None else self._operand(index, array, symbolic, constants, builder)
            )
        builder.add_all(op, *operands)
        (self.node,) = self.graph.nodes
        self.inputs = list(arrays)

    def _operand(
        self,
        index: int,
        array: Array,
        symbolic: bool | Collection[int],
        constants: Collection[int],
        builder: GraphBuilder,
    ) -> Value:
        if index in constants:
            value = builder.constant(array, f"x{index}")
        else:
            wanted = array.shape if symbolic is True else symbolic or ()
            shape = [self._extent(extent) if extent in wanted else extent for extent in array.shape]
            value = self.graph.add_input(f"x{index}", TensorType(from_numpy(array.dtype), tuple(shape)))
        self.arrays[value] = array
        return value

    def _extent(self, extent: int) -> Dim:
        if extent < 2:
            return extent
        self.env[f"s{extent}"] = extent
        return Symbol(f"s{extent}")

    def expected(self) -> tuple[Array, ...]:
        """The results by the operator's own evaluation."""
        return self.node.op.evaluate(self.inputs, lambda dim: evaluate_dim(dim, self.env))

    def actual(self, parts: Sequence[LoweredKernel], wide: bool = False) -> list[Array]:
        """The results of kernels, one after the other."""
        arrays = dict(self.arrays)
        run_parts(parts, arrays, self.env, wide)
        return [arrays[value] for value in self.node.outputs]


def poisoned(type_: TensorType, env: Mapping[str, int]) -> Array:
    """An array that nothing has been written to: all bits set, which is NaN for floats."""
    shape = [evaluate_dim(extent, env) for extent in type_.shape]
    count = int(np.prod(shape, dtype=np.int64)) * type_.dtype.numpy.itemsize
    return np.full(count, 0xFF, np.uint8).view(type_.dtype.numpy).reshape(shape)


def run_parts(
    parts: Sequence[LoweredKernel], arrays: dict[Value, Array], env: Mapping[str, int], wide: bool = False
) -> None:
    """Evaluate kernels one after the other; `arrays` gains what they write."""
    for part in parts:
        for value in part.values.values():
            if value not in arrays:
                arrays[value] = poisoned(value.tensor, env) if value.data is None else value.data
        evaluate_kernel(part.kernel, {n: arrays[v] for n, v in part.values.items()}, env, wide=wide)


def check_rule(
    op: Operator,
    *arrays: Array | None,
    symbolic: bool = False,
    constants: Collection[int] = (),
    guards: Sequence[Guard] = (),
    work: Work | None = None,
) -> LoweredKernel:
    """Lower one node and compare its kernel with the operator: whole, split into nests, and from text."""
    one = OneNode(op, arrays, symbolic, constants)
    lowered = lower_node(one.node, Names(one.env))
    verify_kernel(lowered.kernel, guards)
    expected = one.expected()
    parts = split_nests(lowered)
    for part in parts:
        verify_kernel(part.kernel, guards)
        canonical = canonical_kernel(part.kernel)
        verify_kernel(canonical, guards)
        assert parse(to_text(canonical)) == canonical
    work = work or _WORK[op.kind]
    for results in (one.actual([lowered]), one.actual(parts)):
        assert_same(results, expected, work)
    return lowered


def assert_same(results: Sequence[Array], expected: Sequence[Array], work: Work) -> None:
    """Results agree within the tolerance of the kind of work."""
    assert len(results) == len(expected)
    for index, (got, want) in enumerate(zip(results, expected)):
        difference = compare_arrays(f"output {index}", got, np.asarray(want), tolerance(want.dtype, work))
        assert difference.agrees, difference


def node_of(op: Operator, *arrays: Array | None) -> Node:
    """A node on constants-free operands, for tests of what is declined."""
    return OneNode(op, arrays).node
