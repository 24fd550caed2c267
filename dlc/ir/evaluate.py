"""The meaning of a graph: run it in NumPy, node by node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dlc.errors import InputError, ShapeError, printable
from dlc.ir.dims import Dim, Guard, evaluate as evaluate_dim, to_text
from dlc.ir.graph import ElementSource, Graph, ShapeSource, Value
from dlc.ir.operator import Array
from dlc.ir.types import TensorType


def evaluate(graph: Graph, feeds: Mapping[str, Array], keep: Iterable[str] = ()) -> dict[str, Array]:
    """The outputs of `graph` for `feeds` (by input name), by name; and the values named in `keep`.

    An output stands under its own name and under that of its value. Raises InputError for an input that is
    missing or whose shape does not fit, or when a guard fails, and what the operators raise.
    """
    return _Run(graph, feeds).outputs(frozenset(keep))


def bind_symbols(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, int]:
    """The numbers of the symbols that the inputs decide, by their extents and, if they are integers, their
    elements.

    Raises InputError when an array contradicts its declared shape or a guard fails.
    """
    return _Run(graph, feeds).env


class _Run:
    """One evaluation: the numbers of symbols and the arrays of values so far."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Array]) -> None:
        self.graph = graph
        self.env: dict[str, int] = {}
        self.arrays: dict[Value, Array] = {}
        self.guards = list(graph.guards)
        #: Name of a value -> (symbol, flat position) of its elements that symbols stand for.
        self.elements: dict[str, list[tuple[str, int]]] = {}
        for symbol, source in graph.symbols.items():
            if isinstance(source, ElementSource):
                self.elements.setdefault(source.value, []).append((symbol.name, source.index))
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
            self._bind_elements(value)
        self._check_guards()

    def number(self, dim: Dim) -> int:
        """The value of a dim; its symbols are bound."""
        return evaluate_dim(dim, self.env)

    def outputs(self, keep: frozenset[str]) -> dict[str, Array]:
        """Evaluate the nodes; the outputs, and the values named in `keep`, by name."""
        graph = self.graph
        wanted = {value for value in graph.values() if value.name in keep} | set(graph.outputs)
        remaining = {value: len(value.uses) for node in graph.nodes for value in node.operands}
        for node in graph.nodes:
            operands = [None if value is None else self._array(value) for value in node.inputs]
            for value, result in zip(node.outputs, node.op.evaluate(operands, self.number), strict=True):
                self.arrays[value] = result
                if self._bind_elements(value):
                    self._check_guards()
            for value in dict.fromkeys(node.operands):
                remaining[value] -= 1
                if not remaining[value] and value not in wanted:
                    self.arrays.pop(value, None)
        results = {value.name: self._array(value) for value in wanted}
        return results | {
            graph.output_name(index): self._array(value) for index, value in enumerate(graph.outputs)
        }

    def _array(self, value: Value) -> Array:
        return self.arrays[value] if value.data is None else value.data

    def _bind_elements(self, value: Value) -> bool:
        """Bind the symbols that stand for elements of `value`; whether there are any."""
        elements = self.elements.get(value.name, ())
        for name, index in elements:
            self.env[name] = int(self.arrays[value].reshape(-1)[index])
        return bool(elements)

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
