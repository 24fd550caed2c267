"""Single operators as GPU functions, run under Triton's interpreter, and compared with their evaluation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import numpy as np

from dlc.backends.triton.backend import GpuProgram, HostKernel, generate
from dlc.backends.triton.emulate import emulate_program
from dlc.ir.dims import Symbol, evaluate as evaluate_dim
from dlc.ir.graph import Graph, ShapeSource
from dlc.ir.operator import Operator
from dlc.lowering.lower import lower
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance
from tests.lowering.kernels import _WORK, OneNode

Array: TypeAlias = "np.ndarray[Any, Any]"


def gpu_program(graph: Graph, hosts: bool = False) -> GpuProgram:
    """The functions of a graph; without `hosts`, a kernel that no template takes is an error."""
    for value in graph.inputs:
        for axis, extent in enumerate(value.tensor.shape):
            if isinstance(extent, Symbol):
                graph.symbols.setdefault(extent, ShapeSource(value.name, axis))
    code = generate(lower(graph))
    reasons = [kernel.reason for kernel in code.kernels if isinstance(kernel, HostKernel)]
    assert hosts or not reasons, reasons
    return code


def templates(code: GpuProgram) -> list[str]:
    """The templates of a program's calls, in order."""
    return [
        call.template
        for kernel in code.kernels
        if not isinstance(kernel, HostKernel)
        for call in kernel.calls
    ]


class GpuNode:
    """One operator as GPU functions; with `symbolic`, extents beyond 1 (or those listed) are symbols.

    Operands numbered in `constants` are known at compile time. An operator that no template takes is an
    error.
    """

    def __init__(
        self,
        op: Operator,
        *arrays: Array | None,
        symbolic: bool | Collection[int] = False,
        constants: Collection[int] = (),
    ) -> None:
        self.op = op
        self.one = OneNode(op, arrays, symbolic, constants)
        graph = self.one.graph
        for output in self.one.node.outputs:
            graph.add_output(output)
        self.code = gpu_program(graph)

    @property
    def templates(self) -> list[str]:
        """The templates of the calls, in order."""
        return templates(self.code)

    def run(self, arrays: Sequence[Array | None] | None = None) -> list[Array]:
        """The results for the arrays given at first, or for others that fit."""
        given = dict(zip((f"x{i}" for i in range(len(self.one.inputs))), arrays or self.one.inputs))
        return emulate_program(self.code, [given[value.name] for value in self.one.graph.inputs])

    def expected(self, arrays: Sequence[Array | None] | None = None) -> tuple[Array, ...]:
        """What the operator's own evaluation gives for arrays of the shapes given at first."""
        return self.op.evaluate(arrays or self.one.inputs, lambda dim: evaluate_dim(dim, self.one.env))


def check_gpu(
    op: Operator,
    *arrays: Array | None,
    symbolic: bool | Collection[int] = False,
    constants: Collection[int] = (),
    work: Work | None = None,
    template: str | None = None,
) -> GpuNode:
    """Generate the functions of one node, interpret them, and compare with the operator's evaluation.

    `template` is the only one that is to be used.
    """
    node = GpuNode(op, *arrays, symbolic=symbolic, constants=constants)
    if template is not None:
        assert set(node.templates) <= {template}, node.templates
    assert_agrees(node.run(), node.expected(), work or _WORK[op.kind])
    return node


def assert_agrees(results: Sequence[Array], wanted: Sequence[Array], work: Work) -> None:
    """Results agree within the tolerance of the kind of work."""
    assert len(results) == len(wanted)
    for index, (got, want) in enumerate(zip(results, wanted)):
        want = np.asarray(want)
        assert got.shape == want.shape and got.dtype == want.dtype
        difference = compare_arrays(f"output {index}", got, want, tolerance(want.dtype, work))
        assert difference.agrees, difference
