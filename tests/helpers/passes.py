"""Passes on graphs written as text: golden text after them, and the same results under the evaluator."""
from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from dlc.ir.dims import evaluate as evaluate_dim, free_symbols
from dlc.ir.dtypes import DType
from dlc.ir.evaluate import evaluate
from dlc.ir.graph import Graph
from dlc.ir.parse import parse
from dlc.ir.text import to_text
from dlc.ir.types import type_dims
from dlc.ir.verify import verify
from dlc.passes.pass_base import Numerics, Pass, Statistics

Array: TypeAlias = "np.ndarray[Any, Any]"

#: (relative, absolute) agreement of a pass that is not EXACT, by element type.
TOLERANCES = {DType.F64: (1e-12, 1e-12), DType.F32: (1e-5, 1e-5), DType.F16: (4e-3, 4e-3),
              DType.BF16: (3e-2, 3e-2)}


def graph_of(body: str) -> Graph:
    """The graph of these statements."""
    lines = textwrap.indent(textwrap.dedent(body).strip(), "  ")
    graph = parse(f"graph main {{\n{lines}\n}}\n")
    verify(graph)
    return graph


def body_of(graph: Graph) -> str:
    """The statements of a graph."""
    return textwrap.dedent("\n".join(to_text(graph).splitlines()[1:-1]))


def random_feeds(graph: Graph, seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
    """Arrays for the inputs of `graph`; each symbol is a number from 2 on, or what `sizes` says."""
    rng = np.random.default_rng(seed)
    dims = [dim for value in graph.inputs for dim in type_dims(value.type)]
    symbols = sorted({symbol.name for dim in dims for symbol in free_symbols(dim)})
    env = {name: index + 2 for index, name in enumerate(symbols)} | dict(sizes or {})
    feeds = {}
    for value in graph.inputs:
        shape = tuple(evaluate_dim(dim, env) for dim in value.tensor.shape)
        dtype = value.tensor.dtype
        if dtype is DType.BOOL:
            feeds[value.name] = rng.random(shape) < 0.6
        elif dtype.is_integer:
            feeds[value.name] = rng.integers(0, 3, shape).astype(dtype.numpy)
        else:
            feeds[value.name] = rng.standard_normal(shape).astype(dtype.numpy)
    return feeds


def assert_same_results(step: Pass, before: Mapping[str, Array], after: Mapping[str, Array],
                        dtypes: Mapping[str, DType]) -> None:
    """Equal results within what the pass declares."""
    assert before.keys() == after.keys()
    for name, expected in before.items():
        got = after[name]
        assert got.shape == expected.shape and got.dtype == expected.dtype
        if step.numerics is Numerics.EXACT or not dtypes[name].is_float:
            np.testing.assert_array_equal(got, expected)
        else:
            relative, absolute = TOLERANCES[dtypes[name]]
            wide = [array.astype(np.float64) for array in (got, expected)]
            np.testing.assert_allclose(*wide, relative, absolute)


def check_pass(step: Pass, before: str, after: str, feeds: Mapping[str, Array] | None = None,
               sizes: Mapping[str, int] | None = None) -> Statistics:
    """Run `step` on the graph `before`: its text becomes `after`, and it computes the same."""
    graph = graph_of(before)
    results = run_and_compare(step, graph, feeds, sizes)
    assert body_of(graph) == body_of(graph_of(after))
    return results


def check_unchanged(step: Pass, before: str, reason: str | None = None) -> None:
    """`step` leaves the graph as it is; with `reason` it says so, else it says nothing."""
    graph = graph_of(before)
    statistics = step.run(graph)
    assert body_of(graph) == body_of(graph_of(before))
    assert not statistics.total
    if reason is None:
        assert not statistics.declines, statistics.declines
    else:
        assert any(reason in str(decline) for decline in statistics.declines), statistics.declines


def run_and_compare(step: Pass, graph: Graph, feeds: Mapping[str, Array] | None = None,
                    sizes: Mapping[str, int] | None = None) -> Statistics:
    """Run `step` on `graph`, verify the graph, and compare its results before and after."""
    given = random_feeds(graph, sizes=sizes) | dict(feeds or {})
    with np.errstate(all="ignore"):
        expected = evaluate(graph, given)
        statistics = step.run(graph)
        verify(graph)
        got = evaluate(graph, given)
    names = {graph.output_name(index): value.tensor.dtype for index, value in enumerate(graph.outputs)}
    assert_same_results(step, {name: expected[name] for name in names}, {name: got[name] for name in names},
                        names)
    return statistics
