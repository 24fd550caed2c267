"""The imported graph under its evaluator against another engine: is the model read as it is meant?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc.errors import UnsupportedError
from dlc.ir.graph import Graph
from dlc.verify.bisection.allowance import Allowance, allowance
from dlc.verify.bisection.report import Culprit, Level
from dlc.verify.bisection.subject import Counted, Subject, run_graph
from dlc.verify.compare import Array, Value
from dlc.verify.engines import Reference, Values
from dlc.verify.result import Verdict
from dlc.verify.verification import judge, widest_input, work_of

if TYPE_CHECKING:
    import onnx


def check_import(
    subject: Subject, proto: onnx.ModelProto, expected: Values, exact: Values, counted: Counted
) -> Culprit | None:
    """Compare the graph as imported with the outputs `expected` of another engine, as `dlc.verify` does.

    `exact` are the outputs in float64, as far as they are known. Where one differs, the ONNX reference's
    intermediate values say which node is the first.
    """
    model = subject.import_model()
    graph, feeds = model.graph, subject.feeds(model)
    results = run_graph(graph, feeds)
    work, widest = work_of(proto), widest_input(proto)
    for index, name in enumerate(model.outputs):
        wanted = expected.get(name)
        if not isinstance(wanted, np.ndarray):
            continue
        counted.count += 1
        actual = results[graph.output_name(index)]
        for result in judge(name, actual, wanted, exact.get(name), work, None, widest):
            if result.verdict is not Verdict.DIFFERS:
                continue
            found = result.difference
            cause = f"the graph as imported gives another output {name}: its import or its evaluator is wrong"
            culprit = Culprit(Level.IMPORT, cause, value=name, difference=found)
            return _first_node(graph, feeds, proto, subject, allowance(graph), counted) or culprit
    return None


def _first_node(
    graph: Graph,
    feeds: dict[str, Array],
    proto: onnx.ModelProto,
    subject: Subject,
    allowed: Allowance,
    counted: Counted,
) -> Culprit | None:
    """The first node whose value differs from the reference's value of the same name."""
    try:
        reference: dict[str, Value] = Reference(proto).intermediates(subject.inputs)
    except UnsupportedError as error:
        counted.notes.append(f"the first wrong node is unknown: {error.message}")
        return None
    values = run_graph(graph, feeds, reference)
    for node in graph.nodes:
        for value in node.outputs:
            expected = reference.get(value.name)
            if value.name not in values or not isinstance(expected, np.ndarray):
                continue
            found = allowed.difference(value.name, values[value.name], expected, [])
            if found is not None:
                cause = f"the value {value.name} of the graph as imported differs from the reference's"
                return Culprit(Level.IMPORT, cause, nodes=node.origin, value=value.name, difference=found)
    return None
