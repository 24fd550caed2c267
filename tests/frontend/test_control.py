"""If, Loop and Scan, and what has sizes that only the run tells: imported, and evaluated as graphs."""

from __future__ import annotations

import pytest

from dlc.frontend.onnx.importer import import_model
from dlc.ir.evaluate import evaluate
from dlc.ir.verify import verify
from dlc.passes.pipeline import default_pipeline
from tests.helpers.control_models import Case
from tests.helpers.judged import CASES, assert_judged_right, runs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_graph_means_what_the_model_does(case: Case) -> None:
    model = import_model(case.model())
    verify(model.graph)
    for run in runs(case):
        results = evaluate(model.graph, run.feeds)
        assert_judged_right(run, [results[name] for name in model.outputs])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_passes_keep_the_meaning(case: Case) -> None:
    model = import_model(case.model())
    default_pipeline().run(model.graph, check=True)
    for run in runs(case):
        results = evaluate(model.graph, run.feeds)
        assert_judged_right(run, [results[name] for name in model.outputs])
