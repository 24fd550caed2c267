"""Pipelines: order, requirements, shortening, checks, dumps and reports."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest

from dlc.errors import InputError, InternalError
from dlc.ir.graph import Graph
from dlc.passes.canonicalize import Canonicalize
from dlc.passes.constant_folding import ConstantFolding
from dlc.passes.cse import CommonSubexpressions
from dlc.passes.dead_code import DeadCode
from dlc.passes.fold_bias import FoldBias
from dlc.passes.manager import Pipeline
from dlc.passes.pass_base import Numerics, Pass, Statistics
from dlc.passes.pipeline import default_pipeline
from dlc.passes.raise_gelu import RaiseGelu
from tests.helpers.passes import body_of, graph_of

TEXT = """
    input %x: f32[3]
    %one = constant f32[] [1.0]
    %a = Binary(fn="mul")(%one, %x) : f32[3] @ "a"
    %b = Unary(fn="exp")(%x) : f32[3] @ "b"
    %y = Unary(fn="neg")(%a) : f32[3] @ "y"
    output y = %y
"""


def test_passes_run_in_order_and_report() -> None:
    graph = graph_of(TEXT)
    report = Pipeline((DeadCode(), Canonicalize())).run(graph, check=True)
    counts = [(step.name, done.nodes_before, done.nodes_after) for step, done, _ in report.steps]
    assert counts == [("dead-code", 3, 2), ("canonicalize", 2, 1)]
    assert str(report).splitlines()[0] == "dead-code: 3 -> 2 nodes; remove 1"
    assert body_of(graph).splitlines() == [
        "input %x: f32[3]", '%y = Unary(fn="neg")(%x) : f32[3] @ "y"', "output y = %y"]


def test_a_pipeline_prints_its_options() -> None:
    pipeline = Pipeline((DeadCode(), ConstantFolding(growth=2), CommonSubexpressions()))
    assert str(pipeline) == "dead-code\nconstant-folding(growth=2)\ncse"


def test_requirements_have_to_be_ensured_before() -> None:
    with pytest.raises(InternalError, match="fold-bias requires CANONICAL"):
        Pipeline((FoldBias(), Canonicalize()))
    Pipeline((Canonicalize(), RaiseGelu(), FoldBias()))


def test_passes_can_be_left_out() -> None:
    pipeline = default_pipeline().without("canonicalize", "raise-gelu")
    assert not {"canonicalize", "raise-gelu"} & {step.name for step in pipeline.passes}
    pipeline.run(graph_of(TEXT), check=True)
    with pytest.raises(InputError, match="there is no pass 'nonsense'"):
        default_pipeline().without("nonsense")


@pytest.mark.parametrize("numerics", list(Numerics))
def test_numerics_can_be_limited(numerics: Numerics) -> None:
    allowed = list(Numerics)[: list(Numerics).index(numerics) + 1]
    steps = default_pipeline().limited(numerics).passes
    assert steps and all(step.numerics in allowed for step in steps)


def test_the_first_level_is_exact_and_level_0_does_nothing() -> None:
    assert all(step.numerics is Numerics.EXACT for step in default_pipeline(1).passes)
    assert not default_pipeline(0).passes


@dataclasses.dataclass(frozen=True)
class Vandal(Pass):
    """A pass that breaks the graph."""

    name: ClassVar[str] = "vandal"
    numerics: ClassVar[Numerics] = Numerics.EXACT

    def apply(self, graph: Graph) -> Statistics:
        graph.nodes.reverse()
        return Statistics()


def test_a_check_names_the_pass_that_broke_the_graph() -> None:
    with pytest.raises(InternalError, match="after pass vandal"):
        Pipeline((DeadCode(), Vandal(), Canonicalize())).run(graph_of(TEXT), check=True)


def test_dumps_go_to_a_function_or_a_folder(tmp_path: Path) -> None:
    seen: dict[str, str] = {}
    pipeline = Pipeline((DeadCode(), Canonicalize()))
    pipeline.run(graph_of(TEXT), dump=seen.__setitem__)
    assert list(seen) == ["00-dead-code", "01-canonicalize"]
    pipeline.run(graph_of(TEXT), dump=tmp_path / "ir")
    assert {path.name: path.read_text() for path in (tmp_path / "ir").iterdir()} \
        == {f"{name}.ir": text for name, text in seen.items()}


def test_output_names_survive_replacement_of_their_values() -> None:
    graph = graph_of("""
        input %x: f32[3]
        %one = constant f32[] [1.0]
        %y = Binary(fn="mul")(%x, %one) : f32[3]
        output y = %y
    """)
    graph.output_names.clear()
    Canonicalize().run(graph)
    assert [graph.output_name(0), graph.outputs[0].name] == ["y", "x"]


def test_declines_reach_the_report() -> None:
    graph = graph_of("""
        input %x: f32[3]
        %one = constant f32[] [1.0]
        %b = Unary(fn="erf")(%x) : f32[3]
        %c = Binary(fn="add")(%b, %one) : f32[3]
        %y = Binary(fn="mul")(%x, %c) : f32[3] @ "gelu"
        output y = %y
    """)
    report = default_pipeline().run(graph)
    (reason,) = {str(decline) for step, decline in report.declines if step.name == "raise-gelu"}
    assert reason == "gelu at gelu: the product has the factor 1.0 instead of 0.5"
