"""Compile the kernels of one graph node, each alone, and run them on arrays of any size its symbols allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dlc.ir.builder import GraphBuilder
from dlc.ir.dims import Dim, Symbol, evaluate
from dlc.ir.dtypes import from_numpy
from dlc.ir.graph import Graph, Value
from dlc.ir.operator import Operator
from dlc.ir.types import TensorType
from dlc.lowering.draft import Names
from dlc.lowering.kernel import Access
from dlc.lowering.rules.registry import lower_node
from dlc.lowering.split import split_nests
from dlc.target import CpuTarget, resolve
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance
from tests.backends.cpu.templates.kernel_runner import CompiledCase

Array = NDArray[Any]

#: This machine and one with 16 vector registers of 256 bits, whose tiles differ.
TARGETS = ("native", "x86-64-v3")
each_target = pytest.mark.parametrize("target", [resolve(name) for name in TARGETS], ids=TARGETS)


class CompiledNode:
    """A node whose operands have the types of `arrays`, compiled; `constants` are known at compile time.

    `symbols` replaces extents: {(operand, axis): name}. Operands that are None are absent.
    """

    def __init__(
        self,
        op: Operator,
        arrays: Sequence[Array | None],
        target: CpuTarget,
        symbols: Mapping[tuple[int, int], str] | None = None,
        constants: Sequence[int] = (),
    ) -> None:
        self.op = op
        self.symbols = dict(symbols or {})
        graph = Graph()
        builder = GraphBuilder(graph, origin=("node",))
        self.operands: list[Value | None] = []
        for number, array in enumerate(arrays):
            if array is None:
                self.operands.append(None)
            elif number in constants:
                self.operands.append(builder.constant(array, f"x{number}"))
            else:
                shape: list[Dim] = list(array.shape)
                for (operand, axis), name in self.symbols.items():
                    if operand == number:
                        shape[axis] = Symbol(name)
                type_ = TensorType(from_numpy(array.dtype), tuple(shape))
                self.operands.append(graph.add_input(f"x{number}", type_))
        builder.add_all(op, *self.operands)
        (self.node,) = graph.nodes
        names = Names(set(self.symbols.values()))
        self.parts = split_nests(lower_node(self.node, names))
        self.cases = [CompiledCase(part.kernel, target) for part in self.parts]

    @property
    def templates(self) -> list[str]:
        """The templates that wrote the kernels."""
        return [case.compiled.template for case in self.cases]

    def run(self, arrays: Sequence[Array | None], backwards: bool = False) -> list[Array]:
        """The results; chunks run in order, or the last one first."""
        env = {
            name: array.shape[axis]
            for (number, axis), name in self.symbols.items()
            if (array := arrays[number]) is not None
        }
        held = {
            value: np.ascontiguousarray(array)
            for value, array in zip(self.operands, arrays)
            if value is not None and array is not None
        }
        for part, case in zip(self.parts, self.cases):
            for param in part.kernel.params:
                value = part.values[param.name]
                if value.data is not None:
                    held[value] = np.ascontiguousarray(value.data)
                if param.access is Access.WRITE and value not in held:
                    shape = [evaluate(extent, env) for extent in value.tensor.shape]
                    held[value] = np.full(shape, 77, value.tensor.dtype.numpy)
            order = range(case.chunks(env))
            case.run(
                {param.name: held[part.values[param.name]] for param in part.kernel.params},
                env,
                reversed(order) if backwards else order,
            )
        return [held[value] for value in self.node.outputs]

    def check(self, arrays: Sequence[Array | None], work: Work) -> list[Array]:
        """The results, after comparing them with the operator's own evaluation."""
        results = self.run(arrays)
        expected = self.op.evaluate(list(arrays), lambda dim: evaluate(dim, {}))
        for index, (got, want) in enumerate(zip(results, expected, strict=True)):
            wanted = np.asarray(want)
            difference = compare_arrays(f"result {index}", got, wanted, tolerance(wanted.dtype, work))
            assert difference.agrees, difference
        return results


def assert_same_bits(left: Sequence[Array], right: Sequence[Array]) -> None:
    """Equal arrays, bit for bit."""
    for one, other in zip(left, right, strict=True):
        assert one.tobytes() == other.tobytes()
