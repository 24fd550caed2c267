"""Single operators compiled to native code, run, and compared with their own evaluation."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from dlc.api.assemble import pack_weights
from dlc.backends.cpu.backend import RED_ZONE, generate
from dlc.ir.dims import Symbol, evaluate as evaluate_dim
from dlc.ir.graph import ShapeSource
from dlc.ir.operator import Operator
from dlc.lowering.lower import lower
from dlc.lowering.program import Host, walk
from dlc.runtime.call import Interface, NativeModel, Site
from dlc.target import native, resolve
from dlc.verify.compare import compare_arrays
from dlc.verify.tolerances import Work, tolerance
from tests.lowering.kernels import _WORK, OneNode, poisoned

Array: TypeAlias = "np.ndarray[Any, Any]"

#: Set to 1, the whole native suite runs with checked accesses, red zones and poisoned memory.
DEBUG = os.environ.get("DLC_TEST_DEBUG_CODEGEN", "0") == "1"

#: Code for the machine at hand, and for one without AVX-512.
TARGETS = [name for name in ("native", "x86-64-v3") if resolve(name).runs_on(native())]


class NativeNode:
    """One operator as native code; with `symbolic`, extents beyond 1 (or those listed) are symbols s<extent>.

    Operands numbered in `constants` are known at compile time. An operator without a kernel is an error.
    """

    def __init__(
        self,
        op: Operator,
        *arrays: Array | None,
        target: str = "native",
        symbolic: bool | Collection[int] = False,
        constants: Collection[int] = (),
        threads: int = 1,
        debug: bool = DEBUG,
    ) -> None:
        self.one = OneNode(op, arrays, symbolic, constants)
        graph = self.one.graph
        for value in graph.inputs:
            for axis, extent in enumerate(value.tensor.shape):
                if isinstance(extent, Symbol):
                    graph.symbols.setdefault(extent, ShapeSource(value.name, axis))
        for output in self.one.node.outputs:
            graph.add_output(output)
        program = lower(graph, red_zone=RED_ZONE if debug else 0)
        hosts = [step.reason for step in walk(program.steps) if isinstance(step, Host)]
        assert not hosts, f"{op} runs on the host: {hosts}"
        code = generate(program, resolve(target), debug=debug)
        self.program = code.program
        block, constants_of = pack_weights(self.program)
        views = [block[c.offset : c.offset + c.size].data for c in constants_of]
        interface = Interface(
            symbols=tuple(symbol.name for symbol in program.symbols),
            inputs=len(program.inputs),
            output_ranks=tuple(len(buffer.type.shape) for buffer in program.outputs),
            run_symbols=len(program.run_symbols),
            kernels=tuple(Site("a step") for _ in walk(program.steps)),
            accesses=code.accesses,
        )
        self.model = NativeModel([code.object], interface, views, threads=threads, poison=True)

    def run(self, arrays: Sequence[Array | None] | None = None) -> list[Array]:
        """The results for the arrays given at first, or for others of the same shapes."""
        graph, env = self.one.graph, self.one.env
        given = dict(zip((f"x{i}" for i in range(len(self.one.inputs))), arrays or self.one.inputs))
        inputs = [np.ascontiguousarray(given[value.name]) for value in graph.inputs]
        results = [poisoned(value.tensor, env) for value in self.one.node.outputs]
        binding = self.model.bind(tuple(env[symbol.name] for symbol in self.program.symbols))
        assert binding.output_shapes == tuple(result.shape for result in results)
        self.model.run(binding, [a.ctypes.data for a in inputs], [r.ctypes.data for r in results])
        return results


def check_native(
    op: Operator,
    *arrays: Array | None,
    symbolic: bool | Collection[int] = False,
    constants: Collection[int] = (),
    work: Work | None = None,
    targets: Sequence[str] = TARGETS,
) -> None:
    """Compile one node for every target, run it, and compare with the operator's evaluation."""
    for target in targets:
        node = NativeNode(op, *arrays, target=target, symbolic=symbolic, constants=constants)
        assert_agrees(node.run(), expected(op, arrays, node.one.env), work or _WORK[op.kind])


def expected(op: Operator, arrays: Sequence[Array | None], env: Mapping[str, int]) -> tuple[Array, ...]:
    """The results by the operator's own evaluation."""
    return op.evaluate(arrays, lambda dim: evaluate_dim(dim, env))


def assert_agrees(results: Sequence[Array], wanted: Sequence[Array], work: Work) -> None:
    """Results agree within the tolerance of the kind of work."""
    assert len(results) == len(wanted)
    for index, (got, want) in enumerate(zip(results, wanted)):
        difference = compare_arrays(f"output {index}", got, np.asarray(want), tolerance(want.dtype, work))
        assert difference.agrees, difference
