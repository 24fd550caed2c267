"""The meaning of a graph: run it in NumPy, node by node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dlc.errors import InputError, LimitError, ShapeError, printable
from dlc.ir.dims import Dim, Guard, evaluate as evaluate_dim, free_symbols, to_text
from dlc.ir.graph import ElementSource, ExtentSource, Graph, Node, ShapeSource, Value
from dlc.ir.operator import Array
from dlc.ir.ops.control import If, Loop
from dlc.ir.types import TensorType
from dlc.limits import Limits


def evaluate(
    graph: Graph, feeds: Mapping[str, Array], keep: Iterable[str] = (), limits: Limits | None = None
) -> dict[str, Array]:
    """The outputs of `graph` for `feeds` (by input name), by name; and the values named in `keep`.

    Values are arrays, but for sequences, which are lists of arrays, and optionals, which may be None.
    An output stands under its own name and under that of its value. Raises InputError for an input that is
    missing or whose shape does not fit, or when a guard fails, LimitError for a loop that runs too long, and
    what the operators raise.
    """
    return _Run(graph, feeds, {}, limits or Limits()).outputs(frozenset(keep))


def bind_symbols(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, int]:
    """The numbers of the symbols that the inputs decide, by their extents and, if they are integers, their
    elements.

    Raises InputError when an array contradicts its declared shape or a guard fails.
    """
    return _Run(graph, feeds, {}, Limits()).env


class _Run:
    """One evaluation: the numbers of symbols and the arrays of values so far.

    `outer` are the numbers of the symbols of the graphs around.
    """

    def __init__(
        self, graph: Graph, feeds: Mapping[str, Array], outer: Mapping[str, int], limits: Limits
    ) -> None:
        self.graph = graph
        self.env: dict[str, int] = dict(outer)
        self.limits = limits
        self.arrays: dict[Value, Array] = {}
        self.guards = list(graph.guards)
        #: Name of a value -> symbols that are bound once it is there, with their sources.
        self.sources: dict[str, list[tuple[str, ElementSource | ExtentSource]]] = {}
        for symbol, source in graph.symbols.items():
            if not isinstance(source, ShapeSource):
                self.sources.setdefault(source.value, []).append((symbol.name, source))
        self._bind_inputs(feeds)

    def _bind_inputs(self, feeds: Mapping[str, Array]) -> None:
        for value in self.graph.inputs:
            if value.name not in feeds:
                raise InputError(f"input '{printable(value.name)}' is missing", code="input/name")
            self.arrays[value] = feeds[value.name]
            if isinstance(value.type, TensorType) and feeds[value.name].ndim != value.type.rank:
                raise _unfit(value, feeds[value.name].shape, value.type.shape)
        for symbol, source in self.graph.symbols.items():
            if isinstance(source, ShapeSource):
                self.env[symbol.name] = feeds[source.value].shape[source.axis]
        for value in self.graph.inputs:
            if isinstance(value.type, TensorType):
                wanted = tuple(map(self.number, value.type.shape))
                if feeds[value.name].shape != wanted:
                    raise _unfit(value, feeds[value.name].shape, wanted)
        for value in self.graph.inputs:
            self._bind(value)
        self._check_guards()

    def number(self, dim: Dim) -> int:
        """The value of a dim; its symbols are bound."""
        return evaluate_dim(dim, self.env)

    def outputs(self, keep: frozenset[str] = frozenset()) -> dict[str, Array]:
        """Evaluate the nodes; the outputs, and the values named in `keep`, by name."""
        graph = self.graph
        wanted = {value for value in graph.values() if value.name in keep} | set(graph.outputs)
        self._run_nodes(wanted)
        results = {value.name: self._array(value) for value in wanted}
        return results | {
            graph.output_name(index): self._array(value) for index, value in enumerate(graph.outputs)
        }

    def results(self) -> list[Array]:
        """Evaluate the nodes; the outputs in order."""
        self._run_nodes(set(self.graph.outputs))
        return [self._array(value) for value in self.graph.outputs]

    def _run_nodes(self, wanted: set[Value]) -> None:
        remaining = {value: len(value.uses) for node in self.graph.nodes for value in node.operands}
        for node in self.graph.nodes:
            operands = [None if value is None else self._array(value) for value in node.inputs]
            for value, result in zip(node.outputs, self._evaluate(node, operands), strict=True):
                self.arrays[value] = result
                if self._bind(value):
                    self._check_guards()
            for value in dict.fromkeys(node.operands):
                remaining[value] -= 1
                if not remaining[value] and value not in wanted:
                    self.arrays.pop(value, None)

    def _array(self, value: Value) -> Array:
        return self.arrays[value] if value.data is None else value.data

    def _evaluate(self, node: Node, operands: Sequence[Array | None]) -> Sequence[Array]:
        match node.op:
            case If():
                condition, *captures = operands
                assert condition is not None
                return self._region(node.regions[0 if condition.item() else 1], captures)
            case Loop() as loop:
                return self._loop(node, loop, operands)
        return node.op.evaluate(operands, self.number)

    def _region(self, region: Graph, operands: Sequence[Array | None]) -> list[Array]:
        """The outputs of a region for its inputs, in order; None is an optional without a value."""
        feeds: dict[str, Any] = {v.name: x for v, x in zip(region.inputs, operands, strict=True)}
        return _Run(region, feeds, self.env, self.limits).results()

    def _loop(self, node: Node, loop: Loop, operands: Sequence[Array | None]) -> list[Array]:
        (body,) = node.regions
        trip = None if loop.trip is None else self.number(loop.trip)
        goes_on = operands[0] is None or bool(operands[0].item())
        carried = list(operands[1 : 1 + loop.carried])
        captures = operands[1 + loop.carried :]
        rows: list[list[Array]] = [[] for _ in range(loop.stacked)]
        iteration = 0
        while goes_on and (trip is None or iteration < trip):
            if iteration == self.limits.loop_iterations:
                raise LimitError(
                    f"a loop runs more than {iteration:,} times",
                    node=", ".join(node.origin) or None,
                    hint="if the model is trusted, raise dlc.Limits(loop_iterations=...)",
                )
            inputs = [np.array(iteration, np.int64), *carried, *captures]
            condition, *results = self._region(body, inputs)
            carried = list(results[: loop.carried])
            for row, element in zip(rows, results[loop.carried :], strict=True):
                row.append(element)
            goes_on = bool(condition.item())
            iteration += 1
        stacked = [
            np.stack(row) if row else self._no_elements(value)
            for row, value in zip(rows, node.outputs[loop.carried :], strict=True)
        ]
        return [*carried, *stacked]  # type: ignore[list-item]  # None: an optional without a value

    def _no_elements(self, value: Value) -> Array:
        """The stack of no elements; an extent that only an element would tell is 0."""
        extents = [
            self.number(dim) if all(symbol.name in self.env for symbol in free_symbols(dim)) else 0
            for dim in value.tensor.shape[1:]
        ]
        return np.empty((0, *extents), value.tensor.dtype.numpy)

    def _bind(self, value: Value) -> bool:
        """Bind the symbols that `value` decides; whether there are any."""
        sources = self.sources.get(value.name, ())
        for name, source in sources:
            array = self.arrays[value]
            match source:
                case ElementSource(_, index):
                    self.env[name] = int(array.reshape(-1)[index])
                case ExtentSource(_, axis):
                    self.env[name] = array.shape[axis]
        return bool(sources)

    def _check_guards(self) -> None:
        """Check the guards whose symbols are all bound by now; each is checked once."""
        waiting: list[Guard] = []
        for guard in self.guards:
            if not all(symbol.name in self.env for symbol in guard.free_symbols()):
                waiting.append(guard)
            elif not guard.holds(self.env):
                raise InputError(guard.message, node=guard.origin or None, code="input/shape")
        self.guards = waiting


def _unfit(value: Value, shape: tuple[int, ...], wanted: tuple[Dim, ...]) -> InputError:
    return ShapeError(
        f"input '{printable(value.name)}' has shape {list(shape)}, but "
        f"[{', '.join(map(to_text, wanted))}] is needed"
    )
