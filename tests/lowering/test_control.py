"""Programs with branches, loops and sizes of the run: evaluated on bytes, their memory plans replayed."""

from __future__ import annotations

import pytest

from dlc.frontend.onnx.importer import import_model
from dlc.ir.graph import ElementSource
from dlc.lowering.lower import lower
from dlc.lowering.program_evaluate import evaluate_program
from dlc.lowering.verify_program import verify_program
from dlc.passes.pipeline import default_pipeline
from tests.helpers.control_models import Case
from tests.helpers.judged import CASES, assert_judged_right, runs


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_program_means_what_the_model_does(case: Case, level: int) -> None:
    model = import_model(case.model())
    default_pipeline(level).run(model.graph)
    program = lower(model.graph)
    assert not verify_program(program)
    names = {value.name: spec.name for value, spec in zip(model.graph.inputs, model.inputs, strict=True)}
    for run in runs(case):
        numbers = {}
        for symbol in program.symbols:
            source = model.graph.symbols[symbol]
            if isinstance(source, ElementSource):
                numbers[symbol.name] = int(run.feeds[names[source.value]].reshape(-1)[source.index])
        inputs = [run.feeds[spec.name] for spec in model.inputs]
        assert_judged_right(run, evaluate_program(program, inputs, numbers))
