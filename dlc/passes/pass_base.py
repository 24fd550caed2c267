"""What a pass is: a frozen dataclass that transforms a graph and accounts for what it did."""
from __future__ import annotations

import abc
import collections
import dataclasses
import enum
from collections.abc import Iterator
from typing import ClassVar

from dlc.ir.graph import Graph, Node
from dlc.ir.text import attribute_text


class Numerics(enum.Enum):
    """How far a pass may change results.

    EXACT: equal under the evaluator (the sign of a zero aside where a rule says so). REASSOCIATES: the same
    real numbers in another order of rounding. APPROXIMATES: another formula, judged against float64.
    """

    EXACT = "exact"
    REASSOCIATES = "reassociates"
    APPROXIMATES = "approximates"


class Property(enum.Enum):
    """What a pass can rely on because earlier ones established it."""

    LIVE = "every node contributes to an output"
    FOLDED = "constant operands are folded as far as the budget goes"
    CANONICAL = "constants stand right, no-ops and double movements are gone"


@dataclasses.dataclass(frozen=True)
class Declined:
    """Where a rule recognised its pattern but did not apply, and why. `nodes` are ONNX names."""

    rule: str
    nodes: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.rule} at {', '.join(self.nodes) or 'an unnamed node'}: {self.reason}"


@dataclasses.dataclass
class Statistics:
    """Rewrites by rule, and declines with their reasons."""

    rewrites: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    declines: list[Declined] = dataclasses.field(default_factory=list)
    nodes_before: int = 0
    nodes_after: int = 0

    @property
    def total(self) -> int:
        """All rewrites."""
        return self.rewrites.total()

    def include(self, other: Statistics) -> None:
        """Add the account of another graph or run."""
        self.rewrites.update(other.rewrites)
        self.declines += other.declines
        self.nodes_before += other.nodes_before
        self.nodes_after += other.nodes_after

    def __str__(self) -> str:
        counts = ", ".join(f"{rule} {count}" for rule, count in sorted(self.rewrites.items()))
        return f"{self.nodes_before} -> {self.nodes_after} nodes; {counts or 'no rewrites'}"


@dataclasses.dataclass(frozen=True)
class Pass(abc.ABC):
    """Base of all passes. Fields of a subclass are its options; class variables its contract.

    `requires` must have been ensured by passes before it; of what held before, only `keeps` still holds after
    it, besides what it `ensures`.
    """

    name: ClassVar[str]
    numerics: ClassVar[Numerics]
    requires: ClassVar[frozenset[Property]] = frozenset()
    ensures: ClassVar[frozenset[Property]] = frozenset()
    keeps: ClassVar[frozenset[Property]] = frozenset()

    def run(self, graph: Graph) -> Statistics:
        """Transform `graph` and the regions of its nodes, innermost first."""
        statistics = Statistics()
        for each in graphs_within(graph):
            freeze_output_names(each)
            before = len(each.nodes)
            part = self.apply(each)
            part.nodes_before, part.nodes_after = before, len(each.nodes)
            statistics.include(part)
        return statistics

    @abc.abstractmethod
    def apply(self, graph: Graph) -> Statistics:
        """Transform one graph, without its regions."""

    def __str__(self) -> str:
        """The name with the options that are not at their default."""
        options = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            default = field.default_factory() if callable(field.default_factory) else field.default
            if value != default:
                options.append(f"{field.name}={_option_text(value)}")
        return f"{self.name}({', '.join(options)})" if options else self.name


def _option_text(value: object) -> str:
    """An option as the IR writes attributes, or as Python does where the IR has no form for it."""
    simple = value is None or isinstance(value, (bool, int, float, str, tuple))
    return attribute_text(value) if simple else repr(value)


def graphs_within(graph: Graph) -> Iterator[Graph]:
    """The regions of all nodes, at any depth, then `graph` itself."""
    for node in graph.nodes:
        for region in node.regions:
            yield from graphs_within(region)
    yield graph


def freeze_output_names(graph: Graph) -> None:
    """Give every output the name that it has now, so that replacing its value does not rename it."""
    graph.output_names = [graph.output_name(index) for index in range(len(graph.outputs))]


def declined(rule: str, node: Node, reason: str) -> Declined:
    """The account of a rule that does not apply at `node`."""
    return Declined(rule, node.origin or tuple(f"%{value.name}" for value in node.outputs), reason)
